"""Folders that a job's processes use while they live, and that outlive none of them for long.

A process that is killed cannot clear up after itself. So all folders lie in one place per machine and user,
each is locked by the process that uses it, and every process that starts there deletes those that nobody
locks any more: what a killed attempt left behind goes when the next one starts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from secure_train.training.errors import TrainingError

_LOCK = "lock"


@contextmanager
def scratch_folder(job_id: str) -> Iterator[Path]:
    """Yield an empty folder of this process's own, and delete it afterwards.

    Raises:
        TrainingError: the place for such folders belongs to somebody else, or others may write into it.
    """
    place = _place()
    with _alone(place):
        _sweep(place)
        folder = Path(tempfile.mkdtemp(prefix=f"{job_id}-", dir=place))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        content = folder / "content"
        content.mkdir()
        yield content
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Within this, no other process sweeps: it would take a folder that is not locked yet for abandoned."""
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _place() -> Path:
    """The folder of this user's scratch folders; anybody can guess its name, so it is looked at first."""
    place = Path(tempfile.gettempdir()) / f"secure-train-{os.geteuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise TrainingError(
            f"{place} is not a folder that only this user may enter: delete it, or set TMPDIR to another"
        )
    return place


def _sweep(place: Path) -> None:
    """Delete the folders whose processes have ended, perhaps before they could lock them."""
    for folder in place.iterdir():
        with suppress(FileNotFoundError, BlockingIOError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
