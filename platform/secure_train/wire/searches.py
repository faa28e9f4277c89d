"""Messages about searches for hyperparameters, for people."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from secure_train.wire.base import Message


class SubmitSearch(Message):
    """Submit a search. ``spec`` is a whole search.yaml as JSON; ``workdir`` as in ``SubmitJob``."""

    spec: dict[str, Any]
    idempotency_key: Annotated[str, Field(min_length=1, max_length=128)]
    workdir: str | None = None


class PlanSearch(Message):
    """Ask what a search would cost and whether it would be allowed; nothing is submitted or reserved."""

    spec: dict[str, Any]


class TrialPlan(Message):
    """One trial: its values, absent where they are chosen in its turn, and what it costs by itself."""

    number: int
    parameters: dict[str, Any] | None
    epsilon: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    steps: int


class SearchPlan(Message):
    """The cost of a search and the decision it would meet.

    ``epsilon_sum`` at ``delta_sum`` adds up the trials as each is by itself (basic composition);
    ``epsilon_together`` is of all of them at ``delta``, the template's (Rényi composition). ``budget_*`` is
    of all jobs on the dataset, at its own δ and by its rule. ``fitting_trials`` and ``fitting_epsilon`` say
    what would fit now: so many of these trials, or all of them with so much ε each (absent where trials
    differ in cost).
    """

    spec: dict[str, Any]
    dataset: str
    dataset_version: int
    training_rows: int
    trials: list[TrialPlan]
    epsilon_sum: float
    delta_sum: float
    epsilon_together: float
    delta: float
    allowed: bool
    decision_id: str
    reason: str
    policies: list[str]
    composition: str
    budget_epsilon: float
    budget_delta: float
    budget_used_epsilon: float
    budget_with_search_epsilon: float
    budget_available_epsilon: float
    fits_budget: bool
    shortage: str | None
    fitting_trials: int
    fitting_epsilon: float | None


class TrialView(Message):
    """A trial as it stands. ``value``: the objective, as released for the model that it published."""

    number: int
    job: str
    state: str
    phase: str
    reason: str
    parameters: dict[str, Any] | None
    value: float | None
    metrics: dict[str, Any]
    step: int
    steps: int
    epsilon: float
    delta: float
    spent_epsilon: float
    model: str | None


class SearchView(Message):
    """A search as it stands. ``best`` is the best so far until it has ended; ε are sums over its trials."""

    id: str
    name: str
    project: str
    purpose: str
    submitted_by: str
    state: str
    reason: str
    dataset: str
    dataset_version: int
    sampler: str
    objective: str
    trials: int
    concurrency: int
    ended_trials: int
    epsilon: float
    delta: float
    spent_epsilon: float
    best: TrialView | None
    created_at: datetime
    finished_at: datetime | None


class SearchDetail(Message):
    """A search with all its trials."""

    search: SearchView
    spec: dict[str, Any]
    spec_digest: str
    code_digest: str | None
    trials: list[TrialView]
