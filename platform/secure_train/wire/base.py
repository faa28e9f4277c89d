"""The root of all messages, and the error every failing request answers with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A frozen message; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ErrorCode = Literal[
    "denied_by_policy",
    "denied_by_budget",
    "not_authenticated",
    "invalid",
    "not_found",
    "conflict",
    "diverged",
    "stale",
    "unreadable",
    "too_large",
    "unavailable",
    "internal",
]


class ErrorBody(Message):
    """Why a request failed.

    ``denied_by_policy`` carries ``decision_id`` and ``reason``; ``invalid`` carries ``details`` with one
    entry per error (path, line, column, message, given, allowed, hint).
    """

    code: ErrorCode
    message: str
    hint: str = ""
    decision_id: str | None = None
    reason: str | None = None
    details: list[dict[str, Any]] = []


class ErrorResponse(Message):
    """The body of every answer with a status of 400 or more."""

    error: ErrorBody
