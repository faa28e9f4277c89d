"""Background processes that outlive the command that started them, recognised beyond doubt.

A process id is reused sooner or later, so a record holds the start time and the boot as well, and a signal is
sent through a pidfd: a process is stopped only if it is the very one that was started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from secure_train.cli.errors import StackError

POLL_SECONDS = 0.05
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for all time.

    Attributes:
        pid: its number.
        started: clock ticks from boot to its start (proc(5), stat field 22).
        boot: id of that boot.
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Return the process that has this number now; None if none has, or it has ended already."""
        try:
            content = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
            boot = _BOOT.read_text("ascii").strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name before the last parenthesis may hold anything, spaces and parentheses too.
        fields = content[content.rindex(")") + 2 :].split()
        return None if fields[0] in {"Z", "X"} else cls(pid, int(fields[19]), boot)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return ProcessId.of(self.pid) == self

    def stop(self, grace: float) -> bool:
        """Ask it to end, and end it after ``grace`` seconds. Returns whether it had to be ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The handle is of whoever has the number now; from here on that cannot change.
            if not self.alive:
                return False
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            until = time.monotonic() + grace
            while self.alive:
                if time.monotonic() > until:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    while self.alive:
                        time.sleep(POLL_SECONDS)
                    return True
                time.sleep(POLL_SECONDS)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return False


@dataclass(frozen=True, slots=True)
class Record:
    """A process of the stack and where it answers."""

    process: ProcessId
    url: str

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(self)), "utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """Read it; None if there is none.

        Raises:
            StackError: it is damaged.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            return cls(ProcessId(**content["process"]), content["url"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StackError(f"{path} is damaged", "end the process by hand and delete the file") from error


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; its output is appended to a log that its user alone reads."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as output:
        return subprocess.Popen(  # noqa: S603 (our own interpreter and arguments)
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=log.parent,
            start_new_session=True,
        )


def tail(log: Path, lines: int = 12) -> str:
    """Return the end of a log."""
    try:
        content = log.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(content.splitlines()[-lines:])
