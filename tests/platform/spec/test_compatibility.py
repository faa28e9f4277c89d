"""What neither the job nor the dataset schema can tell alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_train.spec import DatasetSchema, SpecErrors, TrainingJob, check_compatible, load_job, load_schema


@pytest.fixture
def schema(schema_file: Path) -> DatasetSchema:
    return load_schema(schema_file)


def refused(job: TrainingJob, schema: DatasetSchema) -> set[str]:
    with pytest.raises(SpecErrors) as caught:
        check_compatible(job, schema)
    return {error.path for error in caught.value.errors}


def test_the_example_job_fits_the_example_schema(job_text: str, schema: DatasetSchema) -> None:
    check_compatible(load_job(job_text), schema)


def test_exact_evaluation_needs_the_owners_release(job_text: str, schema_file: Path) -> None:
    job = load_job(job_text, ["privacy.evaluation.epsilon=0"])
    assert refused(job, load_schema(schema_file)) == {"privacy.evaluation.epsilon"}
    check_compatible(job, load_schema(schema_file, ["holdout.release=exact"]))


def test_evaluation_needs_held_out_records(job_text: str, schema_file: Path) -> None:
    schema = load_schema(schema_file, ["holdout.fraction=0"])
    assert refused(load_job(job_text), schema) == {"privacy.evaluation"}
    check_compatible(load_job(job_text, ["privacy.evaluation=null"]), schema)


def test_an_image_holds_exactly_one_record(job_text: str, schema: DatasetSchema) -> None:
    cnn = "model={kind: cnn, inputShape: [1, 5, %d], channels: [4]}"
    check_compatible(load_job(job_text, [cnn % 13]), schema)
    job = load_job(job_text, [cnn % 12, "privacy.evaluation.epsilon=0"])
    assert refused(job, schema) == {"model.inputShape", "privacy.evaluation.epsilon"}
