"""Errors of the command line, each with its exit code."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the process's status means to scripts."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    NOT_CONNECTED = 4
    TIMED_OUT = 5


class CliError(Exception):
    """Something the person at the terminal can act on: what happened, and what to do.

    Attributes:
        hint: what to do, or nothing.
        data: the answer as far as there is one; it stands beside the error in the envelope.
    """

    code = "failed"
    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "", *, data: Any = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.data = data


class UsageError(CliError):
    """The command was called in a way it cannot work."""

    code = "usage"
    exit_code = ExitCode.USAGE


class NotConnected(CliError):
    """There is no context, no login, or no answer."""

    code = "not_connected"
    exit_code = ExitCode.NOT_CONNECTED


class TimedOut(CliError):
    """The time that ``--timeout`` allows has passed; the job goes on."""

    code = "timed_out"
    exit_code = ExitCode.TIMED_OUT


class JobFailed(CliError):
    """The job that was waited for did not succeed."""

    code = "job_failed"


class StackError(CliError):
    """A process of the embedded stack did not start or does not run."""

    code = "stack_failed"
