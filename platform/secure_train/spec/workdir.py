"""The author's code as one reproducible package: the same files give the same digest on every machine.

A package is a zstd-compressed tar of regular files. Its digest does not cover those bytes but a listing of
the files (path, executable bit, SHA-256), so that it depends on no version of tar or zstd; `unpack` computes
the listing of what it received and writes nothing unless the digest is the expected one.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import rfc8785
import zstandard

from secure_train.spec.archive import Limits, Member, read_archive
from secure_train.spec.errors import WorkdirError
from secure_train.spec.tree import read_tree, write_tree

LIMITS = Limits()
_LEVEL = 6


@dataclass(frozen=True)
class PackedFile:
    """One file of a package. `path` is relative, with forward slashes; `size` in bytes."""

    path: str
    executable: bool
    size: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """A packed working directory. `digest` is `sha256:` and 64 hexadecimal digits over the listing."""

    data: bytes
    digest: str
    files: tuple[PackedFile, ...]


def pack(path: Path, limits: Limits = LIMITS) -> Package:
    """Pack the regular files below a folder.

    Leaves out `.git`, `.venv`, `__pycache__` and what `.secure-train-ignore` lists (see `IgnoreList`). Raises
    WorkdirError for links and special files, which would mean something else on another machine, for names
    that are not UTF-8, and beyond the limits.
    """
    members = read_tree(path, limits)
    data = zstandard.ZstdCompressor(level=_LEVEL).compress(_tar(members))
    return Package(data, _digest(members), _listing(members))


def read_package(data: bytes, limits: Limits = LIMITS) -> Package:
    """Read somebody else's package, writing nothing. Raises WorkdirError if it cannot be trusted."""
    members = read_archive(data, limits)
    return Package(data, _digest(members), _listing(members))


def unpack(data: bytes, dest: Path, expected_digest: str, limits: Limits = LIMITS) -> tuple[PackedFile, ...]:
    """Write the files of a package into the folder `dest`, which must be absent or empty.

    Raises WorkdirError, with nothing written, unless the content is exactly what `expected_digest` names. The
    folder appears complete or not at all. Files are readable by their owner only.
    """
    members = read_archive(data, limits)
    found = _digest(members)
    if found != expected_digest:
        raise WorkdirError(
            f"the package's files have the digest {found}, but {expected_digest} was expected: "
            "it was altered or is another package; fetch it again from where the job was submitted"
        )
    write_tree(members, dest)
    return _listing(members)


def _listing(members: Iterable[Member]) -> tuple[PackedFile, ...]:
    return tuple(
        PackedFile(each.path, each.executable, len(each.data), hashlib.sha256(each.data).hexdigest())
        for each in members
    )


def _digest(members: Iterable[Member]) -> str:
    listing = rfc8785.dumps(
        [
            {"path": file.path, "executable": file.executable, "sha256": file.sha256}
            for file in sorted(_listing(members), key=lambda file: file.path.encode())
        ]
    )
    return f"sha256:{hashlib.sha256(listing).hexdigest()}"


def _tar(members: Iterable[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for member in members:
            info = tarfile.TarInfo(member.path)  # owner 0, time 0
            info.size = len(member.data)
            info.mode = 0o755 if member.executable else 0o644
            archive.addfile(info, io.BytesIO(member.data))
    return buffer.getvalue()
