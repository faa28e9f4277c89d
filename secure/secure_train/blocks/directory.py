"""A backend in a directory of the local (or a POSIX-compliant network) file system.

Every path is walked one component at a time from the root's descriptor, without following symbolic links, so
that nothing planted in the directory can lead out of it. Folders are 0700 and files 0600.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from secure_train.vault.durable import PRIVATE, TEMPORARY_PREFIX, link_new, opened_folder, stage

from .backend import Entry, check_name
from .errors import BackendFailed, NotStored

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a named pipe planted here must not hold the reader up.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_LOCK = ".lock"


class DirectoryBackend:
    """Objects as files under ``path``, which is created if it is missing.

    A lock file orders deletions by age (exclusive, one object at a time) against puts and touches (shared).
    """

    def __init__(self, path: Path) -> None:
        self._root = path
        with _failures(str(path)):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, name: str) -> bytes:
        """Return the bytes; raises NotStored."""
        try:
            with _failures(name, FileNotFoundError), self._folder_of(name) as (folder, leaf):
                descriptor = os.open(leaf, _FILE, dir_fd=folder)
                with os.fdopen(descriptor, "rb") as file:
                    return file.read()
        except FileNotFoundError:
            raise NotStored(f"{self._root} holds nothing named {name}") from None

    def put(self, name: str, data: bytes) -> None:
        """Store the bytes, replacing what is there. They are durable at once, their name after ``settle``."""
        with _failures(name), self._folder_of(name, create=True) as (folder, leaf):
            temporary = stage(folder, data)
            with self._locked(fcntl.LOCK_SH):
                os.rename(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)

    def create(self, name: str, data: bytes) -> bool:
        """Store the bytes unless the name is taken (then return False). Either way durable on return."""
        try:
            with _failures(name, FileExistsError), self._folder_of(name, create=True) as (folder, leaf):
                link_new(folder, leaf, data)
                created = True
        except FileExistsError:
            created = False
        # Also what another process has just created: its caller may not have got this far.
        self._force_folders([name])
        return created

    def touch(self, name: str) -> bool:
        """Make the object as young as if just put; False if it is not there."""
        try:
            with (
                _failures(name, FileNotFoundError),
                self._folder_of(name) as (folder, leaf),
                self._locked(fcntl.LOCK_SH),
            ):
                os.utime(leaf, dir_fd=folder, follow_symlinks=False)
                return True
        except FileNotFoundError:
            return False

    def settle(self, names: Collection[str]) -> frozenset[str]:
        """Make the names durable, touch them, and return those that are not there."""
        missing = frozenset(name for name in names if not self.touch(name))
        self._force_folders(name for name in names if name not in missing)
        return missing

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield what is stored under the folder ``prefix``, in no particular order."""
        for name, status in self._files(check_name(prefix)):
            if not name.rpartition("/")[2].startswith("."):
                yield Entry(name, status.st_size, status.st_mtime)

    def delete(self, name: str) -> bool:
        """Remove the object, durably on return; False if it was not there."""
        try:
            with _failures(name, FileNotFoundError), self._folder_of(name) as (folder, leaf):
                os.unlink(leaf, dir_fd=folder)
                os.fsync(folder)
                return True
        except FileNotFoundError:
            return False

    def delete_older(self, name: str, cutoff: float) -> bool:
        """Remove the object if last put or touched before ``cutoff``; ordered against puts and touches."""
        try:
            with (
                _failures(name, FileNotFoundError),
                self._folder_of(name) as (folder, leaf),
                self._locked(fcntl.LOCK_EX),
            ):
                if os.stat(leaf, dir_fd=folder, follow_symlinks=False).st_mtime >= cutoff:
                    return False
                os.unlink(leaf, dir_fd=folder)
                return True
        except FileNotFoundError:
            return False

    def discard_partial(self, cutoff: float) -> int:
        """Remove what puts left unfinished before ``cutoff``; return how many."""
        discarded = 0
        for name, status in self._files(""):
            folder, _, leaf = name.rpartition("/")
            if leaf.startswith(TEMPORARY_PREFIX) and status.st_mtime < cutoff:
                with (
                    contextlib.suppress(FileNotFoundError),
                    _failures(name, FileNotFoundError),
                    self._walk(folder) as descriptor,
                ):
                    os.unlink(leaf, dir_fd=descriptor)
                    discarded += 1
        return discarded

    def _files(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield every regular file under the folder; one that vanishes meanwhile is left out."""
        try:
            with _failures(prefix, FileNotFoundError), self._walk(prefix) as folder:
                found = [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in os.scandir(folder)
                    if not entry.is_symlink()
                ]
                statuses = {
                    name: status
                    for name, is_folder in found
                    if not is_folder and (status := _status(folder, name)) is not None
                }
        except FileNotFoundError:
            return
        base = f"{prefix}/" if prefix else ""
        for name, status in statuses.items():
            if stat.S_ISREG(status.st_mode):
                yield base + name, status
        for name, is_folder in found:
            if is_folder:
                yield from self._files(base + name)

    @contextlib.contextmanager
    def _folder_of(self, name: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        folder, _, leaf = check_name(name).rpartition("/")
        with self._walk(folder, create=create) as descriptor:
            yield descriptor, leaf

    @contextlib.contextmanager
    def _walk(self, folder: str, *, create: bool = False) -> Iterator[int]:
        with opened_folder(self._root) as root:
            current = os.dup(root)
        try:
            for part in folder.split("/") if folder else []:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=current)
                below = os.open(part, _FOLDER, dir_fd=current)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _force_folders(self, names: Iterator[str] | Collection[str]) -> None:
        """Force every folder on the way to the names to the disk, each once."""
        folders = {""}
        for name in names:
            parts = name.split("/")[:-1]
            folders.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
        for folder in sorted(folders):
            with _failures(folder), self._walk(folder) as descriptor:
                os.fsync(descriptor)

    @contextlib.contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        lock = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(lock, mode)
            yield
        finally:
            os.close(lock)


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _failures(name: str, passing: type[OSError] | None = None) -> Iterator[None]:
    """Turn the operating system's errors into ours, except ``passing``, which the caller answers itself."""
    try:
        yield
    except OSError as error:
        if passing is not None and isinstance(error, passing):
            raise
        raise BackendFailed(f"{name or 'the store'}: {error.strerror}") from error
