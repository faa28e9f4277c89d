"""Datasets and their budgets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import TypeAdapter

from secure_train.api.auth import Caller, Plane
from secure_train.wire.data import BudgetView, DatasetView, NewDataset, NewDatasetVersion

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
def budget(plane: Plane, caller: Caller, dataset: str) -> BudgetView:
    """Return a dataset's privacy budget and who holds or spent it."""
    return plane.datasets.budget(caller, dataset)


@router.post("/{dataset:path}/versions", status_code=201)
def add_version(plane: Plane, caller: Caller, dataset: str, request: Request, rows: Rows) -> DatasetView:
    """Add an immutable version; the budget is the dataset's and stays as it is."""
    body = TypeAdapter(NewDatasetVersion).validate_json(request)
    return plane.datasets.add_version(caller, dataset, body, rows.file)


@router.get("/{dataset:path}")
def show(plane: Plane, caller: Caller, dataset: str) -> DatasetView:
    """Return a dataset, by id or by ``project/name``."""
    return plane.datasets.get(caller, dataset)
