"""What a job's privacy figures are, and what they mean in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from secure_train.api.report import text
from secure_train.dp import DPStatement
from secure_train.wire.jobs import JobDetail
from secure_train.wire.models import ModelVersionView

Row = tuple[str, str, str]
"""A figure: what it is, its value, and what that means."""


@dataclass(frozen=True)
class Loss:
    """The privacy loss that a page is about.

    Attributes:
        epsilon: under add-or-remove-one, of everything released so far.
        final: there is a DP statement; otherwise the figure is what the ledger has charged.
    """

    epsilon: float
    delta: float
    training: float
    evaluation: float
    final: bool

    @property
    def odds(self) -> str:
        """The factor by which odds can change."""
        return text.number(math.exp(self.epsilon)) if self.epsilon < 700 else f"e^{text.figure(self.epsilon)}"

    @property
    def guesses_right(self) -> str:
        """The most that an attacker guesses right, who starts from even odds."""
        return _percent_below_one(best_guess(self.epsilon, self.delta))


def best_guess(epsilon: float, delta: float) -> float:
    """The largest share of right guesses whether a record was in the data, from even odds.

    Follows from the hypothesis-testing region of (ε, δ)-DP: false alarms + misses ≥ 2 (1 − δ) / (1 + e^ε)
    (Kairouz, Oh and Viswanath, ICML 2015, Theorem 2.1).
    """
    miss = math.exp(-epsilon) / (1 + math.exp(-epsilon))
    return 1 - (1 - delta) * miss


def statement_of(model: ModelVersionView | None) -> DPStatement | None:
    """Read the statement that was published with the model; None for a job without a model."""
    return None if model is None or not model.statement else DPStatement.model_validate(model.statement)


def loss_of(detail: JobDetail, statement: DPStatement | None) -> Loss:
    """Return the privacy loss so far: stated for a finished model, charged otherwise."""
    job = detail.job
    if statement is None:
        evaluation = math.fsum(release.epsilon for release in detail.releases)
        training = max(job.spent_epsilon - evaluation, 0.0)
        return Loss(job.spent_epsilon, job.spent_delta, training, evaluation, final=False)
    told = statement.guarantee
    evaluation = math.fsum(release.epsilon for release in statement.evaluations)
    return Loss(told.total_epsilon, told.delta, told.training_epsilon, evaluation, final=True)


def planned_rows(detail: JobDetail) -> list[Row]:
    """The mechanism of a job that has no statement, from its plan."""
    job = detail.job
    rows = [
        ("Unit of privacy", "record", "One row of the dataset is protected, not all rows of a person."),
        ("Adjacency", "add or remove one", "Compared are the dataset with and without that row."),
        ("δ allowed", text.figure(job.delta), "The chance that the bound of ε does not hold."),
        ("Noise multiplier σ", text.figure(job.noise_multiplier), _NOISE),
        ("Sampling rate q", text.figure(job.sampling_rate), _SAMPLING),
        ("Steps planned", f"{job.steps:,}", "Steps are charged before they run, and never more than these."),
    ]
    clipping = _privacy_section(detail).get("maxGradNorm")
    if clipping is not None:
        rows.insert(3, ("Clipping norm C", text.figure(clipping), _CLIPPING))
    return rows


def stated_rows(statement: DPStatement) -> list[Row]:
    """The figures of a statement."""
    guarantee, replaced = statement.guarantee, statement.guarantee_replace_one
    accountant = statement.accountant
    return [
        (
            "Unit of privacy",
            statement.unit_of_privacy,
            "One row of the dataset is protected, not all rows of a person.",
        ),
        (
            "ε, add or remove one",
            text.figure(guarantee.total_epsilon),
            "Compared are the dataset with and without one row. This is what the budget was charged.",
        ),
        ("… of training", text.figure(guarantee.training_epsilon), "All noised gradients together."),
        (
            "ε, replace one",
            text.figure(replaced.total_epsilon),
            "The same releases, where one row is exchanged for another: a stricter comparison.",
        ),
        ("δ", text.figure(guarantee.delta), "The chance that the bound of ε does not hold."),
        ("Clipping norm C", text.figure(statement.max_grad_norm), _CLIPPING),
        ("Noise multiplier σ", text.figure(statement.noise_multiplier), _NOISE),
        ("Sampling rate q", text.figure(statement.sampling_rate), _SAMPLING),
        ("Steps charged", f"{statement.steps:,}", "Over all noise epochs."),
        (
            "Expected batch size",
            text.figure(statement.expected_batch_size),
            "Public; real batches vary and are not told.",
        ),
        ("Workers", str(statement.workers), "They share the noise: their sum carries all of it."),
        ("Sampler that ran", statement.sampler_run, ""),
        ("Sampler assumed", statement.sampler_assumed, "By the accountant; it must be the one that ran."),
        ("Accountant", f"{accountant.name}, {accountant.version}", "Its ε is the one that counts."),
        (
            "Cross-checks",
            f"PRV {text.figure(accountant.cross_check_prv)}, RDP {text.figure(accountant.cross_check_rdp)}",
            f"ε of training by two other accountants ({accountant.cross_check_version}).",
        ),
        ("Randomness", statement.randomness, ""),
    ]


def public_inputs(statement: DPStatement) -> list[tuple[str, str]]:
    """What the statement takes as public."""
    return [
        (name, ", ".join(value) if isinstance(value, list) else _written(value))
        for name, value in statement.public_inputs.items()
    ]


def set_aside(detail: JobDetail) -> float | None:
    """ε that the job set aside for held-out metrics; None where it asked for none."""
    evaluation = _privacy_section(detail).get("evaluation")
    return None if evaluation is None else float(evaluation["epsilon"])


_NOISE = "Standard deviation of the noise in each step, as a multiple of C."
_SAMPLING = "Each row joins a step with this probability, by its own coin."
_CLIPPING = "The most that one row can move a step's gradient sum."


def _privacy_section(detail: JobDetail) -> dict[str, Any]:
    section: dict[str, Any] = detail.spec.get("privacy", {})
    return section


def _percent_below_one(value: float) -> str:
    """Write a percentage with as many nines as tell it from certainty."""
    for places in range(1, 9):
        written = f"{100 * value:.{places}f}"
        if float(written) < 100:
            return f"{written} %"
    return "100 %"


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else text.figure(value)
