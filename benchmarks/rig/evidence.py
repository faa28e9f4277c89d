"""What a job's end must look like however often it was killed: read from the API and the audit trail."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from rig.stack import Stack
from secure_train.dp import Mechanism, epsilon
from secure_train.wire.evidence import AuditEventView
from secure_train.wire.jobs import JobDetail

_PAGE = 1000


class Broken(Exception):
    """A promise was not kept."""


def events_of(stack: Stack, **filters: str) -> list[AuditEventView]:
    """Return all events of the trail that match, oldest first."""
    found: list[AuditEventView] = []
    while True:
        after = found[-1].seq if found else None
        page = stack.cast.admin.audit_events(**filters, limit=_PAGE, after=after)
        found += page
        # Not until a page is empty: asking is an event of its own.
        if len(page) < _PAGE:
            return found


def events_about(stack: Stack, job: str) -> list[AuditEventView]:
    """Return the events whose subject is the job."""
    return events_of(stack, subject=f"job:{job}")


def steps_charged(stack: Stack, job: str) -> Counter[tuple[int, int]]:
    """Count how often each (noise epoch, step) was charged to the job, by the audit trail."""
    charged: Counter[tuple[int, int]] = Counter()
    for event in events_of(stack, type="budget.charged", actor=f"job:{job}"):
        data: dict[str, Any] = event.data
        if data["kind"] == "training":
            charged.update(
                (data["noise_epoch"], step) for step in range(data["first_step"], data["last_step"])
            )
    return charged


def _steps(charge: dict[str, Any]) -> range:
    return range(charge["first_step"], charge["last_step"])


def require_charged_once(stack: Stack, detail: JobDetail) -> None:
    """Check that each of the job's T steps was charged exactly once, and that ε is what T steps cost.

    Raises:
        Broken: with the first difference.
    """
    job = detail.job
    expected = Counter((0, step) for step in range(job.steps))
    charged = steps_charged(stack, job.id)
    if charged != expected:
        lost, extra = expected - charged, charged - expected
        raise Broken(f"{job.id}: steps never charged {sorted(lost)}; charged besides {sorted(extra.items())}")
    cost = _cost(detail, job.steps)
    # The accountant's bound for a step less may be a hair larger, and what is spent never falls.
    if job.spent_epsilon not in {cost, _cost(detail, job.steps - 1)} or job.spent_epsilon < cost:
        raise Broken(f"{job.id}: epsilon {job.spent_epsilon!r} was charged for what costs {cost!r}")


def _cost(detail: JobDetail, steps: int) -> float:
    job = detail.job
    return epsilon(Mechanism(job.noise_multiplier, job.sampling_rate, steps), job.delta)


def require_same_values(stack: Stack, job: str) -> None:
    """Check that no step ever gave two values: one state digest for each (noise epoch, step).

    Raises:
        Broken: with the step.
    """
    digests: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for event in events_about(stack, job):
        if event.type == "job.diverged":
            raise Broken(f"{job} diverged: {event.data}")
        if event.type == "checkpoint.written":
            digests[event.data["noise_epoch"], event.data["step"]].add(event.data["state_digest"])
    for place, found in digests.items():
        if len(found) != 1:
            raise Broken(f"{job}: (noise epoch, step) {place} has the state digests {sorted(found)}")
    if not digests:
        raise Broken(f"{job} has written no checkpoint")


def require_charged_first(stack: Stack, job: str) -> None:
    """Check in the order of the trail that whatever left a worker had been charged, and that ε never fell.

    Raises:
        Broken: with the event that came too early.
    """
    charged: set[tuple[int, int]] = set()
    spent = 0.0
    for event in events_of(stack, actor=f"job:{job}"):
        data: dict[str, Any] = event.data
        if event.type == "budget.charged":
            if data["spent_epsilon"] < spent:
                raise Broken(f"event {event.seq}: what {job} has spent fell from {spent!r}: {data}")
            spent = data["spent_epsilon"]
            if data["kind"] == "training":
                charged |= {(data["noise_epoch"], step) for step in _steps(data)}
        elif event.type in {"checkpoint.written", "metrics.released", "model.published"}:
            step = data.get("step", 0)
            if not {(0, one) for one in range(step)} <= charged:
                raise Broken(f"event {event.seq}: {event.type} at step {step} came before its charge")


def require_gapless(stack: Stack, kept: list[str]) -> int:
    """Check that the trail verifies, has no gap, and continues every kept checkpoint; returns its size.

    Raises:
        Broken: where a number is missing.
        ApiError: it does not verify.
    """
    for note in kept:
        stack.cast.admin.verify_audit(note)
    verified = stack.cast.admin.verify_audit()
    numbers = [event.seq for event in events_of(stack)]
    if numbers != list(range(len(numbers))) or len(numbers) < verified.events:
        raise Broken(f"the trail has {len(numbers)} events, not numbered in one row")
    return len(numbers)


def require_recovered(detail: JobDetail, deaths: int) -> None:
    """Check that every death is recorded with its cost, and that the job went on after each.

    Raises:
        Broken: with the recovery that is not complete.
    """
    if len(detail.recoveries) < deaths:
        raise Broken(f"{detail.job.id}: {deaths} deaths, and only these are recorded: {detail.recoveries}")
    for found in detail.recoveries:
        if found.seconds is None or found.restored_step is None or found.steps_repeated is None:
            raise Broken(f"{detail.job.id}: a recovery is not complete: {found}")
