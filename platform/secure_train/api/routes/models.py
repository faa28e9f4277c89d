"""Models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Response, UploadFile

from secure_train.api.auth import Caller, Plane
from secure_train.wire.models import ModelVersionView, ModelView, Prediction, Promote

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
def list_models(plane: Plane, caller: Caller) -> list[ModelView]:
    """List the models that the caller may read."""
    return plane.models.list(caller)


@router.get("/{model:path}/versions/{version}/download", response_class=Response)
def download(plane: Plane, caller: Caller, model: str, version: int) -> Response:
    """Return a zip of ``model.safetensors`` and ``model.json``."""
    return Response(plane.models.download(caller, model, version), media_type="application/zip")


@router.post("/{model:path}/versions/{version}/predict")
def predict(
    plane: Plane,
    caller: Caller,
    model: str,
    version: int,
    rows: Annotated[UploadFile, File(description="the rows, CSV")],
) -> Prediction:
    """Apply a built-in model to the rows that the caller sends."""
    return plane.models.predict(caller, model, version, rows.file)


@router.post("/{model:path}/versions/{version}/promote")
def promote(plane: Plane, caller: Caller, model: str, version: int, body: Promote) -> ModelVersionView:
    """Promote a version to production; whoever submitted its job may not."""
    return plane.models.promote(caller, model, version, body.comment)


@router.delete("/{model:path}/versions/{version}")
def delete(plane: Plane, caller: Caller, model: str, version: int) -> ModelVersionView:
    """Retire a version and destroy its sealed weights."""
    return plane.models.delete(caller, model, version)


@router.get("/{model:path}")
def show(plane: Plane, caller: Caller, model: str) -> ModelView:
    """Return a model, by id or by ``project/name``."""
    return plane.models.get(caller, model)
