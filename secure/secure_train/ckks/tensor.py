"""Encrypted tensors as plain integers: residues in NTT form, and a header.

No cryptographic object is inside, so they pickle without copies (protocol 5), lie in shared memory, are
written by safetensors, and are summed like any tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from secure_train.ckks.errors import Corrupted, InvalidInput
from secure_train.ckks.header import Header
from secure_train.ckks.packing import Integers


@dataclass(frozen=True, slots=True, eq=False)
class CipherTensor:
    """An encrypted tensor.

    Attributes:
        header: everything public about it.
        residues: int64 in [0, q), shape (*grid, components, N), NTT form (positions as SEAL orders them).

    Raises:
        Corrupted: the residues are not what the header says.
    """

    header: Header
    residues: torch.Tensor = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.header, self.residues, self.header.residues_shape)

    def __add__(self, other: CipherTensor) -> CipherTensor:
        """Add two tensors of the same key, parameters, packing, scale and shape.

        Raises:
            Mismatch: they are not; every difference is named.
            ScaleOverflow: the sum may wrap around in the worst case.
        """
        return total([self, other])

    def to(self, device: torch.device | str) -> CipherTensor:
        """Move the residues to a device."""
        return CipherTensor(self.header, self.residues.to(device))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.header, self.residues.cpu().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class SeededCipherTensor:
    """A freshly encrypted tensor at half the bytes: the second components are drawn from seeds.

    Only who holds the secret key can encrypt so. Adding and multiplying needs `expand` first, which needs no
    key.

    Attributes:
        header: everything public about it.
        first: int64 in [0, q), shape (*grid, N): the first components.
        seeds: uint8, shape (*grid, 81): SEAL's generator and seed for the second ones.

    Raises:
        Corrupted: the arrays are not what the header says.
    """

    header: Header
    first: torch.Tensor = field(repr=False)
    seeds: torch.Tensor = field(repr=False)

    def __post_init__(self) -> None:
        from secure_train.ckks.seal_ring import SEED_BYTES

        if self.header.components != 2:
            raise Corrupted(f"{self.header.content} cannot be seeded: it is no fresh encryption")
        grid = self.header.grid
        _check(self.header, self.first, (*grid, self.header.parameters.ring_degree))
        if self.seeds.dtype != torch.uint8 or tuple(self.seeds.shape) != (*grid, SEED_BYTES):
            raise Corrupted(
                f"seeds: need uint8 of shape {(*grid, SEED_BYTES)}, got {tuple(self.seeds.shape)}"
            )

    def expand(self) -> CipherTensor:
        """The same encryption in full.

        Raises:
            Corrupted: SEAL refuses a seed.
        """
        from secure_train.ckks.seal_ring import ring

        drawn = ring(self.header.parameters)
        words = np.empty(self.header.residues_shape, np.int64)
        flat = words.reshape(-1, 2, self.header.parameters.ring_degree)
        first = self.first.cpu().numpy().reshape(flat.shape[0], -1)
        seeds = self.seeds.cpu().numpy().reshape(flat.shape[0], -1)
        for index in range(flat.shape[0]):
            flat[index] = drawn.expand_seeded(first[index], seeds[index].tobytes())
        return CipherTensor(self.header, torch.from_numpy(words))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt_seeded, (self.header, self.first.cpu().numpy(), self.seeds.cpu().numpy())


def total(tensors: Iterable[CipherTensor]) -> CipherTensor:
    """The sum of encrypted tensors, such as the partial gradients of workers.

    Raises:
        InvalidInput: there is none.
        Mismatch: they do not belong together; every difference is named.
        ScaleOverflow: the sum may wrap around in the worst case.
    """
    parts = list(tensors)
    if not parts:
        raise InvalidInput("the sum of no encrypted tensors has no key, scale or shape")
    header, residues = parts[0].header, parts[0].residues
    for part in parts[1:]:
        header = header.summed(part.header)
        # Both are below q < 2^54.
        residues = (residues + part.residues.to(residues.device)) % header.parameters.modulus
    return CipherTensor(header, residues)


def _check(header: Header, residues: torch.Tensor, shape: tuple[int, ...]) -> None:
    if residues.dtype != torch.int64 or tuple(residues.shape) != shape:
        raise Corrupted(
            f"{header.content}: need int64 residues of shape {shape}, got {residues.dtype} of "
            f"{tuple(residues.shape)}: it was truncated, or has another's header"
        )
    if residues.numel():
        low, high = torch.aminmax(residues)
        if int(low) < 0 or int(high) >= header.parameters.modulus:
            raise Corrupted(f"{header.content}: residues are not in [0, q): it was altered")


def tensor_of(array: Integers) -> torch.Tensor:
    """An array as a tensor without a copy. What others share may be read-only; nothing here writes to it."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    # Torch has no read-only tensors and warns; through DLPack or the buffer protocol it is the same.
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _rebuilt(header: Header, residues: Integers) -> CipherTensor:
    return CipherTensor(header, tensor_of(residues))


def _rebuilt_seeded(header: Header, first: Integers, seeds: Integers) -> SeededCipherTensor:
    return SeededCipherTensor(header, tensor_of(first), tensor_of(seeds))
