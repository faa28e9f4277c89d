"""Everything that can go wrong in the block store. What concerns a block names its tensor and its index."""

from __future__ import annotations

from secure_train import vault


class BlocksError(Exception):
    """Root of this package's errors."""


class BackendFailed(BlocksError):
    """The storage underneath refused or failed: no space, no permission, a symbolic link in the way."""


class NotStored(BlocksError):
    """The backend holds nothing under this name."""


class UnsafeName(BlocksError):
    """A name that could lead out of the store, or that not every backend can hold."""


class UnsupportedTensor(BlocksError):
    """A tensor whose type has no stored form."""


class InvalidMeta(BlocksError):
    """Metadata that canonical JSON cannot hold."""


class ManifestExists(BlocksError):
    """A manifest of this id is stored already, with other content. Manifests are written once."""


class MissingManifest(BlocksError):
    """There is no manifest of this id."""


class CorruptManifest(BlocksError):
    """A manifest was altered or truncated, stands under another's id, or is in no format that we know."""


class WrongDigest(CorruptManifest):
    """The manifest is intact, but not the one that was asked for by digest."""


class WrongKey(BlocksError, vault.WrongKey):
    """The manifest was sealed with another data key."""


class UnknownTensor(BlocksError):
    """The manifest lists no tensor of this name."""


class BlockError(BlocksError):
    """One block cannot be read. ``tensor`` and ``index`` say which."""

    def __init__(self, tensor: str, index: int, reason: str) -> None:
        super().__init__(f"block {index} of tensor {tensor!r}: {reason}")
        self.tensor = tensor
        self.index = index
        self.reason = reason


class CorruptBlock(BlockError):
    """A block was altered, truncated, or replaced by another one."""


class MissingBlock(BlockError):
    """A block is gone from the backend."""


class UnlistedManifests(BlocksError):
    """Collecting garbage would make manifests unreadable that are stored but were not named as live."""


class GraceTooShort(BlocksError):
    """The grace asked for could delete blocks of a write that is still going on."""


class BlocksVanished(BlocksError):
    """Blocks were deleted while a write relied on them. Nothing was committed; write again."""
