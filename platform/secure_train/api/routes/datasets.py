"""Datasets and their budgets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import TypeAdapter

from secure_train.api.auth import Caller, Plane
from secure_train.registry.budgets import Wish
from secure_train.spec.job import MAX_STEPS
from secure_train.wire.data import (
    BudgetView,
    DatasetView,
    NewDataset,
    NewDatasetVersion,
    SetAllocation,
    SetBudget,
)
from secure_train.wire.names import Slug

router = APIRouter(prefix="/datasets", tags=["datasets"])
Rows = Annotated[UploadFile, File(description="the rows, CSV or Parquet")]
Request = Annotated[str, Form(description="the request as JSON")]


@router.post("", status_code=201)
def register(plane: Plane, caller: Caller, request: Request, rows: Rows) -> DatasetView:
    """Register a dataset: validate every row, seal it, and set its privacy budget."""
    return plane.datasets.register(caller, TypeAdapter(NewDataset).validate_json(request), rows.file)


@router.get("")
def list_datasets(plane: Plane, caller: Caller) -> list[DatasetView]:
    """List the datasets that the caller may read."""
    return plane.datasets.list(caller)


@router.get("/{dataset:path}/budget")
def budget(
    plane: Plane,
    caller: Caller,
    dataset: str,
    project: Annotated[Slug | None, Query(description="`fit` is for a job of this project")] = None,
    batch_size: Annotated[int | None, Query(gt=0, description="`fit` is for a job of this shape")] = None,
    steps: Annotated[int | None, Query(gt=0, le=MAX_STEPS)] = None,
    delta: Annotated[float | None, Query(gt=0, lt=1)] = None,
    evaluation_epsilon: Annotated[float | None, Query(ge=0, le=1000)] = None,
) -> BudgetView:
    """Return a dataset's privacy budget, who holds or spent it, and which ε one more job could have."""
    return plane.budgets.show(caller, dataset, Wish(project, batch_size, steps, delta, evaluation_epsilon))


@router.put("/{dataset:path}/budget")
def set_budget(plane: Plane, caller: Caller, dataset: str, request: SetBudget) -> BudgetView:
    """Set a dataset's ε; δ and the rule of composition stay as they are."""
    return plane.budgets.set(caller, dataset, request)


@router.put("/{dataset:path}/budget/parts")
def allocate(plane: Plane, caller: Caller, dataset: str, request: SetAllocation) -> BudgetView:
    """Set a project's part of a dataset's ε."""
    return plane.budgets.allocate(caller, dataset, request)


@router.post("/{dataset:path}/versions", status_code=201)
def add_version(plane: Plane, caller: Caller, dataset: str, request: Request, rows: Rows) -> DatasetView:
    """Add an immutable version; the budget is the dataset's and stays as it is."""
    body = TypeAdapter(NewDatasetVersion).validate_json(request)
    return plane.datasets.add_version(caller, dataset, body, rows.file)


@router.get("/{dataset:path}")
def show(plane: Plane, caller: Caller, dataset: str) -> DatasetView:
    """Return a dataset, by id or by ``project/name``."""
    return plane.datasets.get(caller, dataset)
