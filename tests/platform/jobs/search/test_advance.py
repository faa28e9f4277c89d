"""A search's life: killed between any two lines, it neither loses a trial nor starts one twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from secure_train.db.tables import Job, Model, ModelVersion
from secure_train.jobs import IllegalTransition
from secure_train.jobs.search import advance as advancing
from secure_train.policy import Denied, InvalidCapability


class Killed(BaseException):
    """As kill -9 would: nothing catches it."""


def _jobs(searching: Any, search_id: str) -> list[str]:
    return [trial.job for trial in searching.detail(search_id).trials]


def _job_specs(searching: Any, search_id: str) -> list[dict[str, Any]]:
    with searching.plane.database.read() as session:
        return [session.get_one(Job, job_id).spec for job_id in _jobs(searching, search_id)]


def test_trials_start_as_others_end_and_the_best_by_released_metric_is_chosen(
    searching: Any, events: Any
) -> None:
    search_id = searching.submit()
    jobs = _jobs(searching, search_id)
    for number, accuracy in enumerate((0.7, 0.9, 0.8)):
        searching.tick()
        waiting = ["submitted"] * (2 - number)
        assert searching.states(search_id) == ["succeeded"] * number + ["starting"] + waiting
        searching.finish(jobs[number], accuracy)
    assert searching.detail(search_id).search.state == "running"
    searching.tick()
    search = searching.detail(search_id).search
    assert (search.state, search.best.number, search.best.value) == ("succeeded", 2, 0.9)
    assert search.best.model == "income@2"
    assert "trial 2 is the best of 3" in search.reason
    (ended,) = events(type="search.succeeded")
    assert ended.data["best_trial"] == 2
    searching.tick()
    assert len(events(type="search.succeeded")) == 1


def test_so_many_trials_are_under_way_as_the_search_allows(searching: Any) -> None:
    searching.allow_running(9)
    search_id = searching.submit(concurrency=2)
    for _ in range(3):
        searching.tick()
        assert searching.states(search_id) == ["starting", "starting", "submitted"]


def test_two_controllers_start_no_trial_beyond_what_is_allowed(searching: Any) -> None:
    search_id = searching.submit(concurrency=2)
    arguments = (searching.plane.database, searching.plane.audit, search_id)
    threads = [threading.Thread(target=advancing.advance, args=arguments) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert searching.states(search_id) == ["queued", "queued", "submitted"]


def test_of_equal_trials_the_first_is_the_best_and_least_loss_wins(searching: Any) -> None:
    search_id = searching.submit(objective="loss")
    jobs = _jobs(searching, search_id)
    for job_id, loss in zip(jobs, (0.5, 0.4, 0.4), strict=True):
        processes = searching.plane.training(job_id)
        processes.train(0, 8)
        processes.release(8, 0.2, loss=loss)
        processes.publish()
    searching.tick()
    assert searching.detail(search_id).search.best.number == 2


def test_a_failed_trial_does_not_fail_the_search(searching: Any) -> None:
    search_id = searching.submit()
    jobs = _jobs(searching, search_id)
    searching.fail(jobs[0])
    searching.finish(jobs[1], 0.6)
    searching.plane.jobs.cancel(searching.plane.actor("user:alice"), jobs[2])
    searching.tick()
    search = searching.detail(search_id).search
    assert (search.state, search.best.number, search.ended_trials) == ("succeeded", 2, 3)
    assert searching.held() == ["settled"] * 3


def test_a_search_without_any_result_fails_and_says_what_became_of_its_trials(searching: Any) -> None:
    search_id = searching.submit()
    for job_id in _jobs(searching, search_id):
        searching.fail(job_id)
    searching.tick()
    search = searching.detail(search_id).search
    assert (search.state, search.best) == ("failed", None)
    assert "3 failed" in search.reason


def test_a_metric_of_an_earlier_model_does_not_count_for_the_published_one(searching: Any) -> None:
    """Live metrics are of models that nobody gets: only what was released at the last step counts."""
    privacy = {"epsilon": 1.0, "delta": 1e-5, "evaluation": {"epsilon": 0.2, "every": 4}}
    search_id = searching.submit(
        parameters={"training.seed": {"choices": [1]}}, template={"privacy": privacy}
    )
    processes = searching.plane.training(_jobs(searching, search_id)[0])
    processes.train(0, 4)
    processes.release(4, 0.1, accuracy=0.99)
    processes.train(4, 8)
    processes.publish()
    searching.tick()
    search = searching.detail(search_id).search
    assert (search.state, search.best) == ("failed", None)


def test_a_killed_controller_goes_on_where_the_rows_say(
    searching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = searching.submit(sampler="tpe", trials=2)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(advancing, "transition", killed)
        with pytest.raises(Killed):
            searching.tick()
    assert [row.parameters for row in searching.rows(search_id)] == [None, None]
    assert searching.states(search_id) == ["submitted", "submitted"]
    with monkeypatch.context() as patch:
        patch.setattr(searching.plane.new_controller(), "_start_queued", killed)
        with pytest.raises(Killed):
            searching.tick()
    assert searching.states(search_id) == ["queued", "submitted"]
    searching.plane.new_controller().tick()
    assert searching.states(search_id) == ["starting", "submitted"]
    with monkeypatch.context() as patch:
        patch.setattr(advancing, "end_search", killed)
        for job_id in _jobs(searching, search_id):
            searching.finish(job_id, 0.5)
        with pytest.raises(Killed):
            searching.tick()
    searching.plane.new_controller().tick()
    assert searching.detail(search_id).search.state == "succeeded"


def test_tpe_chooses_in_its_turn_without_changing_what_is_charged(searching: Any, events: Any) -> None:
    search_id = searching.submit(sampler="tpe", trials=3)
    plane = searching.plane
    charged = [plane.job(job_id) for job_id in _jobs(searching, search_id)]
    assert [row.parameters for row in searching.rows(search_id)] == [None] * 3
    for job_id in _jobs(searching, search_id):
        searching.finish(job_id, 0.5)
    chosen = [row.parameters["training.optimizer.learningRate"] for row in searching.rows(search_id)]
    assert len(set(chosen)) == 3
    assert [
        spec["training"]["optimizer"]["learningRate"] for spec in _job_specs(searching, search_id)
    ] == chosen
    for before, job_id in zip(charged, _jobs(searching, search_id), strict=True):
        job = plane.job(job_id)
        assert job.spec_digest != before.spec_digest
        cost = ("epsilon", "delta", "noise_multiplier", "sampling_rate", "steps")
        assert [getattr(job, name) for name in cost] == [getattr(before, name) for name in cost]
    told = [event.data["spec"] for event in events(type="search.trial")]
    assert told == [plane.job(job_id).spec_digest for job_id in _jobs(searching, search_id)]


def test_tpe_chooses_the_same_again_from_the_same_rows(searching: Any) -> None:
    chosen = []
    for key in ("a", "b"):
        search_id = searching.submit(key, sampler="tpe", trials=2, seed=3)
        for job_id in _jobs(searching, search_id):
            searching.finish(job_id, 0.5)
        chosen.append([row.parameters for row in searching.rows(search_id)])
    assert chosen[0] == chosen[1]


def test_values_that_make_no_valid_job_cost_nothing(searching: Any) -> None:
    cnn = {"kind": "cnn", "inputShape": [1, 8, 8], "channels": [4], "pool": 1}
    parameters = {"model.channels": {"choices": [[4], [4, 4, 4, 4]]}, "model.pool": {"choices": [1, 2]}}
    search_id = searching.submit(
        sampler="tpe", trials=16, parameters=parameters, template={"model": cnn}, concurrency=16
    )
    searching.tick()
    searching.tick()
    trials = searching.detail(search_id).trials
    wrong = {"model.channels": [4, 4, 4, 4], "model.pool": 2}
    assert {trial.state for trial in trials if trial.parameters == wrong} == {"cancelled"}
    reasons = [trial.reason for trial in trials if trial.state == "cancelled"]
    assert all("no valid job: model.pool pools an image" in reason for reason in reasons)
    assert searching.held().count("settled") == len(reasons)
    assert all(trial.parameters == wrong for trial in trials if trial.state == "cancelled")


def test_cancelling_ends_every_trial_and_returns_what_is_left(searching: Any) -> None:
    search_id = searching.submit()
    first, second, _ = _jobs(searching, search_id)
    searching.finish(first, 0.6)
    processes = searching.plane.training(second)
    processes.train(0, 4)
    alice = searching.plane.actor("user:alice")
    view = searching.service.cancel(alice, search_id)
    assert (view.state, view.best.number) == ("cancelled", 1)
    assert searching.states(search_id) == ["succeeded", "cancelled", "cancelled"]
    assert searching.held() == ["settled"] * 3
    spent = [trial.spent_epsilon for trial in searching.detail(search_id).trials]
    assert spent[0] > spent[1] > spent[2] == 0
    with pytest.raises(InvalidCapability):
        processes.charge(4, 8)
    assert searching.service.cancel(alice, search_id).state == "cancelled"
    searching.tick()
    assert searching.plane.ray.stopped == [f"{second}-1"]
    searching.tick()
    assert searching.states(search_id) == ["succeeded", "cancelled", "cancelled"]


def test_only_who_may_cancel_its_trials_cancels_a_search(searching: Any, decisions: Any) -> None:
    search_id = searching.submit()
    before = len(decisions())
    with pytest.raises(Denied):
        searching.service.cancel(searching.plane.actor("user:bob"), search_id)
    assert [row.result for row in decisions()[before:]] == ["deny"]
    assert searching.service.cancel(searching.plane.actor("user:olga"), search_id).state == "cancelled"


def test_a_search_that_has_ended_cannot_be_cancelled(searching: Any) -> None:
    search_id = searching.submit(parameters={"training.seed": {"choices": [1]}})
    searching.finish(_jobs(searching, search_id)[0], 0.6)
    searching.tick()
    with pytest.raises(IllegalTransition, match="ended for good"):
        searching.service.cancel(searching.plane.actor("user:alice"), search_id)


def test_a_trial_that_was_never_started_cannot_be_resumed_and_one_that_was_can(searching: Any) -> None:
    search_id = searching.submit(sampler="tpe", trials=2)
    first, second = _jobs(searching, search_id)
    searching.fail(first)
    alice = searching.plane.actor("user:alice")
    searching.plane.jobs.cancel(alice, second)
    with pytest.raises(IllegalTransition, match="never started"):
        searching.plane.jobs.resume(alice, second)
    assert searching.plane.jobs.resume(alice, first).state == "queued"
    searching.tick()
    assert searching.detail(search_id).search.state == "running"


def test_the_statement_and_the_lineage_of_a_trials_model_name_the_search(searching: Any) -> None:
    search_id = searching.submit()
    jobs = _jobs(searching, search_id)
    searching.finish(jobs[0], 0.6)
    with searching.plane.database.read() as session:
        version = session.query(ModelVersion).one()
        assert session.query(Model).one().name == "income"
    tuning = version.statement["tuning"]
    assert (tuning["search"], tuning["trials_charged"]) == (search_id, 3)
    assert "post-processing" in tuning["method"]
    alone = version.statement["guarantee"]["total_epsilon"]
    assert alone < tuning["epsilon"] < 100
    assert tuning["epsilon"] == searching.plan().epsilon_together
    assert version.lineage["job"]["search"] == {"id": search_id, "trial": 1}


def test_a_job_of_its_own_states_no_tuning(searching: Any) -> None:
    plane = searching.plane
    job_id = plane.submit(privacy__epsilon=1.0, privacy__evaluation={"epsilon": 0.2})
    searching.finish(job_id, 0.6)
    with plane.database.read() as session:
        version = session.query(ModelVersion).one()
    assert version.statement["tuning"] is None
    assert version.lineage["job"]["search"] is None
