"""The processes of one stack, found in /proc, and how to kill them for good."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from secure_train.cli.stack import Home

DRIVER, WORKER = "secure_train.training.driver", "ray::RayTrainWorker"
_PAUSE_SECONDS = 0.02


def of_stack(home: Home) -> dict[int, list[str]]:
    """Return the command lines of the processes that belong to a home, by process id.

    The control plane names its home on the command line; Ray and all that runs on it inherit the path of the
    cluster's token.
    """
    token = f"RAY_AUTH_TOKEN_PATH={home.path / 'ray' / 'ray.token'}"
    return {
        pid: command
        for pid, command, environment in _processes()
        if token in environment or ("serve" in command and str(home.path) in command)
    }


def driver_of(home: Home) -> int | None:
    """Return the process id of the driver that runs; None if none does. With several, the newest."""
    # The shell around it has the whole command as one argument.
    found = [pid for pid, command in of_stack(home).items() if DRIVER in command]
    return max(found, key=_started, default=None)


def workers_of(home: Home) -> list[int]:
    """Return the process ids of all training workers, those that have only just started too."""
    return sorted(pid for pid, command in of_stack(home).items() if command[0].startswith(WORKER))


def kill(pid: int) -> None:
    """SIGKILL, and return once the process has ended, reaped or not."""
    os.kill(pid, signal.SIGKILL)
    _wait_for(pid, {"", "Z", "X"})


def pause(pid: int) -> None:
    """SIGSTOP, and return once the process stands still."""
    os.kill(pid, signal.SIGSTOP)
    _wait_for(pid, {"T"})


def _wait_for(pid: int, states: set[str]) -> None:
    while _state(pid) not in states:
        time.sleep(_PAUSE_SECONDS)


def _processes() -> Iterator[tuple[int, list[str], list[str]]]:
    for folder in Path("/proc").iterdir():
        # A process may end while it is looked at; those of other users may not be looked at.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if folder.name.isdecimal() and _state(int(folder.name)) not in {"", "Z", "X"}:
                yield int(folder.name), _strings(folder / "cmdline"), _strings(folder / "environ")


def _strings(file: Path) -> list[str]:
    return file.read_bytes().decode(errors="replace").split("\0")


def _state(pid: int) -> str:
    return (_stat(pid) or [""])[0]


def _started(pid: int) -> int:
    """Clock ticks from boot to the start of a process."""
    return int((_stat(pid) or ["0"] * 20)[19])


def _stat(pid: int) -> list[str] | None:
    """Fields of proc(5) stat from the state on; None if there is no such process."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return content[content.rindex(")") + 2 :].split()
