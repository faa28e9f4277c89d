"""What a valid job is: types, bounds and how fields fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from secure_train.spec import Adam, MlpModel, SpecErrors, TrainingJob, load_job
from secure_train.spec.job import MAX_STEPS


def refused(text: str, *overrides: str) -> dict[str, str]:
    """Message by path of everything that is wrong."""
    with pytest.raises(SpecErrors) as caught:
        load_job(text, overrides)
    return {error.path: error.message for error in caught.value.errors}


def test_the_example_says_what_it_shows(job_file: Path) -> None:
    job = load_job(job_file)
    assert isinstance(job.model, MlpModel)
    assert isinstance(job.training.optimizer, Adam)
    assert (job.metadata.name, job.metadata.project, job.metadata.purpose) == (
        "income",
        "census",
        "income-statistics",
    )
    assert job.model.hidden == (32,)
    assert job.privacy.evaluation is not None
    assert (job.privacy.epsilon, job.privacy.delta, job.privacy.evaluation.epsilon) == (3.0, 1e-5, 0.4)
    assert (job.training.epochs, job.training.steps, job.training.seed) == (12, None, 7)
    assert (job.resources.workers, job.resources.priority) == (2, 50)


def test_a_text_and_its_file_are_the_same_job(job_file: Path, job_text: str) -> None:
    assert load_job(job_file) == load_job(job_text) == load_job(job_text.encode())


def test_a_job_cannot_be_changed(job_text: str) -> None:
    job = load_job(job_text)
    with pytest.raises(ValidationError, match="frozen"):
        job.privacy.epsilon = 9.0  # type: ignore[misc]  # that is the claim


def test_a_dataset_version_is_pinned_by_an_at_sign(job_text: str) -> None:
    newest, pinned = load_job(job_text).data, load_job(job_text, ["data.dataset=adult@12"]).data
    assert (newest.dataset_name, newest.dataset_version) == ("adult", None)
    assert (pinned.dataset_name, pinned.dataset_version) == ("adult", 12)


@pytest.mark.parametrize(
    "assignment",
    [
        "apiVersion=secure-train/v2",
        "kind=Job",
        "metadata.name=Income",
        "metadata.name=-income",
        f"metadata.name={'a' * 64}",
        "metadata.project=a.b",
        "metadata.purpose=''",
        "metadata.labels.team=a b",
        "data.dataset=adult@",
        "data.dataset=adult@0",
        "data.dataset=adult@1.5",
        "model.kind=transformer",
        "model.hidden=[]",
        "model.hidden=[0]",
        "model.hidden=32",
        "model.hidden=[65536, 65536]",
        "model.activation=softmax",
        "privacy.epsilon=0",
        "privacy.epsilon=-1",
        "privacy.epsilon=100.5",
        "privacy.epsilon=.inf",
        "privacy.epsilon=.nan",
        "privacy.epsilon=true",
        "privacy.epsilon='3'",
        "privacy.delta=0",
        "privacy.delta=1",
        "privacy.maxGradNorm=0",
        "privacy.maxGradNorm=1e7",
        "privacy.evaluation.epsilon=-0.1",
        "privacy.evaluation.every=0",
        "training.batchSize=0",
        "training.batchSize=512.0",
        "training.batchSize=99999999",
        "training.epochs=0",
        "training.physicalBatchSize=0",
        "training.optimizer.learningRate=0",
        "training.optimizer.learningRate=1e-400",
        "training.optimizer.beta1=1",
        "training.optimizer.kind=lbfgs",
        "training.seed=-1",
        "training.seed=4294967296",
        "resources.workers=0",
        "resources.workers=257",
        "resources.cpusPerWorker=0.5",
        "resources.gpusPerWorker=-1",
        "resources.priority=101",
        "recovery.maxFailures=-1",
        "recovery.checkpointEvery=0",
        "recovery.keepCheckpoints=0",
    ],
)
def test_a_value_out_of_bounds_is_refused_at_its_own_path(job_text: str, assignment: str) -> None:
    paths = set(refused(job_text, assignment))
    target = assignment.partition("=")[0]
    assert all(path == target or path == f"{target}.0" for path in paths), paths


def test_a_bad_item_of_a_list_is_named_by_its_index(job_text: str) -> None:
    assert set(refused(job_text, "model.hidden=[8, -1, 8, x]")) == {"model.hidden.1", "model.hidden.3"}


@pytest.mark.parametrize("share", ["3", "3.0", "50"])
def test_evaluation_must_leave_epsilon_for_training(job_text: str, share: str) -> None:
    assert refused(job_text, f"privacy.evaluation.epsilon={share}") == {
        "privacy.evaluation.epsilon": "leaves nothing for training"
    }


def test_a_job_may_do_without_evaluation(job_text: str) -> None:
    assert load_job(job_text, ["privacy.evaluation=null"]).privacy.evaluation is None


def test_training_is_no_longer_than_the_accountant_is_exact_for(job_text: str) -> None:
    longest = load_job(job_text, ["training.epochs=null", f"training.steps={MAX_STEPS}"])
    assert longest.training.steps == MAX_STEPS
    too_long = ("training.epochs=null", f"training.steps={MAX_STEPS + 1}")
    assert set(refused(job_text, *too_long)) == {"training.steps"}


def test_exactly_one_of_epochs_and_steps_is_given(job_text: str) -> None:
    assert "training.steps" in refused(job_text, "training.steps=5")
    assert "training.steps" in refused(job_text, "training.epochs=null")
    assert load_job(job_text, ["training.epochs=null", "training.steps=5"]).training.steps == 5


CNN = "model={kind: cnn, inputShape: [1, 28, 28], channels: [16, 32]"


def test_a_convolutional_model_has_usable_defaults(job_text: str) -> None:
    model = load_job(job_text, [CNN + "}"]).model
    assert model.kind == "cnn"
    assert (model.input_shape, model.kernel_size, model.pool, model.hidden) == ((1, 28, 28), 3, 2, ())


def test_pooling_must_leave_something_of_the_image(job_text: str) -> None:
    assert set(refused(job_text, CNN + ", pool: 6}")) == {"model.pool"}
    assert load_job(job_text, [CNN + ", pool: 5}"]).model.kind == "cnn"
    assert set(refused(job_text, CNN.replace("32]", "32, 32, 32, 32]") + "}")) == {"model.pool"}


def test_a_typo_cannot_allocate_a_giant_model(job_text: str) -> None:
    assert set(refused(job_text, CNN + ", pool: 1, hidden: [65536]}")) == {"model.hidden"}
    assert set(refused(job_text, "model.hidden=[60000, 60000]")) == {"model.hidden"}


def test_a_kernel_has_a_centre(job_text: str) -> None:
    assert set(refused(job_text, CNN + ", kernelSize: 4}")) == {"model.kernelSize"}


ENTRYPOINT = "model={kind: entrypoint, entrypoint: 'my.models:build'"


def test_an_entrypoint_carries_json_parameters(job_text: str) -> None:
    model = load_job(
        job_text, [ENTRYPOINT + ", parameters: {depth: 3, rate: 1e-3, flags: [no, true]}}"]
    ).model
    assert model.kind == "entrypoint"
    assert model.parameters == {"depth": 3, "rate": 1e-3, "flags": ["no", True]}
    assert model.working_dir == "."


@pytest.mark.parametrize(
    "name", ["build", "my.models:", ":build", "my models:build", "os;x:y", "a:b:c", "a.:b"]
)
def test_an_entrypoint_is_a_module_and_a_function(job_text: str, name: str) -> None:
    model = f"model={{kind: entrypoint, entrypoint: {name!r}}}"
    assert set(refused(job_text, model)) == {"model.entrypoint"}


@pytest.mark.parametrize("path", ["/home/me/code", "'a\\b'", "''"])
def test_a_working_dir_is_relative_to_the_job(job_text: str, path: str) -> None:
    assert set(refused(job_text, f"{ENTRYPOINT}, workingDir: {path}}}")) == {"model.workingDir"}


def test_parameters_that_json_cannot_hold_are_refused_where_they_stand(job_text: str) -> None:
    nested = ENTRYPOINT + ", parameters: {a: {b: [1, %s]}}}"
    assert set(refused(job_text, nested % ".nan")) == {"model.parameters.a.b.1"}
    assert set(refused(job_text, nested % "9007199254740993")) == {"model.parameters.a.b.1"}


def test_python_may_build_a_job_by_attribute_names(job_text: str) -> None:
    job = load_job(job_text)
    fields = {name: getattr(job, name) for name in TrainingJob.model_fields}
    assert TrainingJob(**fields) == job
    assert MlpModel(kind="mlp", hidden=(32,), activation="tanh") == job.model
