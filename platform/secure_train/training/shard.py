"""The rows that one worker holds, and the batches that it draws from them."""

from __future__ import annotations

import base64

import torch
from torch import Tensor

from secure_train.blocks import BlockStore
from secure_train.blocks.errors import BlockError, CorruptManifest, WrongKey
from secure_train.dp import PoissonSampler
from secure_train.spec import DatasetSchema
from secure_train.training.encoding import Examples, Split, encode, split_rows
from secure_train.training.errors import EncodingError
from secure_train.training.failures import PermanentFailure
from secure_train.vault import DataKey
from secure_train.wire.worker import DatasetGrant


def read_columns(store: BlockStore, grant: DatasetGrant) -> dict[str, Tensor]:
    """Read the sealed columns of the dataset version, verified against the digest that the job pins.

    Raises:
        PermanentFailure: they are damaged; reading again would not help.
    """
    key = DataKey(base64.b64decode(grant.data_key))
    try:
        return store.read(key, grant.manifest_id, expected_digest=grant.digest).tensors
    except (BlockError, CorruptManifest, WrongKey) as error:
        raise PermanentFailure(f"dataset cannot be read: {error}") from None


def encode_split(
    schema: DatasetSchema, columns: dict[str, Tensor], split: Split, *, rank: int = 0, world_size: int = 1
) -> Examples:
    """Encode every ``world_size``-th row of a split, beginning with the ``rank``-th.

    Which rank holds a row depends on its position alone, never on what it holds.

    Raises:
        PermanentFailure: rows and schema do not fit.
    """
    try:
        return encode(schema, columns, split_rows(columns, split)[rank::world_size])
    except EncodingError as error:
        raise PermanentFailure(str(error)) from None


class Shard:
    """One worker's training rows. A batch is a pure function of (key, rank, noise epoch, step)."""

    def __init__(self, rows: Examples, rate: float, key: bytes, rank: int, device: torch.device) -> None:
        self._features = rows.features.to(device)
        self._targets = rows.targets.to(device)
        self._sampler = PoissonSampler(len(rows), rate, key, rank)

    def batch(self, noise_epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """This worker's part of one step's Poisson sample: features and targets. It may be empty."""
        chosen = self._sampler.sample(noise_epoch, step).to(self._features.device)
        return self._features[chosen], self._targets[chosen]
