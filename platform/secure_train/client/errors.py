"""What can go wrong between a client and the control plane."""

from __future__ import annotations

from typing import Any

from secure_train.wire.base import ErrorBody


class ClientError(Exception):
    """Root of this package's errors."""


class ServerUnreachable(ClientError):
    """No answer came from the control plane."""


class ApiError(ClientError):
    """The control plane refused or failed; ``body`` says why, ``status`` is the HTTP status."""

    def __init__(self, status: int, body: ErrorBody) -> None:
        super().__init__(body.message)
        self.status = status
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes with status and body: an exception is else rebuilt from its message."""
        return type(self), (self.status, self.body)
