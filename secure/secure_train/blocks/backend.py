"""Where blocks and manifests are kept: the seam between the store and a file system or an object store."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from .errors import UnsafeName

_NAME = re.compile(r"[0-9a-z_-][0-9a-z._-]*(?:/[0-9a-z_-][0-9a-z._-]*)*")
MAXIMUM_NAME = 512
MAXIMUM_COMPONENT = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object.

    ``modified`` is when it was last put or touched: seconds since 1970 by the backend's clock.
    """

    name: str
    size: int
    modified: float


class BlockBackend(Protocol):
    """Named byte strings that appear whole or not at all. Safe to use from several threads and processes.

    Every method raises UnsafeName for a name that ``check_name`` refuses, and BackendFailed where storage
    fails. A backend need not be trusted: what it holds is encrypted, and all that it returns is
    authenticated.
    """

    def get(self, name: str) -> bytes:
        """Return the bytes; raises NotStored."""

    def put(self, name: str, data: bytes) -> None:
        """Store the bytes, replacing what is there. They are durable at once, their name after ``settle``."""

    def create(self, name: str, data: bytes) -> bool:
        """Store the bytes unless the name is taken (then return False). Either way durable on return."""

    def touch(self, name: str) -> bool:
        """Make the object as young as if just put; False if it is not there."""

    def settle(self, names: Collection[str]) -> frozenset[str]:
        """Make the names durable, touch them, and return those that are not there."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield what is stored under the folder ``prefix``, in no particular order."""

    def delete(self, name: str) -> bool:
        """Remove the object, durably on return; False if it was not there."""

    def delete_older(self, name: str, cutoff: float) -> bool:
        """Remove the object if last put or touched before ``cutoff``; ordered against puts and touches."""

    def discard_partial(self, cutoff: float) -> int:
        """Remove what puts left unfinished before ``cutoff``; return how many."""


def check_name(name: str) -> str:
    """Return the name if it is one of ours; raises UnsafeName.

    Components of ``0-9 a-z . _ -`` divided by single slashes, none beginning with a dot: no ``..``, nothing
    absolute, nothing that a case-insensitive file system would confuse.
    """
    fits = len(name) <= MAXIMUM_NAME and all(len(part) <= MAXIMUM_COMPONENT for part in name.split("/"))
    if not fits or not _NAME.fullmatch(name):
        raise UnsafeName(
            f"{name[:MAXIMUM_NAME]!r} is not a storage name: use 0-9 a-z . _ - in parts of at most "
            f"{MAXIMUM_COMPONENT} characters, divided by single slashes, no part beginning with a dot"
        )
    return name
