"""The home directory of an embedded stack: where everything is."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secure_train.cli.errors import StackError

ENVIRONMENT = "SECURE_TRAIN_HOME"


def default_home() -> Path:
    """Return ``$SECURE_TRAIN_HOME``, else the user's data directory."""
    if given := os.environ.get(ENVIRONMENT):
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "secure-train"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below a home directory, which belongs to one user and is readable by nobody else."""

    path: Path

    @classmethod
    def at(cls, path: Path | None) -> Home:
        """Return the home at ``path``, or the default one."""
        return cls((path or default_home()).expanduser().resolve())

    @property
    def run(self) -> Path:
        """What runs: process records and the lock."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """Logs of the processes."""
        return self.path / "logs"

    @property
    def control_plane_log(self) -> Path:
        """Log of the control plane."""
        return self.logs / "control-plane.log"

    @property
    def control_plane_record(self) -> Path:
        """Which process the control plane is."""
        return self.run / "control-plane.json"

    def create(self) -> None:
        """Make the directories (mode 0700).

        Raises:
            StackError: one exists and others may enter it, or it cannot be made.
        """
        try:
            for folder in (self.path, self.run, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"cannot make {error.filename}: {error.strerror}", "choose another place with --home"
            ) from error
        self.check()

    def check(self) -> None:
        """Refuse a home that is not its user's alone."""
        status = self.path.stat()
        if status.st_uid != os.geteuid():
            raise StackError(f"{self.path} belongs to another user", "choose another place with --home")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise StackError(f"{self.path} holds keys and can be entered by others", f"chmod 700 {self.path}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second ``up`` or ``down`` of the same home waiting until this one is done."""
        with (self.run / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
