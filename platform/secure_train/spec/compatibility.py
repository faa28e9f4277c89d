"""Whether a job and the dataset it names fit together: what neither file can tell alone."""

from __future__ import annotations

import math

from secure_train.spec.errors import SpecError, SpecErrors
from secure_train.spec.job import Evaluation, TrainingJob
from secure_train.spec.model import CnnModel
from secure_train.spec.schema import DatasetSchema


def check_compatible(job: TrainingJob, schema: DatasetSchema) -> None:
    """Raise SpecErrors with every way in which the job asks for what the dataset does not offer."""
    problems: list[SpecError] = []
    if job.privacy.evaluation is not None:
        problems += _evaluation(job.privacy.evaluation, schema)
    if isinstance(job.model, CnnModel) and math.prod(job.model.input_shape) != schema.encoded_width():
        problems.append(
            SpecError(
                path="model.inputShape",
                message="does not hold one encoded record",
                given=f"{math.prod(job.model.input_shape):,} values",
                allowed=f"{schema.encoded_width():,} values, the encoded width of `{job.data.dataset}`",
                hint="choose channels, height and width whose product is the encoded width",
            )
        )
    if problems:
        raise SpecErrors(problems, f"job {job.metadata.name}")


def _evaluation(evaluation: Evaluation, schema: DatasetSchema) -> list[SpecError]:
    if schema.holdout.fraction == 0:
        return [
            SpecError(
                path="privacy.evaluation",
                message="asks for held-out metrics, and the dataset holds no records out",
                hint="remove privacy.evaluation, or ask the data owner for a held-out split",
            )
        ]
    if evaluation.epsilon == 0 and schema.holdout.release != "exact":
        return [
            SpecError(
                path="privacy.evaluation.epsilon",
                message="asks for exact metrics, which the data owner has not released",
                given="0",
                allowed="a number above 0, as the dataset says `holdout.release: noised`",
                hint="spend a part of privacy.epsilon on evaluation, e.g. 0.2",
            )
        ]
    return []
