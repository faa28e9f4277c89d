"""The entry point: errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from secure_train.cli.errors import CliError, ExitCode
from secure_train.cli.groups import CommandTree
from secure_train.cli.output import diagnostics, requested_format, show_error

app = typer.Typer(
    name="secure-train",
    cls=CommandTree,
    help="Train models on data you must not expose.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


@app.callback()
def _root() -> None:
    """Train models on data you must not expose."""


def main() -> None:
    """Run the command line and exit with the contract's code."""
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our answer has read enough; the interpreter must not complain when it flushes again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except typer.Abort:
        _fail(CliError("stopped"), code="aborted")
    except typer.TyperException as error:
        _fail_usage(error)
    except CliError as error:
        _fail(error)
    except Exception as error:
        translated = _translated(error)
        if translated is None:
            raise
        _fail(translated[0], **translated[1])
    else:
        sys.exit(status if isinstance(status, int) else ExitCode.OK)


def _translated(error: Exception) -> tuple[CliError, dict[str, Any]] | None:
    """Turn an error of a package below into one of the command line; None for a defect of ours."""
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        return CliError(f"{place}{error.strerror or error}"), {"code": "system"}
    # The packages are imported here so that a command that needs none of them starts quickly.
    from secure_train.cli.failures import translate

    return translate(error)


def _fail_usage(error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if not message:
        # Help has been printed, since the command was called without anything.
        sys.exit(error.exit_code)
    hint = "" if context is None else f"{context.command_path} --help tells how to call it"
    show_error("usage", message, hint, requested_format(sys.argv[1:]), to=diagnostics())
    sys.exit(error.exit_code)


def _fail(error: CliError, *, code: str | None = None, **more: Any) -> None:
    output = requested_format(sys.argv[1:])
    show_error(
        code or error.code, str(error), error.hint, output, to=diagnostics(), data=error.data, more=more
    )
    sys.exit(error.exit_code)
