"""A manifest: which tensors there are, and which blocks each consists of. Sealed, and written last.

Its digest is SHA-256 over its canonical JSON (RFC 8785). That JSON holds a SHA-256 of every tensor's bytes,
so a digest pins the content whoever holds the data key.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import rfc8785
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from secure_train import vault
from secure_train.vault import DataKey, open_sealed, seal

from .cipher import BLOCK_BYTES
from .dtypes import DTYPES, itemsize
from .errors import CorruptManifest, InvalidMeta, WrongDigest, WrongKey

_FORMAT: Literal["secure-train/manifest/1"] = "secure-train/manifest/1"
#: Canonical JSON refuses greater ones (RFC 8785 section 3.2.2.3), so a greater one was a float.
_LARGEST_INTEGER = 2**53 - 1
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class TensorRecord(BaseModel):
    """One tensor: its type (safetensors' name), shape, SHA-256 of its bytes, and its blocks in order."""

    model_config = _STRICT
    name: str
    dtype: str
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    sha256: _Sha256
    blocks: tuple[_Sha256, ...]

    @model_validator(mode="after")
    def _consistent(self) -> TensorRecord:
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown type {self.dtype!r}")
        if len(self.blocks) != -(-self.nbytes // BLOCK_BYTES):
            raise ValueError("the number of blocks does not fit the shape")
        return self

    @property
    def nbytes(self) -> int:
        """How many bytes the tensor has."""
        return math.prod(self.shape) * itemsize(self.dtype)

    def block_length(self, index: int) -> int:
        """Return how many bytes of plaintext block ``index`` has."""
        return min(BLOCK_BYTES, self.nbytes - index * BLOCK_BYTES)


class Manifest(BaseModel):
    """What one write stored. ``meta`` is the caller's own JSON; whole floats come back as integers."""

    model_config = _STRICT
    format: Literal["secure-train/manifest/1"] = _FORMAT
    id: str
    kind: str
    block_bytes: Literal[262144] = BLOCK_BYTES
    meta: dict[str, JsonValue]
    tensors: tuple[TensorRecord, ...]

    @field_validator("meta")
    @classmethod
    def _floats_beyond_integers(cls, meta: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return {name: _as_written(value) for name, value in meta.items()}

    def block_ids(self) -> frozenset[str]:
        """Return the names of all its blocks."""
        return frozenset(block for tensor in self.tensors for block in tensor.blocks)


def digest_of(canonical: bytes) -> str:
    """Return the manifest's digest as 64 hexadecimal digits."""
    return hashlib.sha256(canonical).hexdigest()


def _as_written(value: JsonValue) -> JsonValue:
    """Undo what canonical JSON does to whole floats of 2^53 and more: it writes them like integers."""
    if isinstance(value, dict):
        return {name: _as_written(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_written(inner) for inner in value]
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return float(value)
    return value


def canonical_json(
    manifest_id: str, kind: str, meta: Mapping[str, JsonValue], tensors: Sequence[TensorRecord]
) -> bytes:
    """Return the manifest's canonical JSON; raises InvalidMeta."""
    try:
        return rfc8785.dumps(
            {
                "format": _FORMAT,
                "id": manifest_id,
                "kind": kind,
                "block_bytes": BLOCK_BYTES,
                "meta": dict(meta),
                "tensors": [record.model_dump(mode="json") for record in tensors],
            }
        )
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise InvalidMeta(f"manifest {manifest_id} cannot be canonical JSON: {error}") from None


def seal_manifest(data_key: DataKey, manifest_id: str, canonical: bytes) -> bytes:
    """Return the manifest as it is stored, bound to its id."""
    return seal(data_key, canonical, _aad(manifest_id))


def open_manifest(
    data_key: DataKey, manifest_id: str, stored: bytes, expected_digest: str | None
) -> tuple[Manifest, str]:
    """Return the manifest and its digest; raises WrongKey, WrongDigest, CorruptManifest."""
    try:
        canonical = open_sealed(data_key, stored, _aad(manifest_id))
    except vault.WrongKey:
        raise WrongKey(
            f"manifest {manifest_id} was sealed with another data key, or its header was altered"
        ) from None
    except vault.Corrupted as error:
        raise CorruptManifest(f"manifest {manifest_id}: {error}") from error
    digest = digest_of(canonical)
    if expected_digest is not None and digest != expected_digest:
        raise WrongDigest(f"manifest {manifest_id} has digest {digest}, but {expected_digest} was asked for")
    try:
        manifest = Manifest.model_validate_json(canonical)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise CorruptManifest(f"manifest {manifest_id} is not of format 1: {reasons}") from None
    if manifest.id != manifest_id:
        raise CorruptManifest(f"manifest {manifest_id} names itself {manifest.id}")
    return manifest, digest


def _aad(manifest_id: str) -> bytes:
    return _FORMAT.encode() + b"\0" + manifest_id.encode()
