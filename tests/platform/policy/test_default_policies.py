"""The default rules, one by one: each permits what it should, and each way to violate it is denied."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_train.db.tables import Dataset
from secure_train.policy import JOB_ACTIONS, Action, PolicyEngine, Resource
from secure_train.policy.engine import INVALID_REQUEST, NO_PERMIT, POLICY_ERROR
from secure_train.policy.entities import dataset_entity
from secure_train.policy.resources import catalog

PERSONAL = ("admin", "engineer", "data-owner", "auditor", "operator")

# What each role, as a member of the project, may do to each thing. Everything else must be denied.
PERMITTED: dict[str, dict[str, str]] = {
    "engineer": {
        "dataset": "dataset:read dataset:budget job:submit",
        "job": "job:read",
        "checkpoint": "checkpoint:read",
        "model": "model:read model:download model:predict model:promote",
        "project": "project:read",
    },
    "data-owner": {
        "project": "dataset:register dataset:encrypt project:read",
        "model": "model:read model:promote model:delete",
    },
    "auditor": {
        "dataset": "dataset:read dataset:budget",
        "job": "job:read",
        "checkpoint": "checkpoint:read",
        "model": "model:read",
        "project": "project:read",
        "other principal": "principal:read policy:explain",
        "catalog": "audit:read audit:verify audit:export policy:read policy:explain key:read system:read "
        "dataset:budget",
    },
    "operator": {
        "job": "job:read job:cancel",
        "checkpoint": "checkpoint:read",
        "project": "project:read",
        "catalog": "system:read key:read",
    },
    "admin": {
        "dataset": "dataset:read dataset:budget",
        "job": "job:read job:cancel",
        "checkpoint": "checkpoint:read",
        "model": "model:read model:delete",
        "project": "project:read project:update",
        "other principal": "principal:read principal:update principal:token principal:revoke policy:explain",
        "catalog": "principal:create principal:update principal:token principal:revoke project:create "
        "project:update policy:read policy:explain policy:apply key:read key:create key:rotate key:shred "
        "audit:read audit:verify audit:export system:read dataset:budget job:cancel model:delete",
        "missing": " ".join(Action),
    },
    "": {"project": "project:read"},
}
LISTS = {"dataset:read", "job:read", "model:read", "project:read", "principal:read"}
THINGS = ("dataset", "job", "checkpoint", "model", "project", "catalog", "missing", "other principal")


@pytest.mark.parametrize("role", PERMITTED)
@pytest.mark.parametrize("thing", THINGS)
def test_a_role_may_do_exactly_what_the_table_says(company: Any, role: str, thing: str) -> None:
    expected = set(PERMITTED[role].get(thing, "").split())
    if thing == "catalog":
        expected |= LISTS
    actor = company.actor(role)
    assert {action.value for action in Action if company.ask(actor, action, thing) == "allow"} == expected


@pytest.mark.parametrize("thing", THINGS)
def test_a_principal_without_role_and_project_may_only_ask_for_lists(company: Any, thing: str) -> None:
    actor = company.actor("", projects=())
    allowed = {action.value for action in Action if company.ask(actor, action, thing) == "allow"}
    assert allowed == (LISTS if thing == "catalog" else set())


@pytest.mark.parametrize("role", PERSONAL)
@pytest.mark.parametrize("thing", THINGS)
def test_a_deactivated_principal_may_do_nothing(company: Any, role: str, thing: str) -> None:
    actor = company.actor(role, active=False)
    assert all(company.ask(actor, action, thing) != "allow" for action in Action)


def test_membership_counts_not_the_role_alone(company: Any) -> None:
    outsider = company.actor("engineer", projects=("other",))
    for thing in ("dataset", "job", "checkpoint", "model", "project"):
        assert {company.ask(outsider, action, thing) for action in Action} <= {NO_PERMIT, INVALID_REQUEST}


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({}, "allow"),
        ({"epsilon": 8.0}, "allow"),
        ({"epsilon": 8.00001}, "epsilon-above-8"),
        ({"epsilon": 9.0}, "epsilon-above-8"),
        ({"delta": 5e-5}, "allow"),
        ({"delta": 5.0001e-5}, "delta-above-one-over-rows"),
        ({"delta": 0.5}, "delta-above-one-over-rows"),
        ({"purpose": "marketing"}, "purpose-not-allowed"),
        ({"purpose": ""}, "purpose-not-allowed"),
        ({"project": "other"}, "job-names-another-project"),
        ({"epsilon": float("nan")}, INVALID_REQUEST),
        ({"epsilon": float("inf")}, INVALID_REQUEST),
        ({"delta": float("nan")}, INVALID_REQUEST),
        ({"epsilon": "3"}, INVALID_REQUEST),
        ({"epsilon": None}, INVALID_REQUEST),
        ({"workers": "2"}, INVALID_REQUEST),
        ({"roles": ["admin"]}, INVALID_REQUEST),
        ({"clearance": 3}, INVALID_REQUEST),
    ],
)
def test_each_limit_on_a_submission(company: Any, context: dict[str, Any], reason: str) -> None:
    assert company.ask(company.actor("engineer"), Action.JOB_SUBMIT, "dataset", context) == reason


@pytest.mark.parametrize(
    ("clearance", "reason"), [(0, "clearance-too-low"), (1, "clearance-too-low"), (2, "allow")]
)
def test_clearance_must_reach_the_classification(company: Any, clearance: int, reason: str) -> None:
    actor = company.actor("engineer", clearance=clearance)
    assert company.ask(actor, Action.JOB_SUBMIT, "dataset") == reason


def test_own_code_on_restricted_data_is_for_its_owner_alone(company: Any) -> None:
    def ask(who: str, classification: int, *, own_code: bool) -> str:
        row = Dataset(
            id="ds_1",
            project_id="census",
            owner_id="user:olga",
            classification=classification,
            purposes=["income-statistics"],
        )
        restricted = Resource("dataset:ds_1", dataset_entity(row, rows=20_000), "census")
        actor = company.actor("engineer", who)
        outcome: str = company.ask(actor, Action.JOB_SUBMIT, restricted, {"own_code": own_code})
        return outcome

    assert ask("user:mia", 3, own_code=True) == "own-code-on-restricted-data"
    assert ask("user:mia", 3, own_code=False) == "allow"
    assert ask("user:mia", 2, own_code=True) == "allow"
    assert ask("user:olga", 3, own_code=True) == "allow"


def test_only_the_owner_may_ask_for_a_large_epsilon(company: Any) -> None:
    owner = company.actor("engineer", "user:olga")
    assert company.ask(owner, Action.JOB_SUBMIT, "dataset", {"epsilon": 20.0}) == "allow"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(epsilon=st.floats(min_value=1e-6, max_value=100), delta=st.floats(min_value=1e-12, max_value=0.1))
def test_a_submission_is_allowed_exactly_within_the_limits(
    company: Any, epsilon: float, delta: float
) -> None:
    wanted = {"epsilon": epsilon, "delta": delta}
    allowed = company.ask(company.actor("engineer"), Action.JOB_SUBMIT, "dataset", wanted) == "allow"
    if allowed:
        assert epsilon <= 8
        assert delta * 20_000 <= 1
    else:
        # Rounding up to 1e-4 and 1e-9 may deny only at the very edge.
        assert epsilon > 7.9999 or delta > 4.9998e-5


def test_an_outsider_cannot_tell_an_existing_dataset_from_a_missing_one(company: Any) -> None:
    outsider = company.actor("engineer", projects=("other",), clearance=0)
    bad = {"purpose": "marketing", "epsilon": 50.0, "delta": 0.1, "project": "other"}
    outcomes = {company.ask(outsider, Action.JOB_SUBMIT, thing, bad) for thing in ("dataset", "missing")}
    assert outcomes == {NO_PERMIT}


def test_a_project_with_a_part_of_the_budget_may_use_the_dataset(company: Any) -> None:
    guest, own = company.actor("engineer", projects=("guests",)), {"project": "guests"}
    assert company.ask(guest, Action.DATASET_READ, "dataset") == "allow"
    assert company.ask(guest, Action.DATASET_BUDGET, "dataset") == "allow"
    assert company.ask(guest, Action.JOB_SUBMIT, "dataset", own) == "allow"
    assert company.ask(guest, Action.JOB_SUBMIT, "dataset", own | {"epsilon": 9.0}) == "epsilon-above-8"
    # Neither on the account of a project that one is no member of, nor of one that has no part.
    for project in ("census", "other"):
        reason = company.ask(guest, Action.JOB_SUBMIT, "dataset", {"project": project})
        assert reason == "job-names-another-project"
    everywhere = company.actor("engineer", projects=("census", "guests", "other"))
    assert company.ask(everywhere, Action.JOB_SUBMIT, "dataset", own) == "allow"
    reason = company.ask(everywhere, Action.JOB_SUBMIT, "dataset", {"project": "other"})
    assert reason == "job-names-another-project"
    for thing in ("job", "model", "checkpoint"):
        assert company.ask(guest, Action(f"{thing}:read"), thing) == NO_PERMIT


def test_only_the_owner_changes_a_budget_and_raises_it_only_without_jobs_of_their_own(company: Any) -> None:
    def ask(actor: Any, *, raises: bool, submitters: list[str]) -> str:
        context = {"raises": raises, "submitters": submitters}
        outcome: str = company.ask(actor, Action.DATASET_SET_BUDGET, "dataset", context)
        return outcome

    owner = company.actor("data-owner", "user:olga")
    assert ask(owner, raises=True, submitters=["user:erik"]) == "allow"
    assert ask(owner, raises=True, submitters=["user:erik", "user:olga"]) == "own-budget-not-raised"
    assert ask(owner, raises=False, submitters=["user:olga"]) == "allow"
    for role in ("data-owner", "engineer", "admin", "auditor", "operator"):
        assert ask(company.actor(role), raises=False, submitters=[]) == NO_PERMIT


def test_only_the_submitter_controls_a_job_among_engineers(company: Any) -> None:
    for action in (Action.JOB_CANCEL, Action.JOB_RESUME):
        assert company.ask(company.actor("engineer", "user:erik"), action, "job") == "allow"
        assert company.ask(company.actor("engineer", "user:mia"), action, "job") == NO_PERMIT
        left = company.actor("engineer", "user:erik", projects=())
        assert company.ask(left, action, "job") == NO_PERMIT


def test_the_owner_controls_the_dataset_and_watches_its_jobs(company: Any) -> None:
    owner, other = company.actor("data-owner", "user:olga"), company.actor("data-owner")
    for action in (
        Action.DATASET_REGISTER,
        Action.DATASET_ENCRYPT,
        Action.DATASET_READ,
        Action.DATASET_BUDGET,
        Action.DATASET_SET_BUDGET,
    ):
        assert company.ask(owner, action, "dataset") == "allow"
        assert company.ask(other, action, "dataset") == NO_PERMIT
    for action in (Action.JOB_READ, Action.JOB_CANCEL):
        assert company.ask(owner, action, "job") == "allow"
        assert company.ask(other, action, "job") == NO_PERMIT


@pytest.mark.parametrize("role", ["engineer", "data-owner"])
def test_nobody_promotes_the_model_of_a_job_that_is_their_own(company: Any, role: str) -> None:
    assert (
        company.ask(company.actor(role, "user:erik"), Action.MODEL_PROMOTE, "model")
        == "own-model-not-promoted"
    )
    assert company.ask(company.actor(role, "user:mia"), Action.MODEL_PROMOTE, "model") == "allow"


def test_a_submitter_without_clearance_or_purpose_cannot_resume(company: Any) -> None:
    low = company.actor("engineer", "user:erik", clearance=1)
    assert company.ask(low, Action.JOB_RESUME, "job") == "clearance-too-low-to-resume"


def test_everybody_sees_and_disarms_only_themselves(company: Any) -> None:
    zoe = company.actor("engineer", "user:zoe")
    allowed = {action for action in Action if company.ask(zoe, action, "other principal") == "allow"}
    assert allowed == {Action.PRINCIPAL_READ, Action.PRINCIPAL_REVOKE, Action.POLICY_EXPLAIN}
    mia = company.actor("engineer")
    assert not any(company.ask(mia, action, "other principal") == "allow" for action in Action)


def test_a_job_may_do_exactly_what_its_training_needs(company: Any) -> None:
    expected = {
        "dataset": {Action.DATASET_READ},
        "job": {Action.MODEL_TRAIN, Action.MODEL_EVALUATE, Action.MODEL_PUBLISH, Action.JOB_REPORT},
        "checkpoint": {Action.CHECKPOINT_WRITE, Action.CHECKPOINT_READ, Action.CHECKPOINT_RESTORE},
    }
    job = company.job()
    for thing in THINGS:
        allowed = {action for action in Action if company.ask(job, action, thing) == "allow"}
        assert allowed == expected.get(thing, set()), thing
    assert set().union(*expected.values()) == JOB_ACTIONS


def test_a_job_may_not_touch_what_is_another_jobs(company: Any) -> None:
    other = company.job(id="job_2", dataset_id="ds_2")
    for thing in THINGS:
        assert not any(company.ask(other, action, thing) == "allow" for action in Action)


def test_a_capability_grants_nothing_that_it_does_not_name(company: Any) -> None:
    weak = company.job(granted={Action.JOB_REPORT})
    assert company.ask(weak, Action.JOB_REPORT, "job") == "allow"
    assert company.ask(weak, Action.DATASET_READ, "dataset") == "capability-does-not-grant"
    assert company.ask(company.job(granted=None), Action.JOB_REPORT, "job") == "capability-does-not-grant"


def test_a_job_may_do_nothing_once_its_submitter_is_deactivated(company: Any) -> None:
    orphan = company.job(submitter_active=False)
    assert company.ask(orphan, Action.MODEL_TRAIN, "job") == "submitter-inactive"
    for thing in THINGS:
        assert not any(company.ask(orphan, action, thing) == "allow" for action in Action)


def test_a_withdrawn_purpose_stops_a_running_job(company: Any) -> None:
    assert company.ask(company.job(purpose="withdrawn"), Action.DATASET_READ, "dataset") == NO_PERMIT


def test_every_action_is_in_the_schema_and_in_some_default_rule(company: Any, engine: PolicyEngine) -> None:
    everything = "\n".join(engine.policies.values())
    for action in Action:
        assert f'"{action.value}"' in engine.schema
        assert f'Action::"{action.value}"' in everything
    things = [*company.things.values(), catalog("keys")]
    assert {thing.entity.uid.type for thing in things} == {
        "Dataset", "Job", "Checkpoint", "Model", "Project", "Catalog", "Missing", "Principal"
    }  # fmt: skip


def test_an_arithmetic_overflow_in_a_forbid_denies(company: Any) -> None:
    """Cedar would skip the erring forbid and allow: delta * rows overflows 64 bits here."""
    dataset = company.things["dataset"]
    huge = type(dataset.entity)(dataset.entity.uid, dict(dataset.entity.attributes) | {"rows": 2**62})
    resource = type(dataset)(dataset.ref, huge, dataset.project)
    assert company.ask(company.actor("engineer"), Action.JOB_SUBMIT, resource) == POLICY_ERROR
