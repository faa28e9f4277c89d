"""How errors of the packages below read and exit on the command line."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from secure_train.cli.errors import CliError, ExitCode, NotConnected, UsageError
from secure_train.client import ApiError, ServerUnreachable
from secure_train.spec import SpecErrors, SpecificationError
from secure_train.wire.names import in_words

API_EXITS = {
    "denied_by_policy": ExitCode.DENIED,
    "denied_by_budget": ExitCode.DENIED,
    "not_authenticated": ExitCode.NOT_CONNECTED,
    "invalid": ExitCode.USAGE,
}


def translate(error: Exception) -> tuple[CliError, dict[str, Any]] | None:
    """Return the error to show and further fields of its envelope; None for a defect of ours."""
    match error:
        case SpecErrors():
            return _coded("invalid", UsageError(str(error))), {"details": error.to_json()["errors"]}
        case SpecificationError():
            return _coded("invalid", UsageError(str(error))), {}
        case ValidationError():
            return _coded("invalid", UsageError(_fields(error))), {}
        case ServerUnreachable():
            hint = "is it running? `secure-train status` tells, `secure-train up` starts the local one"
            return NotConnected(str(error), hint), {}
        case ApiError():
            return _refused(error)
    return None


def _coded(code: str, error: CliError) -> CliError:
    error.code = code
    return error


def _fields(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in entry['loc'])}: {entry['input']!r} {in_words(entry)}"
        if entry["type"] == "string_pattern_mismatch"
        else f"{'.'.join(str(part) for part in entry['loc'])}: {in_words(entry)}"
        for entry in error.errors()
    )


def _refused(error: ApiError) -> tuple[CliError, dict[str, Any]]:
    body = error.body
    hint = body.hint
    if body.code == "denied_by_policy" and body.decision_id and not hint:
        hint = f"secure-train policy explain {body.decision_id}"
    shown = _coded(body.code, CliError(body.message, hint))
    shown.exit_code = API_EXITS.get(body.code, ExitCode.FAILED)
    more = {"decision_id": body.decision_id, "reason": body.reason, "details": body.details}
    return shown, {name: value for name, value in more.items() if value}
