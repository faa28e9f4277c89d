"""The one byte sequence that stands for a specification, and its digest."""

from __future__ import annotations

import hashlib

import rfc8785

from secure_train.spec.base import SpecModel


def canonical(spec: SpecModel) -> bytes:
    """RFC 8785 JSON of a job or a dataset schema, with every default written out.

    Two specifications have equal bytes exactly when they mean the same; `job_from_json` and
    `schema_from_json` read the bytes back.
    """
    return rfc8785.dumps(spec.model_dump(mode="json", by_alias=True))


def digest(spec: SpecModel) -> str:
    """SHA-256 over `canonical`, as `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(canonical(spec)).hexdigest()}"
