"""Where things lie in a backend."""

from __future__ import annotations

from .backend import check_name

BLOCKS = "blocks"
MANIFESTS = "manifests"


def block_name(block_id: str) -> str:
    """Return ``blocks/ab/abcd…``: 256 folders keep each of them short."""
    return f"{BLOCKS}/{block_id[:2]}/{block_id}"


def block_of(name: str) -> str:
    """Return the id of the block with this name."""
    return name.rpartition("/")[2]


def manifest_name(manifest_id: str) -> str:
    """Return ``manifests/<id>``; raises UnsafeName."""
    return f"{MANIFESTS}/{check_name(manifest_id)}"


def manifest_of(name: str) -> str:
    """Return the id of the manifest with this name."""
    return name.removeprefix(f"{MANIFESTS}/")
