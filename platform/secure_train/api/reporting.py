"""Gathers what a job's report shows. One decision covers it: whoever may read the job may read its report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from secure_train.api.evidence import decision_view
from secure_train.api.report import Charge, render_report
from secure_train.db import Database
from secure_train.db.tables import DecisionRecord, Job, Model, ModelVersion
from secure_train.db.trail import Trail
from secure_train.jobs.submit import JobService
from secure_train.policy import Action, Actor
from secure_train.registry.views import model_version_view

SHOWN = 500
"""Most decisions of each kind. Heartbeats, which alone grow without bound, have a share of their own."""


class ReportService:
    """Renders job reports."""

    def __init__(self, database: Database, trail: Trail, jobs: JobService) -> None:
        self._database = database
        self._trail = trail
        self._jobs = jobs

    def render(self, actor: Actor, job: str) -> str:
        """Return a job's report as one self-contained HTML page.

        Raises:
            TamperEvidence: what the trail says of the job's charges is not what was recorded.
        """
        detail = self._jobs.detail(actor, job)
        with self._database.read() as session:
            row = session.get_one(Job, job)
            version = session.scalar(select(ModelVersion).where(ModelVersion.job_id == job))
            decisions = [decision_view(decision) for decision in _decisions(session, row, version)]
            model = None
            if version is not None:
                model = model_version_view(session.get_one(Model, version.model_id), version)
            charges = self._charges(session, job)
        return render_report(detail, model, decisions, charges)

    def _charges(self, session: Session, job: str) -> list[Charge]:
        """Read from the audit trail what was charged and when: heartbeats tell of it only later."""
        events = self._trail.log.events(session, type="budget.charged", actor=f"job:{job}")
        return [_charge(datetime.fromisoformat(event.time), event.data) for event in events]


def _charge(at: datetime, data: Mapping[str, Any]) -> Charge:
    first, last = data["first_step"], data["last_step"]
    paid = (
        f"for steps {first + 1} to {last}"
        if data["kind"] == "training"
        else f"for the evaluation at step {last}"
    )
    return Charge(at, data["spent_epsilon"], paid)


def _decisions(session: Session, job: Job, version: ModelVersion | None) -> list[DecisionRecord]:
    """Return, oldest first, the decisions by and about a job, its submission's, and those about its model."""
    ref = f"job:{job.id}"
    concerned = or_(DecisionRecord.principal == ref, DecisionRecord.resource == ref)
    if version is not None:
        concerned = or_(concerned, DecisionRecord.resource == f"model:{version.model_id}@{version.version}")
    heartbeat = and_(DecisionRecord.action == Action.JOB_REPORT, DecisionRecord.result == "allow")
    found = [
        *_submission(session, job),
        *_first(session, and_(concerned, ~heartbeat)),
        *_first(session, and_(concerned, heartbeat)),
    ]
    return sorted({row.id: row for row in found}.values(), key=lambda row: (row.at, row.id))


def _first(session: Session, where: ColumnElement[bool]) -> list[DecisionRecord]:
    return list(session.scalars(select(DecisionRecord).where(where).order_by(DecisionRecord.id).limit(SHOWN)))


def _submission(session: Session, job: Job) -> list[DecisionRecord]:
    """The decision that the job's submission met: the last on its dataset when its row was made."""
    query = (
        select(DecisionRecord)
        .where(
            DecisionRecord.principal == job.submitted_by,
            DecisionRecord.action == Action.JOB_SUBMIT,
            DecisionRecord.resource == f"dataset:{job.dataset_id}",
            DecisionRecord.at <= job.created_at,
        )
        .order_by(DecisionRecord.at.desc())
        .limit(1)
    )
    return list(session.scalars(query))
