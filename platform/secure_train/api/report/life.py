"""A job's life as spans of time: the states it was in, its deaths, and how far training had come when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from secure_train.jobs import JobState
from secure_train.jobs.states import TERMINAL
from secure_train.wire.evidence import DecisionView
from secure_train.wire.jobs import JobDetail, ProgressView

_MOST_POINTS = 400


@dataclass(frozen=True)
class Span:
    """A state that lasted from ``start`` to ``end``."""

    state: str
    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True)
class Outage:
    """A death: from when it was noticed until training went on; ``resumed`` is False where it never did."""

    cause: str
    start: datetime
    end: datetime
    resumed: bool


@dataclass(frozen=True)
class Charge:
    """A charge to the dataset's budget: ``epsilon`` is what the job has been charged in all with it."""

    at: datetime
    epsilon: float
    what: str


@dataclass(frozen=True)
class Life:
    """What the time line draws. ``end`` is the job's end; without one, its newest sign of life."""

    start: datetime
    end: datetime
    spans: tuple[Span, ...]
    outages: tuple[Outage, ...]
    progress: tuple[ProgressView, ...]
    charges: tuple[Charge, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts so far."""
        return (self.end - self.start).total_seconds()

    def at(self, moment: datetime) -> float:
        """Seconds since the start."""
        return (moment - self.start).total_seconds()


def as_of(detail: JobDetail, decisions: Sequence[DecisionView]) -> datetime:
    """Return the newest moment that the report knows of."""
    return max([_last_sign(detail), *(decision.at for decision in decisions)])


def life_of(detail: JobDetail, charges: Sequence[Charge]) -> Life:
    """Arrange a job's history in time."""
    job = detail.job
    end = job.finished_at or _last_sign(detail)
    changes = detail.transitions
    ends = [change.at for change in changes[1:]] + [end]
    spans = [
        Span(change.target, change.at, max(until, change.at), change.reason)
        for change, until in zip(changes, ends, strict=False)
        if JobState(change.target) not in TERMINAL
    ]
    outages = [
        Outage(
            recovery.cause,
            recovery.detected_at,
            max(recovery.resumed_at or _next_end(detail, recovery.detected_at, end), recovery.detected_at),
            recovery.resumed_at is not None,
        )
        for recovery in detail.recoveries
    ]
    start = job.created_at
    return Life(
        start,
        max(end, start),
        tuple(spans),
        tuple(outages),
        tuple(thinned(detail.progress)),
        tuple(_every_so_often(charges)),
    )


def thinned(points: Sequence[ProgressView], most: int = _MOST_POINTS) -> list[ProgressView]:
    """Leave out points of a long curve; the ends of every worker group's run stay."""
    stride = max(1, -(-len(points) // most))
    return [
        point
        for index, point in enumerate(points)
        if index % stride == 0
        or index == len(points) - 1
        or point.generation != points[index - 1].generation
        or point.generation != points[index + 1].generation
    ]


def _every_so_often(charges: Sequence[Charge], most: int = _MOST_POINTS) -> list[Charge]:
    stride = max(1, -(-len(charges) // most))
    return [one for index, one in enumerate(charges) if index % stride == 0 or index == len(charges) - 1]


def _last_sign(detail: JobDetail) -> datetime:
    job = detail.job
    known = [job.created_at, job.started_at, job.finished_at]
    known += [change.at for change in detail.transitions]
    known += [point.at for point in detail.progress]
    known += [worker.reported_at for worker in detail.workers]
    known += [release.at for release in detail.releases]
    known += [checkpoint.created_at for checkpoint in detail.checkpoints]
    known += [
        moment for recovery in detail.recoveries for moment in (recovery.detected_at, recovery.resumed_at)
    ]
    return max(moment for moment in known if moment is not None)


def _next_end(detail: JobDetail, since: datetime, otherwise: datetime) -> datetime:
    """When the run that a death belongs to ended, for a death that was never got over."""
    ends = [change.at for change in detail.transitions if JobState(change.target) in TERMINAL]
    return min((moment for moment in ends if moment >= since), default=otherwise)
