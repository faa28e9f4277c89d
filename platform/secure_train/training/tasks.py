"""What a target's task means: width of the output, loss of a record, what is measured on held-out rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_train.dp import bounded_sum
from secure_train.spec import BinaryTarget, DatasetSchema, MulticlassTarget, RegressionTarget

LOG_LOSS_BOUND = 4.0
"""Public bound, in nats, at which one record's log loss is clipped before it is summed for a release: reached
where the right label is given a probability below 1.8 %. A larger bound would be more faithful and need
proportionally more noise."""


@dataclass(frozen=True, slots=True)
class HeldOutSums:
    """Sums over held-out rows. Exact values of private data: never released as they are.

    Adding or removing one record changes ``correct`` by at most 1 and ``error`` by at most ``error_bound``.

    Attributes:
        rows: number of rows, public.
        correct: rows that were classified right; None for regression.
        error: sum of each record's error, clipped to [0, ``error_bound``]. Classification: log loss in nats.
            Regression: absolute error in the target's own unit.
        error_bound: public.
    """

    rows: int
    correct: int | None
    error: float
    error_bound: float


class Task(ABC):
    """The meaning of a model's outputs."""

    outputs: int
    """Width of the model's output."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Per-record training losses, (rows,).

        ``outputs`` is (rows, ``self.outputs``), ``targets`` as in `Examples.targets`.
        """

    def batch_losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Per-record training losses of a model on (features, targets), (rows,)."""
        features, targets = batch
        return self.losses(model(features), targets)

    @abstractmethod
    def held_out(self, outputs: Tensor, targets: Tensor) -> HeldOutSums:
        """Sum up how well the outputs fit. A non-finite output counts as wrong, with the largest error."""

    @abstractmethod
    def predictions(self, outputs: Tensor) -> Tensor:
        """Class probabilities (rows, classes), or the target's value (rows, 1); float64."""


class Binary(Task):
    """Two classes, one logit: that of the positive label."""

    outputs = 1

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Logistic loss in nats."""
        return functional.binary_cross_entropy_with_logits(outputs.squeeze(1), targets, reduction="none")

    def held_out(self, outputs: Tensor, targets: Tensor) -> HeldOutSums:
        """Accuracy at probability one half, and clipped log loss."""
        correct = (outputs.squeeze(1) > 0) == (targets > 0.5)
        return _classified(outputs, correct, self.losses(outputs.double(), targets.double()))

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities of the negative and of the positive label."""
        positive = outputs.double().sigmoid()
        return torch.cat([1 - positive, positive], dim=1)


class Multiclass(Task):
    """Several classes, one logit each."""

    def __init__(self, classes: int) -> None:
        self.outputs = classes

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy in nats."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def held_out(self, outputs: Tensor, targets: Tensor) -> HeldOutSums:
        """Accuracy of the likeliest class, and clipped log loss."""
        return _classified(outputs, outputs.argmax(dim=1) == targets, self.losses(outputs.double(), targets))

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probability of each class, in the schema's order."""
        return outputs.double().softmax(dim=1)


class Regression(Task):
    """A number between public bounds; the model works on it scaled to [-1, 1]."""

    outputs = 1

    def __init__(self, lower: float, upper: float) -> None:
        self._lower, self._upper = lower, upper

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error on the scaled target."""
        return (outputs.squeeze(1) - targets) ** 2

    def held_out(self, outputs: Tensor, targets: Tensor) -> HeldOutSums:
        """Absolute error in the target's own unit, at most the distance of its bounds."""
        bound = self._upper - self._lower
        errors = (self._predicted(outputs) - self._in_own_unit(targets)).abs()
        return HeldOutSums(len(targets), None, bounded_sum(errors, bound), bound)

    def predictions(self, outputs: Tensor) -> Tensor:
        """The value, within the public bounds."""
        return self._predicted(outputs).unsqueeze(1)

    def _predicted(self, outputs: Tensor) -> Tensor:
        return self._in_own_unit(outputs.squeeze(1)).clamp(self._lower, self._upper)

    def _in_own_unit(self, scaled: Tensor) -> Tensor:
        return self._lower + (scaled.double() + 1) / 2 * (self._upper - self._lower)


def task_of(schema: DatasetSchema) -> Task:
    """The task that a dataset's target sets."""
    target: BinaryTarget | MulticlassTarget | RegressionTarget = schema.target
    if isinstance(target, BinaryTarget):
        return Binary()
    if isinstance(target, MulticlassTarget):
        return Multiclass(len(target.classes))
    return Regression(target.lower, target.upper)


def _classified(outputs: Tensor, correct: Tensor, losses: Tensor) -> HeldOutSums:
    right = int((correct & outputs.isfinite().all(dim=1)).sum())
    return HeldOutSums(len(correct), right, bounded_sum(losses, LOG_LOSS_BOUND), LOG_LOSS_BOUND)
