"""How much a file of rows may unfold to in memory. A compressed file says little about its contents' size.

Parquet is checked batch by batch, after a batch was decoded: a file with huge cells takes their memory once
before it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_train.registry.errors import TableTooLarge

_CELL_BYTES = 8
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one file.

    Attributes:
        rows: at most so many.
        columns: at most so many, those that are not read included.
        unfolded_bytes: of the columns that are read, as values; a number or a category takes 8 bytes.
        text: characters of one value, as Python's csv module bounds them.
    """

    rows: int = 50_000_000
    columns: int = 10_000
    unfolded_bytes: int = 4 * _GIB
    text: int = 131_072

    def require_columns(self, columns: int) -> None:
        """Raise TableTooLarge for too many columns."""
        if columns > self.columns:
            raise TableTooLarge("columns", f"{columns:,}", f"{self.columns:,}")

    def require(self, rows: int, columns: int, size: int = 0) -> None:
        """Raise TableTooLarge for too many rows of the columns that are read, or too many bytes of them."""
        if rows > self.rows:
            raise TableTooLarge("rows", f"{rows:,} or more", f"{self.rows:,}")
        unfolded = max(size, rows * columns * _CELL_BYTES)
        if unfolded > self.unfolded_bytes:
            given, allowed = f"{unfolded / _GIB:.3g} GiB or more", f"{self.unfolded_bytes / _GIB:.3g} GiB"
            raise TableTooLarge("bytes once it is unfolded", given, allowed)

    def require_text(self, characters: int) -> None:
        """Raise TableTooLarge for a value that is too long."""
        if characters > self.text:
            raise TableTooLarge("characters in one value", f"{characters:,}", f"{self.text:,}")


DEFAULT_LIMITS = Limits()
