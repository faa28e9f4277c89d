"""Messages about datasets and budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from secure_train.wire.base import Message
from secure_train.wire.names import Slug

Composition = Literal["rdp-filter", "basic"]
Epsilon = Annotated[float, Field(gt=0, le=1000)]
Reason = Annotated[str, Field(min_length=3, max_length=500)]


class NewDataset(Message):
    """Register a dataset; the file travels beside this as multipart.

    ``data_schema`` is a ``spec.DatasetSchema`` as JSON.
    """

    name: Slug
    project: Slug
    purposes: Annotated[list[Slug], Field(min_length=1)]
    classification: Annotated[int, Field(ge=0, le=3)]
    budget_epsilon: Epsilon
    budget_delta: Annotated[float, Field(gt=0, lt=1)]
    composition: Composition = "rdp-filter"
    data_schema: dict[str, Any]
    format: Literal["csv", "parquet"]


class NewDatasetVersion(Message):
    """Add a version to a dataset; the budget is the dataset's and stays."""

    data_schema: dict[str, Any]
    format: Literal["csv", "parquet"]


class DatasetVersionView(Message):
    """An immutable version."""

    version: int
    digest: str
    training_rows: int
    holdout_rows: int
    features: int
    created_at: datetime


class DatasetView(Message):
    """A dataset with its versions, newest last."""

    id: str
    name: str
    project: str
    owner: str
    classification: int
    purposes: list[str]
    unit: str
    task: str
    data_schema: dict[str, Any]
    versions: list[DatasetVersionView]


class PoissonGaussianEvent(Message):
    """`steps` steps of DP-SGD: a sum with noise of `noise_multiplier` over rows drawn at `sampling_rate`."""

    kind: Literal["poisson_gaussian"]
    noise_multiplier: float
    sampling_rate: float
    steps: int


class PureEvent(Message):
    """`releases` releases, each of which costs pure `epsilon`."""

    kind: Literal["pure"]
    epsilon: float
    releases: int


DpEventView = Annotated[PoissonGaussianEvent | PureEvent, Field(discriminator="kind")]


class BudgetLine(Message):
    """What one job holds or has spent. (ε, δ) are of the job by itself; the events are what adds up."""

    job_id: str
    job_name: str
    project: str
    submitted_by: str
    purpose: str
    state: Literal["held", "settled"]
    epsilon: float
    delta: float
    events: list[DpEventView]
    spent_epsilon: float
    spent_delta: float
    spent_events: list[DpEventView]
    created_at: datetime


class AllocationView(Message):
    """A project's part of a budget; δ is the dataset's."""

    project: str
    epsilon: float
    spent_epsilon: float
    reserved_epsilon: float
    available_epsilon: float


class BudgetChangeView(Message):
    """A decision about a budget, or about a project's part of it. No ``epsilon_before``: there was none."""

    at: datetime
    by: str
    project: str | None
    epsilon_before: float | None
    epsilon_after: float
    reason: str


class FitView(Message):
    """The largest ε that one more job of this shape could have now. None: no ε would fit."""

    project: str
    sampling_rate: float
    steps: int
    delta: float
    evaluation_epsilon: float
    epsilon: float | None


class BudgetView(Message):
    """A dataset's budget: what all jobs together come to, at the dataset's δ, by its rule of composition.

    Adjacency: add or remove one record. ``spent_epsilon_replace_one`` is what was spent for neighbours that
    differ in the content of one record; it is told, not limited. ``hidden_lines``: jobs that the reader may
    not read.
    """

    dataset: str
    name: str
    project: str
    composition: Composition
    epsilon: float
    delta: float
    spent_epsilon: float
    spent_delta: float
    spent_epsilon_replace_one: float
    reserved_epsilon: float
    reserved_delta: float
    available_epsilon: float
    available_delta: float
    allocations: list[AllocationView]
    lines: list[BudgetLine]
    hidden_lines: int
    changes: list[BudgetChangeView]
    fit: FitView | None


class SetBudget(Message):
    """Set a dataset's ε. The reason is kept with it for good."""

    epsilon: Epsilon
    reason: Reason


class SetAllocation(Message):
    """Set a project's part of a dataset's ε; a project that had none may use the dataset from then on."""

    project: Slug
    epsilon: Epsilon
    reason: Reason
