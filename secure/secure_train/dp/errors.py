"""What can go wrong in the differential-privacy engine. Everything derives from `DPError`."""

from __future__ import annotations


class DPError(Exception):
    """Root of every error raised by `secure_train.dp`."""


class InvalidParameterError(DPError, ValueError):
    """A public parameter (never a record) lies outside its meaningful range."""


class AccountingDisagreement(DPError):
    """Independent privacy accountants disagree beyond their stated errors: no epsilon may be reported."""


class UnsupportedModel(DPError):
    """Per-record clipping of this model would not be correct. The message names the module and the remedy."""


class RemovalTestFailed(DPError):
    """Removing one record changed more than that record's own clipped contribution.

    Attributes:
        ratio: the largest L2 change of the clipped sum, in units of the clipping norm C (at most 1 is right).
        coupling: the largest L2 change of the *other* records' contributions, in units of C (0 is right).
    """

    def __init__(self, message: str, *, ratio: float, coupling: float) -> None:
        super().__init__(message)
        self.ratio = ratio
        self.coupling = coupling


class NoiseReuseError(DPError):
    """A step position that was already released would be released again with the same noise."""
