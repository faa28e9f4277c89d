"""Encrypted tensors in safetensors files: the header as metadata, the residues as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from secure_train.ckks.errors import Corrupted
from secure_train.ckks.header import Header
from secure_train.ckks.tensor import CipherTensor, SeededCipherTensor


def write_tensor(path: Path, tensor: CipherTensor | SeededCipherTensor) -> None:
    """Write one encrypted tensor; the file appears complete or not at all."""
    if isinstance(tensor, SeededCipherTensor):
        parts = {"first": tensor.first, "seeds": tensor.seeds}
    else:
        parts = {"residues": tensor.residues}
    contiguous = {name: part.cpu().contiguous() for name, part in parts.items()}
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(save(contiguous, metadata={"header": tensor.header.to_json().decode()}))
    partial.replace(path)


def read_tensor(path: Path) -> CipherTensor | SeededCipherTensor:
    """Read what `write_tensor` wrote.

    Raises:
        Corrupted: the file was truncated or altered, or is something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            parts: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = Header.from_json(_parsed(metadata.get("header", "")))
    except (SafetensorError, Corrupted) as error:
        raise Corrupted(f"{path}: {error}") from None
    if set(parts) == {"residues"}:
        return CipherTensor(header, parts["residues"])
    if set(parts) == {"first", "seeds"}:
        return SeededCipherTensor(header, parts["first"], parts["seeds"])
    raise Corrupted(f"{path}: holds {sorted(parts)}, which is no encrypted tensor")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise Corrupted("it has no header of an encrypted tensor") from None
