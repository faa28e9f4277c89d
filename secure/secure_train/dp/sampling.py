"""Poisson sampling, plain or truncated: the sampler that the accountant assumes, run exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import Words, derive, require_key, require_position

# Words drawn at a time: bounds memory to 8 MiB whatever the size of the dataset.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PoissonSampler:
    """Includes each of this rank's records independently with probability `rate`, at every step afresh.

    A step's sample is a pure function of (key, rank, num_records, rate, epoch, step): a worker restarted at
    any step continues the same stream, and a step run again sees the same records. Whoever does not hold the
    key cannot predict who was included, which is what amplification by sampling rests on.

    Inclusion compares a uniform 64-bit integer with floor(rate * 2^64), so the probability is never above
    `rate` and less than 2^-64 below it. An empty batch is a legitimate outcome and must still be released
    (as noise alone): skipping it would reveal that it was empty.

    With a `limit`, a sample that is larger is cut down to a uniformly random subset of that size (Chua et
    al., "Scalable DP-SGD", NeurIPS 2024). That costs privacy, for a record's presence then moves others out:
    account for it with `Mechanism.truncation` of the same rank's records and limit. Cutting off the tail of
    the sample instead would favour records by their place.

    Attributes:
        num_records: the rows held by this rank (its shard); indices are local to it.
        rate: the sampling probability q in (0, 1].
        key: 32 secret bytes, the same for the whole job; ranks differ by `rank`.
        rank: this worker's number.
        limit: the most records in a sample, at least 1; None for plain Poisson sampling.

    Raises:
        InvalidParameterError: a parameter is out of range.
    """

    num_records: int
    rate: float
    key: bytes = field(repr=False)
    rank: int
    limit: int | None = None

    def __post_init__(self) -> None:
        require_key(self.key)
        require_position(num_records=self.num_records, rank=self.rank)
        if not 0 < self.rate <= 1:
            raise InvalidParameterError(f"rate: must lie in (0, 1], got {self.rate!r}")
        if self.limit is not None and self.limit < 1:
            raise InvalidParameterError(f"limit: must be at least 1, got {self.limit!r}")

    def sample(self, epoch: int, step: int) -> torch.Tensor:
        """The records of one step: sorted local indices, int64, shape (k,), 0 ≤ k ≤ num_records and limit."""
        chosen = self._poisson(epoch, step)
        if self.limit is None or len(chosen) <= self.limit:
            return chosen
        words = self._words("truncate", epoch, step)
        # The records with the smallest of independent random words are a uniform subset. Equal words, once
        # in 2^64 / k^2 times, favour the record that comes first.
        kept = np.argsort(words.take(len(chosen)), kind="stable")[: self.limit]
        return chosen[torch.from_numpy(np.sort(kept))]

    def _poisson(self, epoch: int, step: int) -> torch.Tensor:
        require_position(epoch=epoch, step=step)
        threshold = int(Fraction(self.rate) * 2**64)
        if threshold == 2**64:
            return torch.arange(self.num_records, dtype=torch.int64)
        words = self._words("sample", epoch, step)
        chosen = [
            start + np.flatnonzero(words.take(min(_CHUNK, self.num_records - start)) < np.uint64(threshold))
            for start in range(0, self.num_records, _CHUNK)
        ]
        return torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *chosen]).astype(np.int64))

    def _words(self, purpose: str, epoch: int, step: int) -> Words:
        position = {"rank": self.rank, "epoch": epoch, "step": step, "records": self.num_records}
        return Words(derive(self.key, purpose, **position, rate=float(self.rate)))
