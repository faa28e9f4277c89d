"""Running a published model on rows, and packing it to be run elsewhere.

Only the built-in kinds run here. An author's own code never runs in the control plane.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor, nn

from secure_train.db.tables import Job, Model, ModelVersion
from secure_train.registry.errors import InvalidModel, NotServed
from secure_train.registry.ingest import ingest_features
from secure_train.registry.tables import Format
from secure_train.spec import DatasetSchema, EntrypointModel, RegressionTarget, job_from_json
from secure_train.training.encoding import encode_features
from secure_train.training.models import build_model
from secure_train.training.tasks import task_of
from secure_train.wire.models import Prediction

BUNDLE_FORMAT = "secure-train/model/1"
_EPOCH = (1980, 1, 1, 0, 0, 0)
BATCH_VALUES = 1 << 24
"""Encoded values that are held at a time: rows are short as text, and may be wide as numbers."""


def load_weights(job: Job, schema: DatasetSchema, weights: dict[str, Tensor]) -> nn.Module:
    """Build the job's model with these weights, ready to predict.

    Raises:
        InvalidModel: names, shapes or types of the weights are not those of the model.
        NotServed: the model is the author's own code.
    """
    spec = job_from_json(job.spec)
    if isinstance(spec.model, EntrypointModel):
        raise NotServed(
            f"the model of job {job.id} is code of its author, {spec.model.entrypoint}; the control plane "
            "never runs such code: `secure-train models download` it, and run it where you trust its author"
        )
    model = build_model(spec.model, schema.encoded_width(), task_of(schema).outputs, spec.training.seed)
    expected = model.state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | weights.keys()
        if name not in expected
        or name not in weights
        or (expected[name].shape, expected[name].dtype) != (weights[name].shape, weights[name].dtype)
    )
    if wrong:
        raise InvalidModel(
            f"the weights of job {job.id} are not those of its {spec.model.kind} model: {', '.join(wrong)} "
            "missing, unknown, or of another shape or type"
        )
    model.load_state_dict(weights)
    return model.eval()


def predict(
    model: Model,
    version: ModelVersion,
    job: Job,
    schema: DatasetSchema,
    weights: dict[str, Tensor],
    rows: BinaryIO,
) -> Prediction:
    """Predict every row of a CSV file that has the features' columns.

    Raises:
        NotServed: see `load_weights`; or the weights give no finite number for some row.
        RowErrors: the rows do not fit the schema.
    """
    module = load_weights(job, schema, weights)
    task = task_of(schema)
    columns = ingest_features(schema, rows, Format.CSV)
    size = max(1, BATCH_VALUES // schema.encoded_width())
    pieces = zip(*(torch.split(column, size) for column in columns.values()), strict=True)
    with torch.no_grad():
        values = torch.cat(
            [
                task.predictions(module(encode_features(schema, dict(zip(columns, piece, strict=True)))))
                for piece in pieces
            ]
        )
    if not bool(values.isfinite().all()):
        raise NotServed(
            f"version {version.version} of {model.name!r} gives no finite number for some of these rows: its "
            "training diverged; train it again with a lower learning rate"
        )
    names, labels = _named(schema, values)
    return Prediction(
        model=model.name, version=version.version, columns=names, rows=values.tolist(), labels=labels
    )


def bundle(
    model: Model, version: ModelVersion, job: Job, schema: dict[str, Any], weights: dict[str, Tensor]
) -> bytes:
    """Pack a version as a zip: ``model.safetensors``, and ``model.json`` with all one must know about it.

    The same version gives the same bytes.
    """
    about = {
        "format": BUNDLE_FORMAT,
        "model": model.name,
        "project": model.project_id,
        "version": version.version,
        "digest": version.digest,
        "spec": job.spec,
        "schema": schema,
        "lineage": version.lineage,
        "metrics": version.metrics,
        "statement": version.statement,
    }
    # One entry: safetensors writes several in random order, and the same version must give the same bytes.
    metadata = {"secure-train": f"{model.project_id}/{model.name}@{version.version}"}
    tensors = {name: weights[name].contiguous() for name in sorted(weights)}
    files = {
        "model.safetensors": save(tensors, metadata=metadata),
        "model.json": json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False).encode(),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return packed.getvalue()


def _named(schema: DatasetSchema, values: Tensor) -> tuple[list[str], list[str] | None]:
    target = schema.target
    if isinstance(target, RegressionTarget):
        return [target.name], None
    classes = [target.negative, target.positive] if target.task == "binary" else list(target.classes)
    return classes, [classes[index] for index in values.argmax(dim=1).tolist()]
