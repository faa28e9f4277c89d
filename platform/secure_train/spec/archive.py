"""Reading a package that nobody vouches for: bounded, and nothing but regular files with plain names."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass

import zstandard

from secure_train.spec.errors import WorkdirError

_TAR_OVERHEAD = 4096
"""Bytes of headers and padding that a file may take beside its content."""
_MAX_WINDOW = 32 * 1024 * 1024
_MAX_PATH = 1024


@dataclass(frozen=True)
class Limits:
    """How much code a job may bring. Sizes in bytes."""

    file_size: int = 16 * 1024 * 1024
    total_size: int = 64 * 1024 * 1024
    files: int = 10_000

    def check(self, path: str, size: int, total: int, count: int) -> None:
        """Raise WorkdirError if a file of this size, making this total and count, is too much."""
        remedy = "list what is not code in .secure-train-ignore; data belongs in a registered dataset"
        if size > self.file_size:
            raise WorkdirError(f"{path} has more than {self.file_size:,} bytes; {remedy}")
        if total > self.total_size:
            raise WorkdirError(f"at {path} the files exceed {self.total_size:,} bytes together; {remedy}")
        if count > self.files:
            raise WorkdirError(f"at {path} there are more than {self.files:,} files; {remedy}")


@dataclass(frozen=True)
class Member:
    """One file in memory. `path` is relative, with forward slashes."""

    path: str
    executable: bool
    data: bytes


def is_portable(path: str) -> bool:
    """Whether a path is relative, stays inside its folder and means the same on every system."""
    return (
        len(path) <= _MAX_PATH
        and all(part not in ("", ".", "..") for part in path.split("/"))
        and not any(character < " " or character in "\\\x7f" for character in path)
    )


def read_archive(data: bytes, limits: Limits) -> tuple[Member, ...]:
    """The files of a package, sorted as in the archive. Raises WorkdirError for anything unusual."""
    raw = _decompress(data, limits)
    members: list[Member] = []
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:", encoding="utf-8", errors="strict") as archive:
            for info in archive:
                total += info.size
                limits.check(info.name, info.size, total, len(members) + 1)
                members.append(_member(archive, info))
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise WorkdirError(f"the package is not a readable archive: {error}; pack it again") from error
    _refuse_collisions(members)
    return tuple(members)


def _decompress(data: bytes, limits: Limits) -> bytes:
    most = limits.total_size + (limits.files + 2) * _TAR_OVERHEAD
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        with decompressor.stream_reader(io.BytesIO(data)) as reader:
            raw = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise WorkdirError(f"the package is not zstd-compressed data: {error}; pack it again") from error
    if len(raw) > most:
        raise WorkdirError(f"the package expands to more than {most:,} bytes and is refused")
    return raw


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.type != tarfile.REGTYPE or info.issparse():
        raise WorkdirError(f"the package holds {info.name!r}, which is not a regular file, and is refused")
    if not is_portable(info.name):
        raise WorkdirError(f"the package holds a file at {info.name[:200]!a}, which could lie outside it")
    content = archive.extractfile(info)
    data = content.read() if content is not None else b""
    if len(data) != info.size:
        raise WorkdirError(f"the package ends within {info.name!r}; fetch it again")
    return Member(info.name, bool(info.mode & 0o100), data)


def _refuse_collisions(members: list[Member]) -> None:
    """No path twice, and none that is both a file and a folder."""
    files = {member.path for member in members}
    folders = {path[:end] for path in files for end, character in enumerate(path) if character == "/"}
    if len(files) != len(members) or files & folders:
        raise WorkdirError("the package names the same path twice and is refused; pack it again")
