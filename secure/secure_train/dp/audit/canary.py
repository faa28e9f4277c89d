"""One-run audits: canaries in gradient space, seen in every noised sum, or in input space, seen in losses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from secure_train.dp.audit import linear
from secure_train.dp.audit.likelihood import evidence_of_inclusion
from secure_train.dp.audit.one_run import Coins, OneRunBound, Scores, audit_scores
from secure_train.dp.audit.subject import Subject, Trained
from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import Words, derive


@dataclass(frozen=True)
class Trial:
    """How bounds are drawn.

    Attributes:
        delta: the δ to state ε at.
        key: 32 bytes; coins, samples and noise derive from it.
        failure: probability with which a correct engine may show more than it claims.
        progress: is told the number of steps taken.
    """

    delta: float
    key: bytes
    failure: float = 0.05
    progress: Callable[[int], None] = lambda done: None


def gradient_canary_audit(subject: Subject, canaries: int, trial: Trial) -> OneRunBound:
    """White box: the data is canaries alone, each of which moves the sum by C in a direction of its own.

    Nothing else is in the sums, whatever a model's own records would add: their directions are orthogonal.

    Args:
        subject: the claim and the engine.
        canaries: m, how many fair coins; memory grows with q·m².
        trial: confidence and key.
    """
    included = _coins(canaries, trial.key)
    records = linear.directions(torch.from_numpy(np.flatnonzero(included)), canaries, subject.max_grad_norm)
    return _run(subject, linear.linear_model(canaries), records, included, trial)


def model_canary_audit(
    subject: Subject, trained: Trained, records: tuple[Tensor, Tensor], canaries: int, trial: Trial
) -> OneRunBound:
    """White box, within the training of a real model: canaries have weights of their own beside its.

    A canary's gradient lies in its own coordinate of the flat sum; records and canaries are clipped, noised
    and summed together.

    Args:
        subject: the claim and the engine.
        trained: the model, its per-record losses and its optimizer; a batch is (inputs, targets).
        records: inputs and targets, public or synthetic; they are in the data for certain.
        canaries: m.
        trial: confidence and key.
    """
    included = _coins(canaries, trial.key)
    (marks,) = linear.directions(torch.from_numpy(np.flatnonzero(included)), canaries, subject.max_grad_norm)
    inputs, targets = records
    everything = (
        torch.cat([inputs, inputs.new_zeros(len(marks), *inputs.shape[1:])]),
        torch.cat([targets, targets.new_zeros(len(marks), *targets.shape[1:])]),
        torch.cat([marks.new_zeros(len(inputs), canaries), marks]),
    )
    return _run(subject, _beside(trained, canaries), everything, included, trial)


def input_canary_audit(
    subject: Subject,
    trained: Trained,
    records: tuple[Tensor, Tensor],
    canaries: tuple[Tensor, Tensor],
    trial: Trial,
) -> OneRunBound:
    """Black box: the canaries are inputs (mislabelled ones, say), and only the final model is seen.

    A canary's score is how much training lowered its loss. Far weaker than white box: bounds near 0 say
    little about the engine, bounds above the claim refute it.

    Args:
        subject: the claim and the engine.
        trained: the model, its per-record losses and its optimizer; a batch is (inputs, targets).
        records: inputs and targets, public or synthetic; they are in the data for certain.
        canaries: inputs and targets of the m canaries, each of which is in the data by a coin.
        trial: confidence and key.
    """
    included = _coins(len(canaries[0]), trial.key)
    chosen = torch.from_numpy(included)
    everything = [torch.cat([own, extra[chosen]]) for own, extra in zip(records, canaries, strict=True)]

    def losses(model: nn.Module) -> Scores:
        with torch.no_grad():
            return np.asarray(trained.loss_fn(model.eval(), canaries).double().numpy())

    before = losses(copy.deepcopy(trained.model))
    model = subject.run(
        trained, subject.shards(everything), trial.key, lambda epoch, step, released: trial.progress(1)
    )
    return audit_scores(before - losses(model), included, trial.delta, trial.failure)


def _run(
    subject: Subject, trained: Trained, records: tuple[Tensor, ...], included: Coins, trial: Trial
) -> OneRunBound:
    scores = np.zeros(len(included))

    def observe(epoch: int, step: int, released: Tensor) -> None:
        own = released[-len(included) :].numpy()
        scores[:] += evidence_of_inclusion(own, subject.mechanism)
        trial.progress(1)

    subject.run(trained, subject.shards(records), trial.key, observe)
    return audit_scores(scores, included, trial.delta, trial.failure)


def _coins(canaries: int, key: bytes) -> Coins:
    if canaries < 2:
        raise InvalidParameterError(f"canaries: need at least 2, got {canaries}")
    words = Words(derive(key, "audit-coins")).take(canaries)
    return np.asarray(words >= np.uint64(1 << 63))


class _Beside(nn.Module):
    """A model, and one weight per canary. The canaries come last among the parameters."""

    def __init__(self, body: nn.Module, canaries: int) -> None:
        super().__init__()
        self.body = body
        self.canaries = nn.Linear(canaries, 1, bias=False)
        nn.init.zeros_(self.canaries.weight)


def _beside(trained: Trained, canaries: int) -> Trained:
    def losses(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        assert isinstance(model, _Beside)  # noqa: S101  (how it was built)
        inputs, targets, marks = batch
        own: Tensor = trained.loss_fn(model.body, (inputs, targets))
        return torch.where(marks.any(1), model.canaries(marks).squeeze(1), own)

    return Trained(_Beside(trained.model, canaries), losses, trained.optimizer)
