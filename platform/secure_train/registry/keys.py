"""What the data keys of datasets and models are bound to."""

from __future__ import annotations

from secure_train.vault import KeyContext


def dataset_context(project_id: str, manifest_id: str) -> KeyContext:
    """Context of the data key of one dataset version, which is named by its manifest."""
    return KeyContext(tenant=project_id, artifact=manifest_id, type="dataset")


def model_context(project_id: str, manifest_id: str) -> KeyContext:
    """Context of the data key of one model version, which is named by its manifest."""
    return KeyContext(tenant=project_id, artifact=manifest_id, type="model")
