"""Folders on disk: collecting the files of a working directory, and writing them again."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from secure_train.spec.archive import Limits, Member, is_portable
from secure_train.spec.errors import WorkdirError

IGNORE_FILE = ".secure-train-ignore"
ALWAYS_IGNORED = (".git", ".venv", "__pycache__", IGNORE_FILE)


class IgnoreList:
    """Shell patterns, one a line, `#` for comments.

    A pattern is held against the path relative to the working directory and against the bare name, of files
    and of folders; an ignored folder is not entered. A final `/` makes a pattern match folders only.
    """

    def __init__(self, lines: list[str]) -> None:
        stripped = (line.strip() for line in lines)
        self._patterns = tuple(line for line in stripped if line and not line.startswith("#"))

    def covers(self, path: str, *, folder: bool) -> bool:
        """Whether a file or folder, by its relative path with forward slashes, is left out."""
        name = path.rpartition("/")[2]
        if name in ALWAYS_IGNORED:
            return True
        for pattern in self._patterns:
            bare = pattern.rstrip("/")
            if (folder or bare == pattern) and (fnmatchcase(path, bare) or fnmatchcase(name, bare)):
                return True
        return False


def read_tree(root: Path, limits: Limits) -> tuple[Member, ...]:
    """The regular files below a folder, sorted by the bytes of their path."""
    if not root.is_dir():
        raise WorkdirError(f"{root} is not a folder; model.workingDir must name the folder of your code")
    ignored = _ignore_list(root)
    members: list[Member] = []
    total = 0
    pending = [""]
    while pending:
        folder = pending.pop()
        for entry in _entries(root / folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if ignored.covers(path, folder=is_folder):
                continue
            if is_folder:
                pending.append(path)
                continue
            member = _read(root, path, limits)
            total += len(member.data)
            members.append(member)
            limits.check(path, len(member.data), total, len(members))
    return tuple(sorted(members, key=lambda member: member.path.encode()))


def write_tree(members: tuple[Member, ...], dest: Path) -> None:
    """Write the files beside `dest` and rename the whole into place, so that `dest` is never half written."""
    try:
        if dest.is_symlink() or (dest.exists() and any(dest.iterdir())):
            raise WorkdirError(f"{dest} is not empty; unpack into a new folder")
        dest.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
        try:
            for member in members:
                target = building / member.path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor = os.open(
                    target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700 if member.executable else 0o600
                )
                with open(descriptor, "wb") as file:
                    file.write(member.data)
            building.rename(dest)
        except BaseException:
            # The error on its way out matters; a leftover hidden folder beside `dest` does not.
            shutil.rmtree(building, ignore_errors=True)
            raise
    except OSError as error:
        reason = f"cannot unpack into {dest}: {error.strerror}; check space and permissions"
        raise WorkdirError(reason) from error


def _ignore_list(root: Path) -> IgnoreList:
    try:
        return IgnoreList((root / IGNORE_FILE).read_text("utf-8").splitlines())
    except FileNotFoundError:
        return IgnoreList([])
    except (OSError, UnicodeDecodeError) as error:
        raise WorkdirError(f"{root / IGNORE_FILE} cannot be read as UTF-8 text: {error}") from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise WorkdirError(f"{folder} cannot be read: {error.strerror}; check its permissions") from error


def _read(root: Path, path: str, limits: Limits) -> Member:
    remedy = f"replace it by a regular file or list it in {IGNORE_FILE}"
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise WorkdirError(f"the name {path!a} is not UTF-8; rename the file") from error
    if not is_portable(path):
        raise WorkdirError(
            f"the name {path!a} is too long or has a backslash or control character; rename it"
        )
    try:
        # Never waits (FIFO) and never follows a link that has taken the file's place since it was listed.
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if (root / path).is_symlink():
            raise WorkdirError(f"{path} is a symbolic link; {remedy}") from error
        raise WorkdirError(f"{path} cannot be read: {error.strerror}; {remedy}") from error
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise WorkdirError(f"{path} is not a regular file; {remedy}")
        return Member(path, bool(status.st_mode & stat.S_IXUSR), file.read(limits.file_size + 1))
