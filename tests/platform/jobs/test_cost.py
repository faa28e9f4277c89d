"""What a job costs, from public figures alone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_train import dp
from secure_train.jobs.cost import _share_of_training, cost_of, steps_of
from secure_train.spec import SpecErrors, job_from_json, schema_from_json


def _job(**changes: Any) -> Any:
    spec: dict[str, Any] = {
        "apiVersion": "secure-train/v1",
        "kind": "TrainingJob",
        "metadata": {"name": "income", "project": "census", "purpose": "income-statistics"},
        "data": {"dataset": "adult"},
        "model": {"kind": "linear"},
        "privacy": {"epsilon": 3.0, "delta": 1e-5, "evaluation": {"epsilon": 0.4, "every": 4}},
        "training": {"batchSize": 16, "steps": 8, "optimizer": {"kind": "sgd", "learningRate": 0.1}},
    }
    for path, value in changes.items():
        section, _, name = path.partition("__")
        spec[section] = {**spec[section], name: value} if name else value
    return job_from_json({key: value for key, value in spec.items() if value is not None})


def _schema(release: str = "noised") -> Any:
    return schema_from_json(
        {
            "apiVersion": "secure-train/v1",
            "kind": "DatasetSchema",
            "columns": [{"name": "age", "kind": "numeric", "lower": 0, "upper": 1}],
            "target": {"name": "y", "task": "binary", "classes": ["a", "b"], "positive": "a"},
            "holdout": {"fraction": 0.2, "release": release},
        }
    )


def test_the_whole_job_stays_within_its_epsilon() -> None:
    cost = cost_of(_job(), _schema(), 160, 40)
    mechanism = dp.Mechanism(cost.noise_multiplier, cost.sampling_rate, cost.steps)
    assert (cost.sampling_rate, cost.steps, cost.delta) == (0.1, 8, 1e-5)
    assert dp.epsilon(mechanism, cost.delta) <= cost.training_epsilon
    assert Fraction(cost.training_epsilon) + Fraction(cost.evaluation_epsilon) <= Fraction(3.0)


@given(st.floats(1e-3, 100), st.floats(0, 0.999))
def test_the_shares_of_training_and_evaluation_never_exceed_the_total(total: float, part: float) -> None:
    evaluation = total * part
    assert Fraction(_share_of_training(total, evaluation)) + Fraction(evaluation) <= Fraction(total)


@pytest.mark.parametrize(("epochs", "rows", "steps"), [(1, 160, 10), (1, 161, 11), (3, 160, 30), (1, 16, 1)])
def test_epochs_become_the_expected_number_of_batches_rounded_up(epochs: int, rows: int, steps: int) -> None:
    job = _job(training__steps=None, training__epochs=epochs)
    assert steps_of(job, rows) == steps


def test_a_batch_beyond_the_dataset_is_refused() -> None:
    with pytest.raises(SpecErrors, match=r"training\.batchSize"):
        cost_of(_job(training__batchSize=161), _schema(), 160, 40)


def test_evaluating_without_held_out_rows_is_refused() -> None:
    with pytest.raises(SpecErrors, match="held-out rows"):
        cost_of(_job(), _schema(), 160, 0)


def test_free_metrics_need_the_owners_release() -> None:
    privacy = {"epsilon": 2.6, "delta": 1e-5, "evaluation": {"epsilon": 0}}
    job = _job(privacy=privacy)
    with pytest.raises(SpecErrors, match="owner"):
        cost_of(job, _schema(), 160, 40)
    assert cost_of(job, _schema("exact"), 160, 40).training_epsilon == 2.6


def test_every_misfit_is_named_at_once() -> None:
    with pytest.raises(SpecErrors) as caught:
        cost_of(_job(training__batchSize=161), _schema(), 160, 0)
    assert [error.path for error in caught.value.errors] == ["training.batchSize", "privacy.evaluation"]


def test_an_epsilon_that_no_noise_fits_is_an_error_of_the_specification() -> None:
    with pytest.raises(SpecErrors) as caught:
        cost_of(_job(privacy__delta=1e-3, training__steps=1), _schema(), 1_000_000, 40)
    assert [error.path for error in caught.value.errors] == ["privacy.epsilon"]
