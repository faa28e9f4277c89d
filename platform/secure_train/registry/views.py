"""Rows as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from secure_train.db.tables import Dataset, DatasetVersion, Model, ModelVersion
from secure_train.spec import schema_from_json
from secure_train.wire.data import DatasetVersionView, DatasetView
from secure_train.wire.models import ModelVersionView, ModelView


def dataset_view(dataset: Dataset, versions: Sequence[DatasetVersion]) -> DatasetView:
    """Show a dataset with its versions, newest last; schema and task are those of the newest."""
    newest = versions[-1]
    return DatasetView(
        id=dataset.id,
        name=dataset.name,
        project=dataset.project_id,
        owner=dataset.owner_id,
        classification=dataset.classification,
        purposes=dataset.purposes,
        unit=dataset.unit,
        task=schema_from_json(newest.schema).target.task,
        data_schema=newest.schema,
        versions=[_dataset_version_view(version) for version in versions],
    )


def _dataset_version_view(version: DatasetVersion) -> DatasetVersionView:
    return DatasetVersionView(
        version=version.version,
        digest=version.digest,
        training_rows=version.training_rows,
        holdout_rows=version.holdout_rows,
        features=schema_from_json(version.schema).encoded_width(),
        created_at=version.created_at,
    )


def model_view(model: Model, versions: Sequence[ModelVersion]) -> ModelView:
    """Show a model with its versions, newest last."""
    return ModelView(
        id=model.id,
        name=model.name,
        project=model.project_id,
        versions=[model_version_view(model, version) for version in versions],
    )


def model_version_view(model: Model, version: ModelVersion) -> ModelVersionView:
    """Show one version."""
    return ModelVersionView(
        model=model.name,
        project=model.project_id,
        version=version.version,
        job_id=version.job_id,
        digest=version.digest,
        stage=version.stage,
        promoted_by=version.promoted_by,
        metrics=version.metrics,
        lineage=version.lineage,
        statement=version.statement,
        created_at=version.created_at,
    )
