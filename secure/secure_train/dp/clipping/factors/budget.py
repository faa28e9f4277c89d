"""How much memory per-record gradients may take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SCRATCH_BYTES = 1 << 28
"""Memory for what is used at once and never kept, such as Gram matrices and patches of convolutions."""


def in_scratch(records: int, bytes_per_record: int) -> Iterator[slice]:
    """Slices of records that fit the scratch memory one after the other; one record at least."""
    return InstantiationBudget(SCRATCH_BYTES).chunks(records, bytes_per_record)


@dataclass
class InstantiationBudget:
    """Bytes of per-record gradients that one physical batch may hold at a time.

    What is kept from norms to weighted sums is taken off; what is only passed through is chunked to fit.

    Attributes:
        left: bytes.
    """

    left: int

    def keep(self, size: int) -> bool:
        """Reserve memory until the physical batch is done. False, and nothing reserved, if there is none."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def chunks(self, records: int, bytes_per_record: int) -> Iterator[slice]:
        """Slices of records that fit one after the other; one record at least."""
        size = max(1, self.left // max(1, bytes_per_record))
        for start in range(0, records, size):
            yield slice(start, min(start + size, records))
