"""How a worker ends when it cannot go on, and what may be said about it.

These exceptions cross processes and end up in Ray's logs. Each holds nothing but ``cause``: our own phrase,
or the type of an exception and where it was raised. What an exception of the author's code says may quote a
record.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from secure_train.client.errors import ApiError
from secure_train.training.errors import TrainingError

CAUSE_LENGTH = 200
_OURS = "secure_train."
_PERMANENT = frozenset({"conflict", "invalid", "not_found", "too_large"})


class WorkerFailure(TrainingError):
    """A worker ended; the group is started again from the newest checkpoint, as often as the job allows."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause[:CAUSE_LENGTH]


class PeerLost(WorkerFailure):
    """Another worker went away in the middle of a collective operation."""


class Diverged(WorkerFailure):
    """A step that was run again gave another value. The next group gets fresh noise."""


class PermanentFailure(WorkerFailure):
    """The same would happen again: the job is to fail at once."""


class Fenced(WorkerFailure):
    """The control plane does not accept this attempt any more. Nothing may be done in its name."""


def refused(error: ApiError) -> WorkerFailure:
    """What a refusal by the control plane means for the worker that met it.

    ``diverged``: restart with fresh noise. Another group or attempt has taken over, or the job may not act
    any more: end silently. Any other refusal of the request itself would come again: the job fails.
    """
    said = f"control plane answered {error.status} {error.body.code}"
    if error.body.code == "diverged":
        return Diverged(said)
    if error.body.code == "stale" or error.status in (401, 403):
        return Fenced(said)
    if error.body.code in _PERMANENT:
        return PermanentFailure(said)
    return WorkerFailure(said)


def describe(error: BaseException, code: Path | None = None) -> str:
    """Type of an exception, and the module and line nearest to where it was raised that are ours or the
    author's.

    Args:
        error: not quoted.
        code: the author's unpacked working directory.
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if code is not None and file.is_relative_to(code):
            place = f" at {file.relative_to(code)}:{line}"
        elif str(frame.f_globals.get("__name__", "")).startswith(_OURS):
            place = f" at {frame.f_globals['__name__']}:{line}"
    return f"{type(error).__name__}{place}"[:CAUSE_LENGTH]
