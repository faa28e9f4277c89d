"""Which rows are held out: a keyed pseudo-random choice that looks at nothing but how many rows there are."""

from __future__ import annotations

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from secure_train.registry.errors import ProblemKind, Problems

KEY_PURPOSE = b"secure-train/holdout/1"
"""Info string under which the key derives from the dataset version's data key (HKDF)."""


def holdout_count(rows: int, fraction: float) -> int:
    """How many rows are held out: the fraction of them, rounded half to even.

    Raises:
        RowErrors: either part would be empty though the fraction wants both.
    """
    count = round(rows * fraction)
    if fraction > 0 and not 0 < count < rows:
        problems = Problems("row")
        problems.add(ProblemKind.TOO_FEW_ROWS, given=str(rows), allowed=f"at least {int(1 / fraction) + 1}")
        raise problems.error()
    return count


def holdout_mask(rows: int, fraction: float, key: bytes) -> Tensor:
    """Choose uniformly among all sets of that size: bool, (rows,), True where held out.

    Each row gets 64 bits of AES-256 in counter mode under ``key`` (32 bytes, used for nothing else); the rows
    with the smallest are held out. Who lacks the key cannot tell which rows those are, and no value of a row
    has a say in it.
    """
    count = holdout_count(rows, fraction)
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    tickets = np.frombuffer(stream.update(bytes(8 * rows)), dtype="<u8")
    mask = torch.zeros(rows, dtype=torch.bool)
    mask[torch.from_numpy(np.argsort(tickets, kind="stable")[:count])] = True
    return mask
