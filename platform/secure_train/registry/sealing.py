"""Rows and weights in the block store, each under a data key of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from torch import Tensor

from secure_train.blocks import BlockStore
from secure_train.db import new_id
from secure_train.db.tables import Dataset, DatasetVersion, Model, ModelVersion
from secure_train.registry.holdout import KEY_PURPOSE, holdout_mask
from secure_train.registry.keys import dataset_context, model_context
from secure_train.spec import DatasetSchema
from secure_train.training.encoding import HOLDOUT, TARGET
from secure_train.vault import DataKey, SealedFileVault, WrappedKey

MODEL = "model"
"""Kind of a manifest that holds a model's `state_dict`, one tensor each."""


@dataclass(frozen=True, slots=True)
class SealedRows:
    """Rows that are durable in the block store, and belong to no dataset yet."""

    manifest_id: str
    digest: str
    wrapped_key: bytes
    training_rows: int
    holdout_rows: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class SealedWeights:
    """Weights that are durable in the block store, and belong to no model yet."""

    manifest_id: str
    digest: str
    wrapped_key: bytes


def seal_rows(
    vault: SealedFileVault,
    blocks: BlockStore,
    project_id: str,
    dataset_id: str,
    schema: DatasetSchema,
    columns: dict[str, Tensor],
) -> SealedRows:
    """Choose the held-out rows, and store everything under a fresh data key.

    Raises:
        RowErrors: too few rows to hold any out.
    """
    manifest_id = f"datasets/{dataset_id}/{new_id('rows')}"
    key, wrapped = vault.new_data_key(dataset_context(project_id, manifest_id))
    rows = len(columns[TARGET])
    mask = holdout_mask(rows, schema.holdout.fraction, key.derive(KEY_PURPOSE))
    held_out = int(mask.sum())
    ref = blocks.write(
        key,
        columns | {HOLDOUT: mask},
        {"schema": schema_json(schema), "training_rows": rows - held_out, "holdout_rows": held_out},
        manifest_id=manifest_id,
        kind="dataset",
    )
    return SealedRows(
        manifest_id, ref.digest, wrapped.to_bytes(), rows - held_out, held_out, ref.stored_bytes
    )


def seal_weights(
    vault: SealedFileVault, blocks: BlockStore, project_id: str, weights: dict[str, Tensor], job_id: str
) -> SealedWeights:
    """Store weights under a data key of their own: to destroy it is to destroy them."""
    manifest_id = f"models/{new_id('weights')}"
    key, wrapped = vault.new_data_key(model_context(project_id, manifest_id))
    ref = blocks.write(key, weights, {"job": job_id}, manifest_id=manifest_id, kind=MODEL)
    return SealedWeights(manifest_id, ref.digest, wrapped.to_bytes())


def unwrap_rows(vault: SealedFileVault, project_id: str, version: DatasetVersion) -> DataKey:
    """Return the data key of a dataset version."""
    wrapped = WrappedKey.from_bytes(version.wrapped_key)
    return vault.unwrap(wrapped, dataset_context(project_id, version.manifest_id))


def unwrap_weights(vault: SealedFileVault, project_id: str, version: ModelVersion) -> DataKey:
    """Return the data key of a model version that is not retired."""
    wrapped = WrappedKey.from_bytes(version.wrapped_key)
    return vault.unwrap(wrapped, model_context(project_id, version.manifest_id))


def live_manifests(session: Session, vault: SealedFileVault) -> Iterator[tuple[DataKey, str]]:
    """Yield key and id of every manifest that datasets and models need: `BlockStore.collect_garbage` asks."""
    datasets = select(DatasetVersion, Dataset.project_id)
    datasets = datasets.join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    for rows, project_id in session.execute(datasets):
        yield unwrap_rows(vault, project_id, rows), rows.manifest_id
    models = select(ModelVersion, Model.project_id).join(Model, Model.id == ModelVersion.model_id)
    for weights, project_id in session.execute(models.where(ModelVersion.stage != "retired")):
        yield unwrap_weights(vault, project_id, weights), weights.manifest_id


def schema_json(schema: DatasetSchema) -> dict[str, Any]:
    """Return the schema as JSON with every default written out."""
    return schema.model_dump(mode="json", by_alias=True)
