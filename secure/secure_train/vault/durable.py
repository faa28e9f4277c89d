"""Files that a crash leaves either as they were or as they were meant to be, never in between.

The bytes are forced to the disk before the name points at them, and the name before the function returns.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

PRIVATE = 0o600
TEMPORARY_PREFIX = ".tmp-"


@contextlib.contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Yield a descriptor of the folder at ``path``."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def stage(folder: int, data: bytes) -> str:
    """Write ``data`` durably to a new private file in the folder and return its temporary name.

    The caller renames, links or removes it. A crash leaves it behind under ``TEMPORARY_PREFIX``.
    """
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    return name


def replace_file(path: Path, data: bytes) -> None:
    """Make ``path`` hold ``data``, whether it exists or not."""
    with opened_folder(path.parent) as folder:
        temporary = stage(folder, data)
        os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def create_file(path: Path, data: bytes) -> None:
    """Make ``path`` hold ``data``; raises FileExistsError rather than touch what is there."""
    with opened_folder(path.parent) as folder:
        link_new(folder, path.name, data)
        os.fsync(folder)


def link_new(folder: int, name: str, data: bytes) -> None:
    """Create ``name`` in the folder with all of ``data`` at once; raises FileExistsError if it is there.

    The entry itself is durable once the caller has forced the folder to the disk.
    """
    temporary = stage(folder, data)
    try:
        # Unlike a rename, a link refuses an existing name; unlike O_EXCL, it never shows half a file.
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.unlink(temporary, dir_fd=folder)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path`` against every other thread and process on this machine."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
