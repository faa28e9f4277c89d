"""What a command prints: the answer on stdout, in the form asked for; everything else on stderr.

``-o json`` is a stable envelope: ``{schema_version, status, data | error: {code, message, hint}}``. Where
there is an answer and yet the command failed (a job it waited for did), ``data`` stands beside ``error``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, TextIO

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from secure_train.cli.errors import CliError

SCHEMA_VERSION = 1


class Format(StrEnum):
    """The forms of an answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format, typer.Option("--output", "-o", help="Form of the answer on stdout.")]


PIPE_WIDTH = 4096
"""Columns where there is no terminal: nothing is folded for a program that reads it."""


def console() -> Console:
    """Return the console of answers."""
    return _console(sys.stdout)


def diagnostics() -> Console:
    """Return the console of everything that is not the answer."""
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    return Console(file=file, highlight=False, width=None if file.isatty() else PIPE_WIDTH)


def plain(value: Any) -> Any:
    """Turn messages into JSON values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def envelope(data: Any) -> dict[str, Any]:
    """Wrap an answer."""
    return {"schema_version": SCHEMA_VERSION, "status": "ok", "data": plain(data)}


def error_envelope(
    code: str, message: str, hint: str, *, data: Any = None, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Wrap an error; ``data`` is the answer as far as there is one, ``more`` further fields of the error."""
    error = {"code": code, "message": message, "hint": hint, **plain(dict(more or {}))}
    answer = {} if data is None else {"data": plain(data)}
    return {"schema_version": SCHEMA_VERSION, "status": "error", **answer, "error": error}


def write(wrapped: Mapping[str, Any], output: Format) -> None:
    """Write an envelope to stdout as JSON or YAML."""
    if output is Format.JSON:
        sys.stdout.write(json.dumps(wrapped, indent=2, ensure_ascii=False) + "\n")
        return
    import yaml

    sys.stdout.write(yaml.safe_dump(dict(wrapped), sort_keys=False, allow_unicode=True))


def show(
    data: Any, output: Format, table: Callable[[Console], None], *, failure: CliError | None = None
) -> None:
    """Print an answer: the envelope as JSON or YAML, or whatever ``table`` prints for people.

    With ``failure``, the answer is printed or put beside the error in the envelope, and the error is raised.
    """
    if output is Format.TABLE:
        table(console())
    elif failure is None:
        write(envelope(data), output)
    if failure is not None:
        failure.data = data
        raise failure


def requested_format(arguments: Sequence[str]) -> Format:
    """Read the form asked for from the command line: errors keep to it even if parsing got no further."""
    given = ""
    for flag, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag in {"-o", "--output"}:
            given = following
        elif flag.startswith("--output="):
            given = flag.removeprefix("--output=")
        elif flag.startswith("-o"):
            given = flag.removeprefix("-o")
    return Format(given) if given in set(Format) else Format.TABLE


def show_error(
    code: str,
    message: str,
    hint: str,
    output: Format,
    *,
    to: Console,
    data: Any = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Print an error: as an envelope on stdout if one was asked for, else for people on ``to``."""
    if output is not Format.TABLE:
        write(error_envelope(code, message, hint, data=data, more=more), output)
        return
    to.print("[bold red]error:[/] ", end="")
    to.print(message, markup=False)
    if hint:
        to.print("[bold]hint:[/] ", end="")
        to.print(hint, markup=False)


def rows(
    title: str, columns: Sequence[str], lines: Sequence[Sequence[object]], empty: str, *, lead: int = 1
) -> Callable[[Console], None]:
    """Return a printer of a table; ``empty`` says what to do when there is nothing.

    Where the terminal is too narrow for the table, each line becomes a block that begins with its ``lead``
    first cells: an id that is broken over lines can be neither read nor copied.
    """

    def print_table(to: Console) -> None:
        if not lines:
            note(empty)
            return
        cells = [["" if cell is None else str(cell) for cell in line] for line in lines]
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, no_wrap=True)
        for line in cells:
            table.add_row(*map(Text, line))
        if to.measure(table, options=to.options.update(max_width=PIPE_WIDTH)).maximum <= to.width:
            to.print(table)
        else:
            _print_blocks(title, columns, cells, lead, to)

    return print_table


def _print_blocks(
    title: str, columns: Sequence[str], lines: Sequence[Sequence[str]], lead: int, to: Console
) -> None:
    if title:
        to.print(Text(title, style="italic"))
    for line in lines:
        to.print(Text("  ".join(line[:lead]), style="bold"), soft_wrap=True)
        taken = 0
        for column, cell in zip(columns[lead:], line[lead:], strict=True):
            if not cell:
                continue
            length = len(column) + len(cell) + 3
            if taken and taken + length > to.width:
                to.print()
                taken = 0
            to.print(Text.assemble("  ", (column, "dim"), " ", cell), end="", soft_wrap=True)
            taken += length
        to.print()


def note_more(found: Sequence[object], limit: int, how: str) -> None:
    """Say, below a list, that there is more and how to see it; ``found`` has more than ``limit`` then."""
    if len(found) > limit:
        note(f"there are more than these {limit}: {how}")


def facts(pairs: Sequence[tuple[str, object]], to: Console) -> None:
    """Print names and values in two columns; a long value goes on below itself."""
    indent = max((len(name) for name, _ in pairs), default=0) + 2
    for name, value in pairs:
        wrapped = Text(str(value)).wrap(to, max(to.width - indent, 20))
        for number, line in enumerate(wrapped):
            line.rstrip()
            to.print(Text(("" if number else name).ljust(indent)) + line, soft_wrap=True)


def program() -> str:
    """Return what to type to run this program: its name, or its path where the shell would not find it."""
    return "secure-train" if shutil.which("secure-train") else sys.argv[0]


def note(text: str) -> None:
    """Say something to the person, beside the answer."""
    diagnostics().print(text, markup=False)
