"""Messages about models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from secure_train.wire.base import Message


class ModelVersionView(Message):
    """One published version."""

    model: str
    project: str
    version: int
    job_id: str
    digest: str
    stage: str
    promoted_by: str | None
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    statement: dict[str, Any]
    created_at: datetime


class ModelView(Message):
    """A line of versions, newest last."""

    id: str
    name: str
    project: str
    versions: list[ModelVersionView]


class Promote(Message):
    """Promote a version to production; the one who submitted its job may not."""

    comment: Annotated[str, Field(max_length=500)] = ""


class Prediction(Message):
    """Predictions for the rows that were sent, in their order.

    ``columns`` names the values of each row: class probabilities, or the regression value.
    """

    model: str
    version: int
    columns: list[str]
    rows: list[list[float]]
    labels: list[str] | None
