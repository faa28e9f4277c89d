"""Messages about datasets and budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from secure_train.wire.base import Message
from secure_train.wire.names import Slug


class NewDataset(Message):
    """Register a dataset; the file travels beside this as multipart.

    ``data_schema`` is a ``spec.DatasetSchema`` as JSON.
    """

    name: Slug
    project: Slug
    purposes: Annotated[list[Slug], Field(min_length=1)]
    classification: Annotated[int, Field(ge=0, le=3)]
    budget_epsilon: Annotated[float, Field(gt=0, le=1000)]
    budget_delta: Annotated[float, Field(gt=0, lt=1)]
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


class BudgetLine(Message):
    """What one job holds or has spent."""

    job_id: str
    job_name: str
    submitted_by: str
    state: Literal["held", "settled"]
    epsilon: float
    delta: float
    spent_epsilon: float
    spent_delta: float
    created_at: datetime


class BudgetView(Message):
    """A dataset's budget under basic (ε, δ) composition over jobs."""

    dataset: str
    epsilon: float
    delta: float
    spent_epsilon: float
    spent_delta: float
    reserved_epsilon: float
    reserved_delta: float
    available_epsilon: float
    available_delta: float
    lines: list[BudgetLine]
