"""Errors say everything at once: each place, what was given, what is allowed, and a fix."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from secure_train.spec import SpecErrors, job_from_json, load_job, load_schema
from secure_train.spec.diagnose import MAX_ERRORS

HERE = Path(__file__).parent


def caught(text: str, *overrides: str) -> SpecErrors:
    with pytest.raises(SpecErrors) as info:
        load_job(text, overrides)
    return info.value


def test_a_thoroughly_wrong_job_is_reported_as_in_the_golden_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(SpecErrors) as info:
        load_job(Path("golden/wrong.yaml"), ["privacy.epsilonn=4", "model.hidden=[x]", "nonsense"])
    assert str(info.value) == Path("golden/wrong.txt").read_text("utf-8").rstrip("\n")


def test_a_thoroughly_wrong_schema_is_reported_as_in_the_golden_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(SpecErrors) as info:
        load_schema(Path("golden/wrong.schema.yaml"))
    assert str(info.value) == Path("golden/wrong.schema.txt").read_text("utf-8").rstrip("\n")


@pytest.mark.parametrize(
    ("original", "written", "path", "hint"),
    [
        ("  delta:", "  detla:", "privacy.detla", "did you mean `delta`?"),
        ("  maxGradNorm:", "  max_grad_norm:", "privacy.max_grad_norm", "did you mean `maxGradNorm`?"),
        ("  maxGradNorm:", "  maxgradnorm:", "privacy.maxgradnorm", "did you mean `maxGradNorm`?"),
        ("\ndata:", "\nepsilon: 3\ndata:", "epsilon", "did you mean `privacy.epsilon`?"),
        ("\ndata:", "\nbatch_size: 3\ndata:", "batch_size", "did you mean `training.batchSize`?"),
        ("  project:", "  workers: 2\n  project:", "metadata.workers", "did you mean `resources.workers`?"),
        (
            "  project:",
            "  priority: 2\n  project:",
            "metadata.priority",
            "did you mean `resources.priority`?",
        ),
        ("  hidden:", "  kernelSize: 3\n  hidden:", "model.kernelSize", "`kernelSize` goes with `kind: cnn`"),
        ("  hidden:", "  qqq: 3\n  hidden:", "model.qqq", "remove it"),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(
    job_text: str, original: str, written: str, path: str, hint: str
) -> None:
    found = {error.path: error for error in caught(job_text.replace(original, written, 1)).errors}
    assert found[path].hint == hint
    assert found[path].message == "is not a key of this format"


@pytest.mark.parametrize(
    ("original", "written", "path", "hint"),
    [
        ("kind: mlp", "kind: MLP", "model.kind", "did you mean `mlp`?"),
        ("activation: tanh", "activation: tahn", "model.activation", "did you mean `tanh`?"),
        ("kind: adam", "kind: adamw", "training.optimizer.kind", "did you mean `adam`?"),
        ("seed: 7", 'seed: "7"', "training.seed", "write a number without quotes or units"),
        ("batchSize: 1024", "batchSize: 1024.0", "training.batchSize", "write 1024"),
        ("name: income", "name: 5", "metadata.name", 'write it in quotes: "5"'),
        ("hidden: [32]", "hidden: 32", "model.hidden", "write a list: [32]"),
    ],
)
def test_a_wrong_value_is_answered_with_a_right_one(
    job_text: str, original: str, written: str, path: str, hint: str
) -> None:
    (error,) = caught(job_text.replace(original, written, 1)).errors
    assert (error.path, error.hint) == (path, hint)


def test_each_error_stands_where_its_value_stands(job_text: str) -> None:
    text = job_text.replace("epsilon: 3.0", "epsilon:   -3").replace("maxFailures: 3", "maxFailure: 3")
    wrong_value, wrong_key = caught(text).errors
    lines = text.splitlines()
    assert (wrong_value.path, wrong_key.path) == ("privacy.epsilon", "recovery.maxFailure")
    assert lines[wrong_value.line - 1][wrong_value.column - 1 :].startswith("-3")  # type: ignore[operator]
    assert lines[wrong_key.line - 1][wrong_key.column - 1 :].startswith("maxFailure:")  # type: ignore[operator]


def test_a_missing_key_is_reported_where_it_belongs(job_text: str) -> None:
    (error,) = caught(job_text.replace("  delta: 1.0e-5\n", "")).errors
    line = job_text.splitlines().index("privacy:") + 1
    assert (error.path, error.line, error.column) == ("privacy.delta", line, 1)
    assert error.hint == "add `delta` to `privacy`"


def test_a_union_without_its_kind_lists_the_kinds(job_text: str) -> None:
    (error,) = caught(job_text.replace("  kind: mlp ", "  # ")).errors
    assert (error.path, error.message) == ("model.kind", "is missing")
    assert error.allowed == "`cnn`, `entrypoint`, `linear` or `mlp`"


def test_errors_survive_json_and_pickle(job_text: str) -> None:
    error = caught(job_text.replace("seed: 7", "seed: -7"))
    (row,) = json.loads(json.dumps(error.to_json()))["errors"]
    assert (row["path"], row["given"], row["allowed"]) == (
        "training.seed",
        "-7",
        "an integer at least 0, at most 4,294,967,295",
    )
    assert pickle.loads(pickle.dumps(error)).errors == error.errors  # noqa: S301  # our own bytes


def test_json_from_a_client_gets_the_same_errors_without_lines(job_text: str) -> None:
    with pytest.raises(SpecErrors) as info:
        job_from_json({"apiVersion": "secure-train/v1", "kind": "TrainingJob", "epsilon": 3})
    found = {error.path: error for error in info.value.errors}
    assert found["epsilon"].hint == "did you mean `privacy.epsilon`?"
    assert found["privacy"].message == "is missing"
    assert all(error.line is error.column is None for error in info.value.errors)


def test_json_that_is_not_json_is_refused() -> None:
    with pytest.raises(SpecErrors) as info:
        job_from_json({"kind": {1, 2}, "\ud800": 1, "metadata": {"name": "\ud800"}})
    messages = {error.path: error.message for error in info.value.errors}
    assert messages["kind"] == "is a Python set, not JSON"
    assert messages["metadata.name"] == "is not valid Unicode text"


def test_a_hostile_request_is_answered_in_bounded_size() -> None:
    with pytest.raises(SpecErrors) as info:
        job_from_json({f"k{index}": index for index in range(5000)})
    assert len(info.value.errors) == MAX_ERRORS + 1
    assert "further errors" in info.value.errors[-1].message


def test_a_long_value_is_shown_abbreviated(job_text: str) -> None:
    (error,) = caught(job_text.replace("name: income", f"name: {'x' * 5000}")).errors
    assert error.given is not None
    assert len(error.given) <= 80
