from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secure_train.policy import Action, InvalidPolicies, PolicyEngine, Request
from secure_train.policy.engine import DEFAULT_POLICIES, INVALID_REQUEST, NO_PERMIT, POLICY_ERROR, SCHEMA
from secure_train.policy.entities import Entity, Uid
from secure_train.policy.resources import Resource, missing

PERMIT_ALL = '@id("all") permit (principal, action, resource);'


def _engine(**policies: str) -> PolicyEngine:
    return PolicyEngine({f"{name}.cedar": text for name, text in policies.items()}, SCHEMA.read_text())


def test_without_a_permit_everything_is_denied(company: Any) -> None:
    engine = _engine(only='@id("never") forbid (principal, action, resource) when { false };')
    actor = company.actor("admin")
    outcomes = [engine.evaluate(Request(actor, action, company.things["dataset"])) for action in Action]
    assert not any(outcome.allowed for outcome in outcomes)
    assert {outcome.reason for outcome in outcomes} == {NO_PERMIT, INVALID_REQUEST}


def test_a_forbid_overrides_a_permit_and_is_the_reason(company: Any) -> None:
    forbid = '@id("none") forbid (principal, action == Action::"system:read", resource);'
    engine = _engine(a=PERMIT_ALL, b=forbid)
    request = Request(company.actor("admin"), Action.SYSTEM_READ, company.things["catalog"])
    outcome = engine.evaluate(request)
    assert (outcome.allowed, outcome.reason, outcome.policies) == (False, "none", ("none",))
    assert _engine(a=PERMIT_ALL).evaluate(request).policies == ("all",)


def test_an_erring_forbid_denies(company: Any) -> None:
    """Cedar alone would skip the forbid, because adding 1 to the largest Long errs, and allow."""
    erring = """@id("errs") forbid (principal is Principal, action, resource)
                when { 9223372036854775807 + principal.clearance > 0 };"""
    engine = _engine(a=PERMIT_ALL, b=erring)
    outcome = engine.evaluate(Request(company.actor("admin"), Action.SYSTEM_READ, company.things["catalog"]))
    assert (outcome.allowed, outcome.reason) == (False, POLICY_ERROR)
    assert "overflow" in outcome.errors[0]


def test_an_erring_permit_denies_though_another_permits(company: Any) -> None:
    erring = """@id("errs") permit (principal is Principal, action, resource)
                when { 9223372036854775807 + principal.clearance > 0 };"""
    engine = _engine(a=PERMIT_ALL, b=erring)
    outcome = engine.evaluate(Request(company.actor("admin"), Action.SYSTEM_READ, company.things["catalog"]))
    assert (outcome.allowed, outcome.reason) == (False, POLICY_ERROR)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"kind": "user", "department": "", "clearance": "3", "roles": [], "active": True},
        {"kind": "user", "department": "", "clearance": 3, "roles": [], "active": True, "extra": 1},
    ],
)
def test_an_entity_that_does_not_fit_the_schema_is_denied(company: Any, attributes: dict[str, Any]) -> None:
    actor = company.actor("admin")
    broken = type(actor)(actor.id, Entity(actor.entity.uid, attributes))
    outcome = _engine(a=PERMIT_ALL).evaluate(Request(broken, Action.SYSTEM_READ, company.things["catalog"]))
    assert (outcome.allowed, outcome.reason) == (False, INVALID_REQUEST)
    assert outcome.errors


def test_context_cannot_carry_attributes_of_the_principal(company: Any) -> None:
    for forged in ({"principal": {"roles": ["admin"]}}, {"clearance": 3}, {"roles": ["admin"]}):
        request = Request(company.actor(""), Action.SYSTEM_READ, company.things["catalog"], forged)
        outcome = _engine(a=PERMIT_ALL).evaluate(request)
        assert (outcome.allowed, outcome.reason) == (False, INVALID_REQUEST)


def test_an_action_on_a_thing_it_does_not_apply_to_is_denied(company: Any) -> None:
    outcome = _engine(a=PERMIT_ALL).evaluate(
        Request(company.actor("admin"), Action.MODEL_PROMOTE, company.things["dataset"])
    )
    assert (outcome.allowed, outcome.reason) == (False, INVALID_REQUEST)


def test_the_actors_own_entity_wins_over_the_resource_of_the_same_id(company: Any) -> None:
    """A job that reads itself still carries its grants; somebody who looks at himself keeps his projects."""
    job = company.job()
    assert company.ask(job, Action.JOB_REPORT, "job") == "allow"


@pytest.mark.parametrize("ref", ['x" } permit', "a\x00b", "line\nbreak", "é" * 500, "", '"; --'])
def test_whatever_a_caller_names_is_only_a_name(company: Any, ref: str) -> None:
    resource = missing("job", ref)
    assert len(resource.ref) <= 160
    assert resource.ref.isprintable()
    assert company.ask(company.actor("engineer"), Action.JOB_READ, resource) == NO_PERMIT
    assert company.ask(company.actor("admin"), Action.JOB_READ, resource) == "allow"


def test_requests_evaluated_together_come_out_as_one_by_one(company: Any) -> None:
    actor = company.actor("engineer", "user:erik")
    requests = [
        Request(actor, action, thing)
        for action in (Action.JOB_READ, Action.JOB_CANCEL, Action.MODEL_READ, Action.DATASET_READ)
        for thing in company.things.values()
    ]
    together = company.engine.evaluate_all(requests)
    assert together == [company.engine.evaluate(request) for request in requests]
    assert {outcome.allowed for outcome in together} == {True, False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("permit (principal", "bad.cedar"),
        ('@id("a") permit (principal, action == Action::"job:delete", resource);', "job:delete"),
        ('@id("a") permit (principal, action, resource) when { principal.salary > 3 };', "salary"),
        ("permit (principal, action, resource);", "@id"),
        ('@id("Not A Slug") permit (principal, action, resource);', "@id"),
        ('@id("all") forbid (principal, action, resource);', "taken"),
        ('@id("a") permit (principal == ?principal, action, resource);', "template"),
    ],
)
def test_policies_that_are_not_right_are_refused_at_start(text: str, message: str) -> None:
    with pytest.raises(InvalidPolicies, match=message):
        _engine(a=PERMIT_ALL, bad=text)


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicies, match=r"no .*cedar file"):
        PolicyEngine.load(tmp_path)


def test_a_folder_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPolicies, match="UTF-8"):
        PolicyEngine.load(tmp_path)


def test_the_hash_tells_policies_apart() -> None:
    first, second = _engine(a=PERMIT_ALL), _engine(a=PERMIT_ALL + " ")
    assert first.policy_hash != second.policy_hash
    assert first.policy_hash == _engine(a=PERMIT_ALL).policy_hash
    assert first.schema_hash == second.schema_hash


def test_the_default_policies_load_from_their_folder() -> None:
    assert PolicyEngine.load(DEFAULT_POLICIES).policy_hash == PolicyEngine.load().policy_hash


def test_a_resource_that_is_not_in_the_schema_is_denied(company: Any) -> None:
    resource = Resource("spaceship:1", Entity(Uid("Spaceship", "1"), {}))
    outcome = company.engine.evaluate(Request(company.actor("admin"), Action.SYSTEM_READ, resource))
    assert (outcome.allowed, outcome.reason) == (False, INVALID_REQUEST)
