"""Decoded JSON as a Document: checked to be nothing but JSON before a validator sees it."""

from __future__ import annotations

from collections.abc import Mapping

from secure_train.spec.document import MAX_DEPTH, Document, Path, dotted
from secure_train.spec.errors import SpecError


def from_plain(data: Mapping[str, object], source: str) -> Document:
    """A document without lines. What is not JSON is reported in `problems` and left out of the data."""
    document = Document(source)
    document.data = _copy(data, (), document)
    return document


def _copy(value: object, path: Path, document: Document) -> object:
    if len(path) > MAX_DEPTH:
        _refuse(document, path, f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
        return None
    if isinstance(value, Mapping):
        result: dict[str, object] = {}
        for key, item in value.items():
            if isinstance(key, str) and _is_text(key):
                result[key] = _copy(item, (*path, key), document)
            else:
                _refuse(document, path, f"has the key {key!a}, which is not valid text", "use text keys")
        return result
    if isinstance(value, list | tuple):
        return [_copy(item, (*path, index), document) for index, item in enumerate(value)]
    if isinstance(value, str) and not _is_text(value):
        _refuse(document, path, "is not valid Unicode text", "remove the lone surrogate")
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    _refuse(document, path, f"is a Python {type(value).__name__}, not JSON", "use JSON values")
    return None


def _refuse(document: Document, path: Path, message: str, hint: str) -> None:
    document.problems.append(SpecError(path=dotted(path), message=message, hint=hint))
    document.unreadable.add(path)


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
