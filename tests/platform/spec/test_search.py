"""What a search file may say, and that everything wrong with it is told at once, each in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from secure_train.spec import (
    SearchJob,
    SpecErrors,
    TrainingJob,
    canonical,
    load_search,
    load_submittable,
    same_cost,
    search_from_json,
    search_json_schema,
    trial_of,
)

RATE = "training.optimizer.learningRate"


@pytest.fixture(scope="session")
def search_file(repository: Path) -> Path:
    return repository / "examples" / "adult" / "search.yaml"


def wrong(file: Path, *overrides: str) -> dict[str, Any]:
    with pytest.raises(SpecErrors) as caught:
        load_search(file, overrides)
    return {error.path: error for error in caught.value.errors}


def searching(parameters: str) -> str:
    return f"search.parameters={{{parameters}}}"


def test_the_example_is_valid_and_its_canonical_json_means_the_same(search_file: Path) -> None:
    search = load_search(search_file)
    assert search.trials == 4
    assert search_from_json(json.loads(canonical(search))) == search
    jsonschema.Draft202012Validator(search_json_schema()).validate(yaml.safe_load(search_file.read_bytes()))


def test_a_file_is_read_as_what_its_kind_says(search_file: Path, job_file: Path) -> None:
    assert isinstance(load_submittable(search_file), SearchJob)
    assert isinstance(load_submittable(job_file), TrainingJob)
    with pytest.raises(SpecErrors, match="TrainingJob"):
        load_submittable(job_file, ["kind=Chores"])


def test_a_trial_is_the_template_with_its_values(search_file: Path) -> None:
    search = load_search(search_file)
    trial = trial_of(search, {RATE: 0.05, "model.hidden": [64, 32]})
    plain = trial_of(search, {})
    assert (trial.training.optimizer.learning_rate, trial.privacy) == (0.05, plain.privacy)
    assert trial.metadata == search.metadata
    assert same_cost(trial, plain)
    assert not same_cost(trial_of(search, {"training.batchSize": 8}), plain)
    assert not same_cost(trial_of(search, {"privacy.epsilon": 0.9}), plain)


def test_what_cannot_be_searched_is_told_with_its_line(search_file: Path) -> None:
    text = search_file.read_text("utf-8").replace("model.hidden:", "model.hiden:")
    with pytest.raises(SpecErrors) as caught:
        load_search(text)
    (error,) = caught.value.errors
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "hiden" in each)
    assert (error.path, error.line) == ("search.parameters.model.hiden", line)
    assert error.allowed == "kind, hidden, activation"


def test_every_wrong_value_is_told_at_once(search_file: Path) -> None:
    found = wrong(
        search_file,
        searching(f"{RATE}: {{low: 0, high: 0.1}}, model.activation: {{choices: [tanh, foo]}}"),
        "template.privacy.evaluation=null",
    )
    assert set(found) == {
        f"search.parameters.{RATE}.low",
        "search.parameters.model.activation.choices.1",
        "template.privacy.evaluation",
    }


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (f"{RATE}: {{choices: [0.1], low: 1}}", "neither a list of choices nor a range"),
        (f"{RATE}: {{low: 0.1}}", "neither a list of choices nor a range"),
        (f"{RATE}: {{low: 0.1, high: 0.1}}", "empty range"),
        (f"{RATE}: {{low: 0, high: 0.1, log: true}}", "at or below 0"),
        (f"{RATE}: {{choices: [0.1, 0.1]}}", "listed twice"),
        ("training.batchSize: {low: 1.5, high: 9}", "not a whole number"),
        ("model.hidden: {low: 1, high: 9}", "no number there"),
        ("training.steps: {low: 1, high: 9}", "no number there"),
        ("data.dataset: {choices: [other]}", "form that is not allowed"),
        ("resources.workers: {choices: [1]}", "form that is not allowed"),
        ("model: {choices: [1]}", "form that is not allowed"),
        (f"training.optimizer: {{choices: [1]}}, {RATE}: {{choices: [1]}}", "lies inside"),
        ("training.seed: {low: 1, high: 3}", "more than there are combinations"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(search_file: Path, parameters: str, message: str) -> None:
    assert any(message in error.message for error in wrong(search_file, searching(parameters)).values())


@pytest.mark.parametrize(
    "path", ["privacy.epsilon", "privacy.delta", "training.batchSize", "training.epochs"]
)
def test_tpe_may_not_vary_what_a_trial_costs(search_file: Path, path: str) -> None:
    change = searching(f"{path}: {{choices: [0.1]}}")
    assert "changes what a trial costs" in (
        wrong(search_file, "search.sampler=tpe", change)[f"search.parameters.{path}"].message
    )


def test_tpe_may_not_vary_it_as_part_of_something_else(search_file: Path) -> None:
    change = searching("privacy.evaluation: {choices: [{epsilon: 0.3}]}")
    assert "search.parameters.privacy.evaluation" in wrong(search_file, "search.sampler=tpe", change)


def test_a_grid_is_as_large_as_its_choices(search_file: Path) -> None:
    grid = [
        "search.sampler=grid",
        searching("training.seed: {choices: [1, 2]}, model.activation: {choices: [relu, tanh]}"),
    ]
    assert load_search(search_file, [*grid, "search.trials=null"]).trials == 4
    assert "4 combinations" in wrong(search_file, *grid, "search.trials=5")["search.trials"].message
    assert "is a range" in wrong(search_file, "search.sampler=grid")[f"search.parameters.{RATE}"].message


def test_a_search_without_an_end_is_refused(search_file: Path) -> None:
    assert "is missing" in wrong(search_file, "search.trials=null")["search.trials"].message
