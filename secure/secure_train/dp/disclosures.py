"""The parts of a DP statement, each a disclosure of its own."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from secure_train.dp.adjacency import Adjacency


class Value(BaseModel):
    """An immutable JSON-able value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EvaluationRelease(Value):
    """One released evaluation: its name and pure ε."""

    name: str
    epsilon: float = Field(gt=0, allow_inf_nan=False)


class PrivacyLoss(Value):
    """(ε, δ) under one adjacency: of training, and of training together with all evaluations."""

    adjacency: Adjacency
    training_epsilon: float
    total_epsilon: float
    delta: float


class Accountant(Value):
    """Who computed ε, and what independent accountants say (add-or-remove-one, training only)."""

    name: str
    version: str
    cross_check_prv: float
    cross_check_rdp: float
    cross_check_version: str


class Tuning(Value):
    """A search for hyperparameters on the same dataset that this model came out of.

    Attributes:
        search: which one.
        method: how trials were charged and the best of them chosen.
        trials_charged: how many were charged to the dataset's budget.
        epsilon: of the whole search at the statement's δ, this model's own included.
    """

    search: str
    method: str
    trials_charged: int = Field(ge=1)
    epsilon: float = Field(gt=0)


class AuditMethod(StrEnum):
    """How an empirical audit was done."""

    NEIGHBOUR = "neighbour"
    """Many runs with and without a record that contributes C (Nasr et al., USENIX Security 2023)."""

    CANARY = "canary"
    """One run with many canaries in gradient space (Steinke, Nasr and Jagielski, NeurIPS 2023)."""


class EmpiricalAudit(Value):
    """What an attacker showed about the engine at these parameters, on synthetic records.

    Attributes:
        epsilon_lower_bound: with `confidence`, ε of what was audited is not smaller; training only.
        epsilon_claimed: by the accountant.
        refuted: whether the attacker did better than the claim allows. No model of it may be trusted then.
        experiments: canaries, or experiments on each of two neighbouring datasets.
        seed: of a repeatable audit; None where keys were drawn afresh.
    """

    method: AuditMethod
    epsilon_lower_bound: float
    epsilon_claimed: float
    delta: float
    confidence: float
    refuted: bool
    noise_multiplier: float
    sampling_rate: float
    steps: int
    max_grad_norm: float
    workers: int
    experiments: int
    seed: int | None
    version: str
    at: datetime


class DatasetSpend(Value):
    """What all jobs on the dataset have spent together when the statement was read, this model's included.

    Attributes:
        dataset: its name.
        composition: by which rule jobs add up.
        epsilon: add or remove one, at `delta`; `epsilon_replace_one` likewise.
        budget_epsilon: the owner's limit.
        jobs: that hold or have spent some.
    """

    dataset: str
    composition: str
    epsilon: float
    epsilon_replace_one: float
    delta: float
    budget_epsilon: float
    jobs: int
    at: datetime
