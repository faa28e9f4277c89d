"""An encrypted, compressed, deduplicating store for the tensors of datasets and checkpoints.

>>> store = BlockStore(DirectoryBackend(Path("blocks")))  # doctest: +SKIP
>>> ref = store.write(key, model.state_dict(), {"step": 100}, manifest_id="job-7/step-100", kind="checkpoint")
...     # doctest: +SKIP
>>> store.read(key, ref).tensors["weight"]  # doctest: +SKIP
"""

from .backend import BlockBackend, Entry
from .directory import DirectoryBackend
from .errors import (
    BackendFailed,
    BlockError,
    BlocksError,
    BlocksVanished,
    CorruptBlock,
    CorruptManifest,
    GraceTooShort,
    InvalidMeta,
    ManifestExists,
    MissingBlock,
    MissingManifest,
    NotStored,
    UnknownTensor,
    UnlistedManifests,
    UnsafeName,
    UnsupportedTensor,
    WrongDigest,
    WrongKey,
)
from .garbage import MINIMUM_GRACE, GarbageReport
from .manifest import Manifest, TensorRecord
from .reader import OpenManifest, Stored
from .store import BlockStore, ManifestRef

__all__ = [
    "MINIMUM_GRACE",
    "BackendFailed",
    "BlockBackend",
    "BlockError",
    "BlockStore",
    "BlocksError",
    "BlocksVanished",
    "CorruptBlock",
    "CorruptManifest",
    "DirectoryBackend",
    "Entry",
    "GarbageReport",
    "GraceTooShort",
    "InvalidMeta",
    "Manifest",
    "ManifestExists",
    "ManifestRef",
    "MissingBlock",
    "MissingManifest",
    "NotStored",
    "OpenManifest",
    "Stored",
    "TensorRecord",
    "UnknownTensor",
    "UnlistedManifests",
    "UnsafeName",
    "UnsupportedTensor",
    "WrongDigest",
    "WrongKey",
]
