"""Submitting, planning, cancelling, resuming."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from secure_train.db.tables import Job
from secure_train.jobs import IllegalTransition, JobConflict, JobNotFound, submit
from secure_train.ledger import BudgetExceeded
from secure_train.policy import Denied
from secure_train.registry import NotFound
from secure_train.spec import SpecErrors
from secure_train.spec.workdir import pack, unpack
from secure_train.wire.jobs import PlanJob, SubmitJob


def _states(plane: Any) -> list[str]:
    with plane.database.read() as session:
        return list(session.scalars(select(Job.state).order_by(Job.id)))


def test_a_submitted_job_is_queued_with_its_budget_held(plane: Any, events: Any) -> None:
    job_id = plane.submit()
    job = plane.job(job_id)
    assert (job.state, job.steps, job.sampling_rate) == ("queued", 8, 16 / 160)
    assert plane.reservation(job_id).epsilon == 3.0
    kinds = [event.type for event in events(subject=f"job:{job_id}")]
    assert kinds == ["job.submitted", "job.queued"]


def test_repeating_a_submission_returns_the_same_job_and_reserves_once(plane: Any) -> None:
    first = plane.submit("k")
    assert plane.submit("k") == first
    assert len(_states(plane)) == 1


def test_an_idempotency_key_cannot_be_used_for_another_job(plane: Any) -> None:
    plane.submit("k")
    with pytest.raises(JobConflict, match="another job"):
        plane.submit("k", metadata__name="other")


def test_two_principals_may_use_the_same_key(plane: Any) -> None:
    assert plane.submit("k") != plane.submit("k", by="user:bob")


def test_a_job_over_budget_is_refused_kept_as_denied_and_can_be_repeated(plane: Any, decisions: Any) -> None:
    plane.submit("a1")
    plane.submit("a2")
    before = len(decisions())
    with pytest.raises(BudgetExceeded) as caught:
        plane.submit("b")
    assert "ε 5 (δ 0.001), of which 0 are spent, 4.418 held by other jobs and 0.5815 left" in str(
        caught.value
    )
    assert "With this job it would come to ε 5.102: privacy.epsilon up to 2.7" in str(caught.value)
    assert _states(plane) == ["queued", "queued", "denied"]
    assert [row.result for row in decisions()[before:]] == ["allow"]
    with plane.database.read() as session:
        denied = session.scalars(select(Job).where(Job.state == "denied")).one()
    assert "budget" in denied.reason
    plane.jobs.cancel(
        plane.actor("user:alice"),
        plane.jobs.list(plane.actor("user:alice"), project=None, state="queued", limit=1, after=None)[0].id,
    )
    assert plane.job(plane.submit("b")).state == "queued"


def test_a_submission_that_policy_denies_is_kept_with_exactly_one_recorded_denial(
    plane: Any, decisions: Any, events: Any
) -> None:
    before = len(decisions())
    with pytest.raises(Denied):
        plane.submit(metadata__purpose="marketing")
    assert [(row.result, row.reason) for row in decisions()[before:]] == [("deny", "purpose-not-allowed")]
    assert _states(plane) == ["denied"]
    assert len(events(type="job.denied")) == 1


def test_an_outsider_cannot_tell_a_missing_dataset_from_one_that_exists(plane: Any) -> None:
    reasons = []
    for name in ("adult", "nothing-there"):
        with pytest.raises(Denied) as caught:
            plane.submit(by="user:outsider", data__dataset=name)
        reasons.append(caught.value.decision.reason)
    assert reasons[0] == reasons[1]


def test_nothing_is_priced_or_kept_for_an_outsider(plane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pricing is seconds of work, and a kept job would show in a project that the outsider is not in."""

    def price(*_: Any) -> None:
        raise AssertionError("a job was priced")

    monkeypatch.setattr(submit, "price", price)
    outsider = plane.actor("user:outsider")
    with pytest.raises(Denied):
        plane.submit(by="user:outsider")
    with pytest.raises(Denied):
        plane.jobs.plan(outsider, PlanJob(spec=plane.spec_with()))
    assert _states(plane) == []


def test_who_may_know_learns_that_a_dataset_does_not_exist(plane: Any, decisions: Any) -> None:
    before = len(decisions())
    with pytest.raises(NotFound, match="no dataset 'ghost'"):
        plane.submit(by="user:root", data__dataset="ghost")
    assert len(decisions()) == before + 1


def test_a_wrong_specification_is_refused_with_every_error_and_its_path(plane: Any) -> None:
    with pytest.raises(SpecErrors) as caught:
        plane.submit(training__batchSize=0, privacy__delta=2.0)
    assert {error.path for error in caught.value.errors} == {"training.batchSize", "privacy.delta"}
    assert _states(plane) == []


def test_a_batch_larger_than_the_dataset_is_told_to_members_only(plane: Any) -> None:
    with pytest.raises(SpecErrors, match="larger than the dataset"):
        plane.submit(training__batchSize=161)
    with pytest.raises(Denied):
        plane.submit(by="user:outsider", training__batchSize=161)


def test_custom_code_is_sealed_with_the_job_and_comes_back_unchanged(
    plane: Any, decisions: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "model.py").write_text("MARKER_OF_USER_CODE = 1\n")
    package = pack(folder)
    spec = plane.spec_with()
    spec["model"] = {"kind": "entrypoint", "entrypoint": "model:build", "workingDir": "code"}
    message = SubmitJob(spec=spec, idempotency_key="k", workdir=base64.b64encode(package.data).decode())
    job_id = plane.jobs.submit(plane.actor("user:alice"), message)
    submission = next(one for one in decisions() if one.action == "job:submit")
    assert submission.request["context"]["own_code"] is True
    assert "sha256:" + (plane.job(job_id).code_digest or "") == package.digest
    processes = plane.launched(job_id)
    assert processes.order.code_digest == package.digest
    unpack(plane.workers.code(processes.token), tmp_path / "out", package.digest)
    assert (tmp_path / "out" / "model.py").read_text() == "MARKER_OF_USER_CODE = 1\n"


def test_a_job_with_custom_code_needs_its_code_and_others_must_not_bring_any(plane: Any) -> None:
    spec = plane.spec_with()
    spec["model"] = {"kind": "entrypoint", "entrypoint": "model:build", "workingDir": "code"}
    alice = plane.actor("user:alice")
    with pytest.raises(SpecErrors, match="workdir"):
        plane.jobs.submit(alice, SubmitJob(spec=spec, idempotency_key="k"))
    with pytest.raises(SpecErrors, match="needs none"):
        plane.jobs.submit(alice, SubmitJob(spec=plane.spec_with(), idempotency_key="k", workdir="AAAA"))
    with pytest.raises(SpecErrors, match="not a packed"):
        plane.jobs.submit(alice, SubmitJob(spec=spec, idempotency_key="k", workdir="AAAA"))


def test_a_plan_says_what_a_job_costs_and_changes_nothing(plane: Any, decisions: Any) -> None:
    before = len(decisions())
    plan = plane.jobs.plan(plane.actor("user:alice"), PlanJob(spec=plane.spec_with()))
    assert (plan.allowed, plan.fits_budget, plan.steps) == (True, True, 8)
    assert plan.training_epsilon == pytest.approx(2.6)
    assert (plan.composition, plan.budget_epsilon, plan.budget_delta) == ("rdp-filter", 5.0, 1e-3)
    assert (plan.budget_used_epsilon, plan.budget_available_epsilon) == (0.0, 5.0)
    assert plan.budget_with_job_epsilon == pytest.approx(3.557, abs=1e-3)
    assert plan.shortage is None
    assert plan.fitting_epsilon is not None
    assert 3.0 < plan.fitting_epsilon < 5.0
    assert len(decisions()) == before + 1
    assert _states(plane) == []


def test_the_epsilon_that_a_plan_says_would_fit_does_fit_and_hardly_more(plane: Any) -> None:
    plane.submit("a")
    plane.submit("b")
    alice = plane.actor("user:alice")
    plan = plane.jobs.plan(alice, PlanJob(spec=plane.spec_with()))
    assert not plan.fits_budget
    assert plan.shortage is not None
    assert "of which 0 are spent, 4.418 held" in plan.shortage
    fitting = plan.fitting_epsilon
    assert fitting is not None
    more = plane.jobs.plan(alice, PlanJob(spec=plane.spec_with(privacy__epsilon=fitting * 1.02)))
    assert (more.fits_budget, more.fitting_epsilon) == (False, fitting)
    assert plane.job(plane.submit("c", privacy__epsilon=fitting)).state == "queued"


def test_a_plan_tells_a_reader_of_the_dataset_why_it_would_be_denied(plane: Any, decisions: Any) -> None:
    before = len(decisions())
    plan = plane.jobs.plan(plane.actor("user:alice"), PlanJob(spec=plane.spec_with(metadata__purpose="ads")))
    assert (plan.allowed, plan.reason) == (False, "purpose-not-allowed")
    assert len(decisions()) == before + 1


def test_a_plan_tells_an_outsider_nothing(plane: Any, decisions: Any) -> None:
    before = len(decisions())
    with pytest.raises(Denied):
        plane.jobs.plan(plane.actor("user:outsider"), PlanJob(spec=plane.spec_with()))
    assert [row.result for row in decisions()[before:]] == ["deny"]


def test_cancelling_returns_the_whole_budget_of_a_job_that_never_ran(plane: Any) -> None:
    job_id = plane.submit()
    view = plane.jobs.cancel(plane.actor("user:alice"), job_id)
    assert view.state == "cancelled"
    assert plane.reservation(job_id).state == "settled"
    again = plane.jobs.cancel(plane.actor("user:alice"), job_id)
    assert again.state == "cancelled"


def test_only_the_submitter_cancels_and_a_stranger_is_denied(plane: Any) -> None:
    job_id = plane.submit()
    with pytest.raises(Denied):
        plane.jobs.cancel(plane.actor("user:bob"), job_id)
    assert plane.job(job_id).state == "queued"


def test_a_cancelled_job_is_resumed_with_the_budget_it_had_left(plane: Any) -> None:
    job_id = plane.submit()
    alice = plane.actor("user:alice")
    plane.jobs.cancel(alice, job_id)
    assert plane.jobs.resume(alice, job_id).state == "queued"
    assert plane.reservation(job_id).state == "held"
    assert plane.job(job_id).cancel_requested_by is None


def test_a_job_is_not_resumed_once_others_took_its_budget(plane: Any) -> None:
    job_id = plane.submit("a")
    alice = plane.actor("user:alice")
    plane.jobs.cancel(alice, job_id)
    plane.submit("b1")
    plane.submit("b2")
    with pytest.raises(BudgetExceeded):
        plane.jobs.resume(alice, job_id)
    assert plane.job(job_id).state == "cancelled"


def test_a_queued_job_cannot_be_resumed(plane: Any) -> None:
    job_id = plane.submit()
    with pytest.raises(IllegalTransition):
        plane.jobs.resume(plane.actor("user:alice"), job_id)


def test_a_missing_job_is_told_only_to_who_may_know(plane: Any) -> None:
    with pytest.raises(JobNotFound):
        plane.jobs.detail(plane.actor("user:root"), "job_none")
    with pytest.raises(Denied):
        plane.jobs.detail(plane.actor("user:alice"), "job_none")


def test_lists_are_paged_newest_first_and_show_only_what_one_may_read(plane: Any) -> None:
    made = [plane.submit(f"k{index}") for index in range(2)]
    alice = plane.actor("user:alice")
    newest = plane.jobs.list(alice, project="census", state=None, limit=1, after=None)
    assert [view.id for view in newest] == sorted(made, reverse=True)[:1]
    rest = plane.jobs.list(alice, project=None, state="queued", limit=3, after=newest[-1].id)
    assert [view.id for view in rest] == [sorted(made)[0]]
    nothing = plane.jobs.list(plane.actor("user:outsider"), project=None, state=None, limit=9, after=None)
    assert nothing == []
