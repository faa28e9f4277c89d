"""A YAML text as plain data that remembers where each value stood.

Only the part of YAML that JSON has: mappings with text keys, lists and scalars; one document; no anchors,
aliases, tags or repeated keys. The text is read event by event, so that hostile input (deep nesting,
"billion laughs") is refused before it costs memory or stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import yaml

from secure_train.spec.errors import SpecError, SpecErrors
from secure_train.spec.scalars import resolve

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mark:
    """Where something was written: a place in the text (from 1), or a `--set` argument."""

    line: int | None = None
    column: int | None = None
    override: str | None = None


@dataclass
class Document:
    """Plain data with the origin of its keys and values, and what is wrong with its form.

    `unreadable` are the paths of values that could not be read; the data holds None there.
    """

    source: str
    data: object = None
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)
    problems: list[SpecError] = field(default_factory=list)
    unreadable: set[Path] = field(default_factory=set)

    def locate(self, path: Path, *, key: bool = False) -> Mark:
        """Where the value (or key) at `path` stands; for an absent one, where its nearest parent does."""
        if not key and path in self.values:
            return self.values[path]
        while path and path not in self.keys and path not in self.values:
            path = path[:-1]
        return self.keys.get(path) or self.values.get(path) or Mark()


def dotted(path: Path) -> str:
    """`("columns", 3, "lower")` as `columns.3.lower`."""
    return ".".join(map(str, path))


def decode(raw: bytes, source: str) -> str:
    """The text of a file. Raises SpecErrors where it is too large or not UTF-8."""
    if len(raw) > MAX_BYTES:
        raise SpecErrors([too_large()], source)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        problem = SpecError(
            path="",
            message="is not UTF-8 text",
            line=line,
            column=column,
            given=f"byte 0x{raw[error.start]:02x}",
            allowed="UTF-8",
            hint="save the file in UTF-8 encoding",
        )
        raise SpecErrors([problem], source) from error


def too_large() -> SpecError:
    """The error for a text beyond the size limit."""
    return SpecError(
        path="",
        message="is too large to be a specification",
        allowed=f"at most {MAX_BYTES:,} bytes",
        hint="check that this is the intended file",
    )


def parse(text: str, source: str) -> Document:
    """Read one YAML document. Raises SpecErrors where there is no way to go on reading.

    Repeated keys, aliases and the like are collected in `problems`, so that everything else in the
    document can be checked too.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise SpecErrors([too_large()], source)
    document = Document(source)
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        _Builder(document, _events(loader)).run()
    except yaml.YAMLError as error:
        raise SpecErrors([*document.problems, _syntax_error(error, text)], source) from error
    except (ValueError, OverflowError) as error:
        # PyYAML lets chr() and int() fail on escapes such as "\\UFFFFFFFF" and on endless version numbers.
        hint = "look for an escape sequence or a directive with a number too large"
        mark = loader.get_mark() if loader is not None else None
        problem = SpecError(
            path="",
            message=f"is not valid YAML: {error}",
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
            hint=hint,
        )
        raise SpecErrors([*document.problems, problem], source) from error
    return document


def _events(loader: yaml.SafeLoader) -> Iterator[yaml.Event]:
    while loader.check_event():
        yield loader.get_event()  # type: ignore[no-untyped-call]  # untyped in types-PyYAML


def _syntax_error(error: yaml.YAMLError, text: str) -> SpecError:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        return SpecError(
            path="",
            message="contains a character that YAML does not allow",
            line=before.count("\n") + 1,
            column=len(before) - (before.rfind("\n") + 1) + 1,
            given=f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character),
            allowed="printable characters",
            hint="remove the character",
        )
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "cannot be read as YAML"
    context = getattr(error, "context", None)
    if "'\\t'" in problem:
        message, hint = "is indented with a tab", "indent with spaces; YAML forbids tabs there"
    else:
        message = f"is not valid YAML: {problem}" + (f" ({context})" if context else "")
        hint = "check indentation, colons, brackets and quotes here and on the line above"
    if mark is None:
        return SpecError(path="", message=message, hint=hint)
    return SpecError(path="", message=message, line=mark.line + 1, column=mark.column + 1, hint=hint)


class _Builder:
    """Turns parse events into a Document. Recursion is bounded by MAX_DEPTH."""

    def __init__(self, document: Document, events: Iterator[yaml.Event]) -> None:
        self._document = document
        self._events = events

    def run(self) -> None:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if self._document.values:
                    self._fatal(event, "contains more than one YAML document", "keep one; remove `---`")
                self._document.data = self._value(next(self._events), ())

    def _value(self, event: yaml.Event, path: Path) -> object:
        self._document.values[path] = _mark(event)
        if len(path) > MAX_DEPTH:
            self._fatal(event, f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
        if isinstance(event, yaml.AliasEvent):
            self._problem(event, path, f"uses the YAML alias `*{event.anchor}`", "write the value out")
            self._document.unreadable.add(path)
            return None
        self._refuse_decoration(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        raise TypeError(f"PyYAML produced {event!r} where a value begins")

    def _refuse_decoration(self, event: yaml.Event, path: Path) -> None:
        for what, sign in (("anchor", "&"), ("tag", "")):
            name = getattr(event, what, None)
            if name is not None:
                self._problem(event, path, f"has the YAML {what} `{sign}{name}`", f"remove the {what}")

    def _mapping(self, path: Path) -> dict[str, object]:
        result: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._fatal(event, "uses a list, mapping or alias as a key", "use a plain word as the key")
            key: str = event.value
            if not _encodable(key):
                self._fatal(event, "has a key that is not valid Unicode text", "remove the \\u escape")
            here = (*path, key)
            self._refuse_decoration(event, here)
            if key in result:
                first = self._document.keys[here].line
                self._problem(event, here, f"is given twice; first on line {first}", "remove one of them")
                self._skip(next(self._events))
                continue
            self._document.keys[here] = _mark(event)
            result[key] = self._value(next(self._events), here)
        return result

    def _sequence(self, path: Path) -> list[object]:
        result: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            result.append(self._value(event, (*path, len(result))))
        return result

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> object:
        if event.implicit[0]:
            return resolve(event.value)
        if not _encodable(event.value):
            self._problem(event, path, "is not valid Unicode text", "remove the lone surrogate escape")
            self._document.unreadable.add(path)
            return None
        return event.value

    def _skip(self, event: yaml.Event) -> None:
        """Pass over the value of a repeated key without building it."""
        depth = 0
        while True:
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth == 0:
                return
            event = next(self._events)

    def _problem(self, event: yaml.Event, path: Path, message: str, hint: str) -> None:
        mark = _mark(event)
        self._document.problems.append(
            SpecError(path=dotted(path), message=message, line=mark.line, column=mark.column, hint=hint)
        )

    def _fatal(self, event: yaml.Event, message: str, hint: str) -> NoReturn:
        mark = _mark(event)
        raise SpecErrors(
            [
                *self._document.problems,
                SpecError(path="", message=message, line=mark.line, column=mark.column, hint=hint),
            ],
            self._document.source,
        )


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1) if start is not None else Mark()


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
