"""Submitting searches: every trial is decided on and charged, or there is none."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from secure_train.db.tables import Job, Search
from secure_train.jobs import JobConflict
from secure_train.jobs.errors import JobNotFound
from secure_train.ledger import BudgetExceeded
from secure_train.policy import Denied
from secure_train.registry import NotFound
from secure_train.spec import SpecErrors


def _counts(plane: Any) -> tuple[int, int]:
    with plane.database.read() as session:
        return session.query(Search).count(), session.query(Job).count()


def test_a_submission_decides_on_each_trial_and_holds_the_budget_of_all(
    searching: Any, decisions: Any, events: Any
) -> None:
    before = len(decisions())
    search_id = searching.submit()
    detail = searching.detail(search_id)
    assert [trial.parameters for trial in detail.trials] != []
    rates = {trial.parameters["training.optimizer.learningRate"] for trial in detail.trials}
    assert rates == {0.1, 0.2, 0.3}
    assert searching.held() == ["held"] * 3
    assert searching.states(search_id) == ["submitted"] * 3
    submitted = [row for row in decisions()[before:] if row.action == "job:submit"]
    assert [row.result for row in submitted] == ["allow"] * 3
    assert [event.type for event in events(subject=f"search:{search_id}")] == [
        "search.submitted",
        *["search.trial"] * 3,
        *["policy.decision"] * 2,
    ]
    assert (detail.search.epsilon, detail.search.trials) == (3.0, 3)


def test_each_trial_is_an_ordinary_job_that_names_its_search(searching: Any) -> None:
    search_id = searching.submit()
    alice = searching.plane.actor("user:alice")
    jobs = searching.plane.jobs.list(alice, project=None, state=None, limit=9, after=None)
    assert [job.search for job in jobs] == [search_id] * 3
    trial = searching.detail(search_id).trials[0]
    spec = searching.plane.jobs.detail(alice, trial.job).spec
    assert spec["training"]["optimizer"]["learningRate"] == next(iter(trial.parameters.values()))


def test_repeating_a_submission_returns_the_same_search_and_charges_once(searching: Any) -> None:
    first = searching.submit("k")
    assert searching.submit("k") == first
    assert _counts(searching.plane) == (1, 3)
    with pytest.raises(JobConflict, match="another search"):
        searching.submit("k", seed=9)


def test_a_search_that_does_not_fit_holds_nothing_and_is_told_what_would(searching: Any) -> None:
    many = {"sampler": "random", "trials": 20}
    with pytest.raises(BudgetExceeded, match="20 trials are all charged") as caught:
        searching.submit(**many)
    assert searching.held() == []
    with searching.plane.database.read() as session:
        (denied,) = session.query(Search).all()
        assert (denied.state, session.query(Job).count()) == ("denied", 0)
        assert "budget" in denied.reason
    plan = searching.plan(**many)
    assert not plan.fits_budget
    assert 0 < plan.fitting_trials < 20
    assert f"{plan.fitting_trials} of its trials would fit" in str(caught.value)
    assert f"up to {plan.fitting_epsilon!r}" in str(caught.value)
    assert not searching.plan(sampler="random", trials=plan.fitting_trials + 1).fits_budget
    searching.submit("fits", sampler="random", trials=plan.fitting_trials)
    assert searching.held() == ["held"] * plan.fitting_trials


def test_the_epsilon_that_is_said_to_fit_does(searching: Any) -> None:
    plan = searching.plan(sampler="random", trials=20)
    privacy = {"epsilon": plan.fitting_epsilon, "delta": 1e-5, "evaluation": {"epsilon": 0.2}}
    assert plan.fitting_epsilon < 1.0
    assert searching.plan(sampler="random", trials=20, template={"privacy": privacy}).fits_budget


def test_a_plan_shows_the_cost_of_one_trial_and_of_all_and_changes_nothing(
    searching: Any, decisions: Any
) -> None:
    before = len(decisions())
    plan = searching.plan()
    assert (plan.allowed, plan.fits_budget) == (True, True)
    assert [trial.epsilon for trial in plan.trials] == [1.0] * 3
    assert (plan.epsilon_sum, plan.delta_sum) == (3.0, 3e-5)
    assert plan.trials[0].noise_multiplier > 0
    assert 0 < plan.budget_with_search_epsilon < plan.budget_epsilon
    assert len(decisions()) == before + 1
    assert _counts(searching.plane) == (0, 0)
    searching.submit()
    assert searching.plan().budget_used_epsilon == plan.budget_with_search_epsilon


def test_trials_of_different_cost_are_each_priced(searching: Any) -> None:
    plan = searching.plan(parameters={"training.batchSize": {"choices": [16, 32]}})
    assert sorted(trial.sampling_rate for trial in plan.trials) == [0.1, 0.2]
    assert plan.fitting_epsilon is None


def test_a_search_that_policy_denies_is_one_denial_and_no_trial(
    searching: Any, decisions: Any, events: Any
) -> None:
    before = len(decisions())
    spec = searching.spec()
    spec["metadata"]["purpose"] = "marketing"
    with pytest.raises(Denied):
        searching.service.submit(
            searching.plane.actor("user:alice"),
            _message(spec),
        )
    assert [(row.result, row.reason) for row in decisions()[before:]] == [("deny", "purpose-not-allowed")]
    assert _counts(searching.plane) == (1, 0)
    assert len(events(type="search.denied")) == 1


def test_an_outsider_learns_nothing_and_leaves_nothing(searching: Any) -> None:
    reasons = []
    for name in ("adult", "nothing-there"):
        with pytest.raises(Denied) as caught:
            searching.submit(by="user:outsider", template={"data": {"dataset": name}})
        reasons.append(caught.value.decision.reason)
    assert reasons[0] == reasons[1]
    with pytest.raises(Denied):
        searching.plan(by="user:outsider")
    assert _counts(searching.plane) == (0, 0)


def test_who_may_know_learns_that_a_dataset_or_a_search_does_not_exist(searching: Any) -> None:
    with pytest.raises(NotFound, match="no dataset 'ghost'"):
        searching.submit(by="user:root", template={"data": {"dataset": "ghost"}})
    with pytest.raises(JobNotFound):
        searching.service.detail(searching.plane.actor("user:root"), "srch_none")
    with pytest.raises(Denied):
        searching.service.detail(searching.plane.actor("user:alice"), "srch_none")


def test_what_does_not_fit_the_dataset_is_told_with_its_path(searching: Any) -> None:
    with pytest.raises(SpecErrors) as caught:
        searching.submit(objective="error")
    assert [error.path for error in caught.value.errors] == ["search.objective"]
    with pytest.raises(SpecErrors) as caught:
        searching.submit(parameters={"training.batchSize": {"choices": [16, 161]}})
    assert [error.path for error in caught.value.errors] == ["template.training.batchSize"]
    assert "161" in str(caught.value)
    assert _counts(searching.plane) == (0, 0)


def test_lists_show_only_what_one_may_read(searching: Any) -> None:
    made = [searching.submit(f"k{index}") for index in range(2)]
    page = {"project": "census", "state": "running", "limit": 1, "after": None}
    newest = searching.service.list(searching.plane.actor("user:alice"), **page)
    assert [view.id for view in newest] == [max(made)]
    rest = searching.service.list(searching.plane.actor("user:alice"), **page | {"after": max(made)})
    assert [view.id for view in rest] == [min(made)]
    assert searching.service.list(searching.plane.actor("user:outsider"), **page) == []


def test_searches_that_race_never_hold_more_than_the_budget(searching: Any) -> None:
    fits = searching.plan(sampler="random", trials=20).fitting_trials
    trials = fits * 2 // 3
    outcomes: list[str] = []

    def race(key: str) -> None:
        try:
            searching.submit(key, sampler="random", trials=trials, seed=int(key))
            outcomes.append("admitted")
        except BudgetExceeded:
            outcomes.append("refused")

    threads = [threading.Thread(target=race, args=(str(index),)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["admitted", "refused", "refused"]
    assert searching.held() == ["held"] * trials


def _message(spec: dict[str, Any]) -> Any:
    from secure_train.wire.searches import SubmitSearch

    return SubmitSearch(spec=spec, idempotency_key="k")
