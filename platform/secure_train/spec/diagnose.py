"""From pydantic's errors to ours: the place in the text, what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from secure_train.spec.base import CROSS_FIELD, SpecModel
from secure_train.spec.describe import allowed, either, shown
from secure_train.spec.document import Document, dotted
from secure_train.spec.errors import SpecError
from secure_train.spec.outline import Outline, outline_of

MAX_ERRORS = 100

_MESSAGES = {
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "finite_number": "is not a finite number",
    "too_short": "has too few entries",
    "too_long": "has too many entries",
    "string_pattern_mismatch": "has a form that is not allowed",
    "string_too_long": "is too long",
    "literal_error": "is not one of the allowed values",
}


def diagnose(error: ValidationError, model: type[SpecModel], document: Document) -> list[SpecError]:
    """The errors of a validation, but for values that the document already reports as unreadable.

    Beyond MAX_ERRORS the rest is counted only: a hostile request cannot make the answer cost minutes.
    """
    outline = outline_of(model)
    details = error.errors(include_url=False, include_input=False)
    found = []
    for each in details[:MAX_ERRORS]:
        diagnosis = _Diagnosis(each, outline, document)
        path = diagnosis.path
        if diagnosis.is_echo():
            continue
        if not any(path[:length] in document.unreadable for length in range(len(path) + 1)):
            found.append(diagnosis.report())
    if len(details) > MAX_ERRORS:
        message = f"has {len(details) - MAX_ERRORS:,} further errors, not listed"
        found.append(SpecError(path="", message=message, hint="repair those listed first"))
    return found


class _Diagnosis:
    """One error on its way from pydantic's terms to the author's."""

    def __init__(self, details: ErrorDetails, outline: Outline, document: Document) -> None:
        self._type = details["type"]
        self._text = details["msg"]
        self._context: dict[str, Any] = details.get("ctx", {})
        self._location = tuple(details["loc"])
        self._outline = outline
        self._document = document
        self.path, self._node = outline.walk(self._location)
        if self._type == CROSS_FIELD:
            self.path = (*self.path, *self._context["at"])
        elif self._type in ("union_tag_invalid", "union_tag_not_found"):
            self.path = (*self.path, self._node["discriminator"]["propertyName"])

    def is_echo(self) -> bool:
        """Whether a list is called too short only because its invalid items were not counted."""
        given = self._given()
        return (
            self._type == "too_short"
            and isinstance(given, list)
            and len(given) >= self._node.get("minItems", 0)
        )

    def report(self) -> SpecError:
        match self._type:
            case "extra_forbidden":
                return self._unknown_key()
            case "missing" | "union_tag_not_found":
                return self._missing()
            case "union_tag_invalid":
                tags = list(self._node["discriminator"]["mapping"])
                return self._error(_MESSAGES["literal_error"], either(tags), self._nearest(tags))
            case "spec":
                return self._error(self._context["message"], self._context["allowed"], self._context["hint"])
        return self._wrong_value()

    def _unknown_key(self) -> SpecError:
        parent = self._outline.walk(self._location[:-1])[1]
        siblings = list(parent["properties"])
        hint = self._outline.suggest(self.path, siblings) or "remove it"
        mark = self._document.locate(self.path, key=True)
        return SpecError(
            path=dotted(self.path),
            message="is not a key of this format",
            line=mark.line,
            column=mark.column,
            override=mark.override,
            given=shown(self._given()),
            allowed=", ".join(siblings),
            hint=hint,
        )

    def _missing(self) -> SpecError:
        if self._type == "missing":
            options = allowed(self._node, self._outline.root)
        else:
            options = either(self._node["discriminator"]["mapping"])
        parent = dotted(self.path[:-1])
        if isinstance(self.path[-1], int):
            return self._error("is missing", options, f"add another item to `{parent}`")
        hint = f"add `{self.path[-1]}`" + (f" to `{parent}`" if parent else " at the top level")
        return self._error("is missing", options, hint)

    def _wrong_value(self) -> SpecError:
        if self._location[-1:] == ("[key]",):
            return self._wrong_key()
        options = allowed(self._node, self._outline.root)
        given = self._given()
        if given is None and not self.path:
            return self._error("is empty", options, "write the mapping out")
        if given is None:
            return self._error("is empty", options, "give it a value or remove the key")
        if self._type in _MESSAGES:
            return self._error(_MESSAGES[self._type], options, self._nearest(self._choices()))
        return self._error("is of the wrong type", options, self._retype(given))

    def _wrong_key(self) -> SpecError:
        names = self._outline.walk(self._location[:-2])[1].get("propertyNames", {"type": "string"})
        mark = self._document.locate(self.path, key=True)
        return SpecError(
            path=dotted(self.path),
            message="has a key of a form that is not allowed",
            line=mark.line,
            column=mark.column,
            override=mark.override,
            given=shown(self.path[-1]),
            allowed=allowed(names, self._outline.root),
            hint="rename the key",
        )

    def _choices(self) -> list[str]:
        choices = self._node.get("enum", [self._node["const"]] if "const" in self._node else [])
        return [str(choice) for choice in choices]

    def _nearest(self, choices: list[str]) -> str | None:
        given = self._given()
        if not isinstance(given, str):
            return None
        folded = {choice.lower(): choice for choice in choices}
        close = difflib.get_close_matches(given.lower(), folded, n=1, cutoff=0.5)
        return f"did you mean `{folded[close[0]]}`?" if close else None

    def _retype(self, given: object) -> str | None:
        wanted = self._node.get("type")
        if wanted == "string" and isinstance(given, bool | int | float):
            return f'write it in quotes: "{shown(given)}"'
        if wanted in ("integer", "number") and isinstance(given, str):
            return "write a number without quotes or units"
        if wanted == "integer" and isinstance(given, float) and given.is_integer():
            return f"write {int(given)}" if abs(given) < 1e15 else None
        if wanted == "array" and not isinstance(given, list | dict):
            return f"write a list: [{shown(given)}]"
        return None

    def _given(self) -> object:
        value = self._document.data
        for part in self.path:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def _error(self, message: str, options: str | None, hint: str | None) -> SpecError:
        mark = self._document.locate(self.path)
        return SpecError(
            path=dotted(self.path),
            message=message,
            line=mark.line,
            column=mark.column,
            override=mark.override,
            given=shown(self._given()),
            allowed=options,
            hint=hint,
        )
