"""The DP statement: everything a reader needs to judge a privacy claim, as one JSON-able value.

The fields follow NIST SP 800-226 (Guidelines for Evaluating Differential Privacy Guarantees) and the
reporting checklist of Ponomareva et al., "How to DP-fy ML" (JAIR 2023), §5.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal

from pydantic import Field

from secure_train.dp.accounting import Mechanism, cross_check, epsilon_replace_one
from secure_train.dp.adjacency import Adjacency
from secure_train.dp.clipping import Clipping
from secure_train.dp.disclosures import (
    Accountant,
    DatasetSpend,
    EmpiricalAudit,
    EvaluationRelease,
    PrivacyLoss,
    Tuning,
    Value,
)
from secure_train.dp.errors import InvalidParameterError

_MECHANISM = "DP-SGD: Gaussian noise on Poisson-sampled sums of per-record clipped gradients"
_RNG = (
    "Keystreams of AES-256-CTR (ChaCha20 for noise on CUDA devices) under per-position HKDF-SHA256 keys that "
    "derive from the job's secret key: sampling, and Gaussian noise by Box-Muller. OpenDP's discrete Laplace "
    "sampler on operating-system randomness: evaluations"
)
_FLOAT_CAVEAT = (
    "The training guarantee is for real arithmetic. Gaussian noise is made and added in the model's own "
    "precision; low-order bits can in principle tell more (Mironov, CCS 2012), and the clipping bound holds "
    "up to float32 rounding. Evaluation noise is exact integer noise without this caveat."
)
_TRAINED = (
    "noised gradient sums of all steps charged",
    "checkpoints, which are functions of them",
    "the model, which is the last of them",
)
_ASSUMPTIONS = (
    "One record is one row of the dataset; people with several rows get proportionally weaker protection.",
    "The number of rows, the held-out row count, bounds, categories and all hyperparameters are public or "
    "were chosen without looking at the private data.",
    "The sampling and noise key stays secret, and each position under it releases one value only.",
    "Released are the noised gradient sums (hence every checkpoint and the final model) and the listed "
    "evaluations; no other value computed from records leaves the job.",
    "Training and evaluation compose sequentially (basic composition), even where they read disjoint rows.",
)


class DPStatement(Value):
    """A complete privacy claim. `model_dump(mode="json")` is its stable form.

    Attributes:
        released: everything computed from private records that left the job.
        tuning: the search that the model came out of; None if none was charged for it. What its author learnt
            from private rows in other ways is covered by no statement.
        empirical_audit: None until one was run at the same parameters (`with_audit`).
        dataset_spend: None in the statement as published; it is told as of when a statement is read.
    """

    schema_version: Literal[1] = 1
    unit_of_privacy: Literal["record"] = "record"
    guarantee: PrivacyLoss
    guarantee_replace_one: PrivacyLoss
    mechanism: str
    max_grad_norm: float = Field(gt=0)
    clipping: Clipping
    noise_multiplier: float
    sampling_rate: float
    steps: int
    expected_batch_size: float = Field(gt=0)
    workers: int = Field(ge=1)
    sampler_run: str
    sampler_assumed: str
    accountant: Accountant
    released: tuple[str, ...]
    evaluations: tuple[EvaluationRelease, ...]
    tuning: Tuning | None
    public_inputs: dict[str, str | int | float | list[str]]
    randomness: str
    float_caveat: str
    assumptions: tuple[str, ...]
    empirical_audit: EmpiricalAudit | None = None
    dataset_spend: DatasetSpend | None = None


def build_statement(
    mechanism: Mechanism,
    delta: float,
    *,
    max_grad_norm: float,
    clipping: Clipping,
    expected_batch_size: float,
    workers: int,
    public_inputs: Mapping[str, str | int | float | list[str]],
    evaluations: Sequence[EvaluationRelease] = (),
    tuning: Tuning | None = None,
) -> DPStatement:
    """States what `mechanism.steps` steps of `PrivateStep` and some evaluations guarantee.

    A pure function: ε is computed here, by the accountant, from the numbers that were really run (steps
    executed, not steps planned).

    Args:
        mechanism: as run.
        delta: the δ to state ε at.
        max_grad_norm: clipping norm C.
        clipping: how records were scaled to it.
        expected_batch_size: the public normaliser.
        workers: how many workers shared the noise.
        public_inputs: what was taken as public: row counts, bounds, categories.
        evaluations: every evaluation released.
        tuning: the search that the model came out of, if it did.

    Raises:
        AccountingDisagreement: no statement can be made.
        InvalidParameterError: a parameter is out of range, or the number of rows is missing from
            public_inputs.
    """
    if "rows" not in public_inputs:
        raise InvalidParameterError("public_inputs: must name the number of training rows as 'rows'")
    checked = cross_check(mechanism, delta)
    evaluated = sum(release.epsilon for release in evaluations)

    def loss(adjacency: Adjacency, training: float) -> PrivacyLoss:
        return PrivacyLoss(
            adjacency=adjacency, training_epsilon=training, total_epsilon=training + evaluated, delta=delta
        )

    poisson = (
        f"Poisson: each record independently with probability {mechanism.sampling_rate:g}, afresh each step"
    )
    return DPStatement(
        guarantee=loss(Adjacency.ADD_OR_REMOVE_ONE, checked.pld),
        guarantee_replace_one=loss(Adjacency.REPLACE_ONE, epsilon_replace_one(mechanism, delta)),
        mechanism=_MECHANISM,
        max_grad_norm=max_grad_norm,
        clipping=clipping,
        noise_multiplier=mechanism.noise_multiplier,
        sampling_rate=mechanism.sampling_rate,
        steps=mechanism.steps,
        expected_batch_size=expected_batch_size,
        workers=workers,
        sampler_run=poisson,
        sampler_assumed=poisson,
        accountant=Accountant(
            name="dp-accounting PLD (connect-the-dots, pessimistic)",
            version=version("dp-accounting"),
            cross_check_prv=checked.prv,
            cross_check_rdp=checked.rdp,
            cross_check_version=f"opacus {version('opacus')}",
        ),
        released=(*_TRAINED, *(f"evaluation: {release.name}" for release in evaluations)),
        evaluations=tuple(evaluations),
        tuning=tuning,
        public_inputs=dict(public_inputs),
        randomness=_RNG,
        float_caveat=_FLOAT_CAVEAT,
        assumptions=_ASSUMPTIONS,
    )


def with_audit(statement: DPStatement, audit: EmpiricalAudit) -> DPStatement:
    """The statement with an audit of the mechanism that it states.

    Raises:
        InvalidParameterError: the audit is of another mechanism; every difference is named.
    """
    of_model = (
        ("noise_multiplier", statement.noise_multiplier, audit.noise_multiplier),
        ("sampling_rate", statement.sampling_rate, audit.sampling_rate),
        ("steps", statement.steps, audit.steps),
        ("max_grad_norm", statement.max_grad_norm, audit.max_grad_norm),
        ("workers", statement.workers, audit.workers),
        ("delta", statement.guarantee.delta, audit.delta),
    )
    differences = [
        f"{name} is {stated!r} of the model, {audited!r} of the audit"
        for name, stated, audited in of_model
        if stated != audited
    ]
    if differences:
        raise InvalidParameterError(f"audit: is of another mechanism: {'; '.join(differences)}")
    return statement.model_copy(update={"empirical_audit": audit})
