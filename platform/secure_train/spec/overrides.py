"""`--set path=value`: changes to a document before it is checked."""

from __future__ import annotations

from secure_train.spec.document import Document, Mark, Path, dotted, parse
from secure_train.spec.errors import SpecError, SpecErrors

Container = dict[str, object] | list[object]


def override(document: Document, assignment: str) -> None:
    """Put the value at the path, creating mappings on the way; list items are named by index from 0.

    What cannot be applied is added to `document.problems`. Whether the path exists in the format is for
    validation to say, which then names this assignment as the place of the error.
    """
    label = f"--set {assignment}"
    target, equals, text = assignment.partition("=")
    path = tuple(target.strip().split("."))
    if not equals or not all(path):
        _problem(document, label, "", "is not of the form path=value", "write e.g. --set privacy.epsilon=3")
        return
    try:
        value = parse(text, label)
    except SpecErrors as error:
        for problem in error.errors:
            _problem(document, label, dotted(path), problem.message, problem.hint)
        return
    for problem in value.problems:
        _problem(document, label, dotted(path), problem.message, problem.hint)
    if document.data is None:
        document.data = {}
    opened = _open(document, path, label)
    if opened is not None:
        container, place = opened
        _mark_all(document, place, value, label)
        if isinstance(container, list):
            container[int(place[-1])] = value.data
        else:
            container[str(place[-1])] = value.data


def _open(document: Document, path: tuple[str, ...], label: str) -> tuple[Container, Path] | None:
    """What holds the value at `path`, with the mappings that lead to it created, and the path with list
    indices as numbers. None, and a problem in the document, where the path leads nowhere.
    """
    here: object = document.data
    place: Path = ()
    for depth, part in enumerate(path):
        if isinstance(here, list):
            if not (part.isascii() and part.isdigit() and int(part[:9]) < len(here)):
                allowed = f"an index from 0 to {len(here) - 1}" if here else "the whole list, as it is empty"
                _problem(
                    document, label, dotted((*place, part)), "is not an item of the list", f"use {allowed}"
                )
                return None
            place = (*place, int(part))
        elif isinstance(here, dict):
            place = (*place, part)
        else:
            hint = f"set `{dotted(place)}` as a whole" if place else "begin the file with a mapping"
            _problem(
                document, label, dotted((*place, part)), f"is inside `{dotted(place)}`, a plain value", hint
            )
            return None
        if depth == len(path) - 1:
            return here, place
        here = _child(document, here, place, label)
    return None


def _child(document: Document, parent: Container, place: Path, label: str) -> object:
    if isinstance(parent, list):
        return parent[int(place[-1])]
    key = str(place[-1])
    if parent.get(key) is None:
        parent[key] = {}
        document.keys[place] = document.values[place] = Mark(override=label)
        document.unreadable.discard(place)
    return parent[key]


def _mark_all(document: Document, place: Path, value: Document, label: str) -> None:
    size = len(place)
    for marks in (document.keys, document.values):
        for known in [path for path in marks if path[:size] == place]:
            del marks[known]
    document.unreadable = {path for path in document.unreadable if path[:size] != place}
    document.unreadable |= {(*place, *path) for path in value.unreadable}
    document.keys[place] = Mark(override=label)
    document.keys |= dict.fromkeys(((*place, *path) for path in value.keys), Mark(override=label))
    document.values |= dict.fromkeys(((*place, *path) for path in value.values), Mark(override=label))


def _problem(document: Document, label: str, path: str, message: str, hint: str | None) -> None:
    document.problems.append(SpecError(path=path, message=message, override=label, hint=hint))
