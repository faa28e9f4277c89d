"""Sums of per-record gradients, each clipped to a norm: exact, and at nearly the price of plain training."""

from secure_train.dp.clipping.batch import Batch, LossFunction
from secure_train.dp.clipping.bounds import ClippedSum, Clipping
from secure_train.dp.clipping.clipper import Clipper, PerformanceFlags

__all__ = ["Batch", "ClippedSum", "Clipper", "Clipping", "LossFunction", "PerformanceFlags"]
