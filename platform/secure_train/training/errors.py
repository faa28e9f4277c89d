"""What can go wrong in training. Messages never quote a record."""

from __future__ import annotations


class TrainingError(Exception):
    """Root of this package's errors."""


class EncodingError(TrainingError):
    """Stored columns do not fit the dataset's schema."""


class ModelError(TrainingError):
    """The model of a job cannot be built, or does not fit its dataset. Trying again would not help."""
