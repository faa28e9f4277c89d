"""`--set path=value`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_train.spec import SpecError, SpecErrors, load_job


def refused(text: str, *overrides: str) -> tuple[SpecError, ...]:
    with pytest.raises(SpecErrors) as caught:
        load_job(text, overrides)
    return caught.value.errors


def test_values_are_yaml(job_text: str) -> None:
    job = load_job(
        job_text, ["privacy.epsilon=4", "model.hidden=[64, 32]", "training.optimizer.learningRate=1e-3"]
    )
    assert job.privacy.epsilon == 4.0
    assert job.model.kind == "mlp"
    assert job.model.hidden == (64, 32)
    assert job.training.optimizer.learning_rate == 1e-3


def test_an_item_of_a_list_is_set_by_its_index(job_text: str) -> None:
    model = load_job(job_text, ["model.hidden=[64, 32]", "model.hidden.1=16"]).model
    assert model.kind == "mlp"
    assert model.hidden == (64, 16)
    (error,) = refused(job_text, "model.hidden.1=16")
    assert (error.path, error.hint) == ("model.hidden.1", "use an index from 0 to 0")


def test_later_overrides_win_and_sections_come_into_being(job_text: str) -> None:
    text = job_text[: job_text.index("resources:")]
    job = load_job(text, ["resources.workers=3", "resources.workers=5"])
    assert job.resources.workers == 5


def test_a_value_may_contain_an_equals_sign(job_text: str) -> None:
    (error,) = refused(job_text, "metadata.name=a=b")
    assert error.given == '"a=b"'


def test_a_mapping_is_replaced_as_a_whole(job_text: str) -> None:
    job = load_job(job_text, ["training.optimizer={kind: sgd, learningRate: 0.1, momentum: 0.9}"])
    assert job.training.optimizer.kind == "sgd"


def test_an_override_repairs_the_value_it_replaces(job_text: str) -> None:
    text = job_text.replace("epsilon: 3.0", "epsilon: -1")
    assert load_job(text, ["privacy.epsilon=2"]).privacy.epsilon == 2.0


@pytest.mark.parametrize(
    ("assignment", "path", "hint"),
    [
        ("privcy.epsilon=3", "privcy", "did you mean `privacy`?"),
        ("privacy.epsilonn=3", "privacy.epsilonn", "did you mean `epsilon`?"),
        ("workers=3", "workers", "did you mean `resources.workers`?"),
        ("model.hidden.kind.x=3", "model.hidden.kind", "use an index from 0 to 0"),
        ("privacy.epsilon.x=3", "privacy.epsilon.x", "set `privacy.epsilon` as a whole"),
    ],
)
def test_an_unknown_path_is_an_error_with_a_suggestion(
    job_text: str, assignment: str, path: str, hint: str
) -> None:
    (error,) = refused(job_text, assignment)
    assert (error.path, error.hint) == (path, hint)
    assert (error.override, error.line) == (f"--set {assignment}", None)


def test_a_wrong_value_names_the_override_as_its_place(job_text: str) -> None:
    (error,) = refused(job_text, "model.hidden=[1, x]")
    assert (error.path, error.override) == ("model.hidden.1", "--set model.hidden=[1, x]")
    assert "(--set model.hidden=[1, x])" in str(error)


@pytest.mark.parametrize("assignment", ["", "x", "=3", ".=3", "privacy.=3", "privacy..epsilon=3"])
def test_a_malformed_override_says_what_form_is_meant(job_text: str, assignment: str) -> None:
    (error,) = refused(job_text, assignment)
    assert error.message == "is not of the form path=value"


@pytest.mark.parametrize("value", ["[1", "&a [1]", "*a", "!!int 3", "{a: 1, a: 2}"])
def test_what_is_refused_in_a_file_is_refused_in_an_override(job_text: str, value: str) -> None:
    assert all(
        error.override == f"--set privacy.epsilon={value}"
        for error in refused(job_text, f"privacy.epsilon={value}")
    )


def test_a_job_can_be_written_in_overrides_alone() -> None:
    job = load_job(
        "",
        [
            "apiVersion=secure-train/v1",
            "kind=TrainingJob",
            "metadata={name: a, project: b, purpose: c}",
            "data.dataset=d",
            "model.kind=linear",
            "privacy.epsilon=1",
            "privacy.delta=1e-6",
            "training.batchSize=8",
            "training.steps=2",
            "training.optimizer={kind: sgd, learningRate: 1}",
        ],
    )
    assert job.metadata.project == "b"


@given(
    st.lists(st.text() | st.from_regex(r"[a-z.]{1,20}=[a-z0-9\[\]{}:, ]{0,10}", fullmatch=True), max_size=3)
)
def test_no_override_raises_anything_but_spec_errors(job_text: str, overrides: list[str]) -> None:
    found: tuple[SpecError, ...] | None = None
    try:
        load_job(job_text, overrides)
    except SpecErrors as error:
        found = error.errors
    assert found is None or (
        found and all(each.override in {f"--set {one}" for one in overrides} for each in found)
    )
