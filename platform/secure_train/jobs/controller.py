"""Moves jobs along: a loop that compares the database with what Ray says, and acts on the difference.

It keeps nothing in memory that it needs: killed between any two lines, the next tick, here or in another
process, goes on from the rows. Three orders make that true. A new attempt is committed before Ray hears of
it, so that a launch that was lost is made again, and one that was not is recognised by its submission id. A
driver is asked to end before its attempt is declared dead. And a submission is forgotten only once Ray says
that it has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.audit import CheckpointPolicy, NoteSigner
from secure_train.blocks import BlockStore
from secure_train.db import Database, now
from secure_train.db.tables import Job
from secure_train.db.trail import Trail
from secure_train.jobs.capacity import shortage
from secure_train.jobs.errors import LauncherError
from secure_train.jobs.housekeeping import Housekeeper
from secure_train.jobs.journal import log_line
from secure_train.jobs.launcher import DriverStatus, RayLauncher
from secure_train.jobs.liveness import group_awaited, last_sign_of_life
from secure_train.jobs.locks import lock_job
from secure_train.jobs.queue import next_jobs, waiting_projects
from secure_train.jobs.recovery import fail, record_death
from secure_train.jobs.search.advance import advance, running_searches
from secure_train.jobs.states import ACTIVE, TERMINAL, JobState
from secure_train.jobs.tickets import issue_ticket, was_launched
from secure_train.jobs.transitions import transition, waiting_since
from secure_train.spec import job_from_json
from secure_train.vault import SealedFileVault

logger = logging.getLogger(__name__)

ENTRYPOINT = "python -m secure_train.training.driver"
DEATHS = {
    DriverStatus.FAILED: "the driver failed",
    DriverStatus.STOPPED: "the driver was stopped",
    DriverStatus.ENDED: "the driver ended without publishing a model",
    DriverStatus.UNKNOWN: "Ray has lost the driver",
}


@dataclass(frozen=True)
class Timing:
    """How often the controller looks, and how long it waits before it acts.

    Attributes:
        tick: seconds between two looks.
        heartbeat: a running worker that is silent for so long is dead.
        recovery: the same for a worker group that has started and not yet trained: it may be restoring.
        farewell: how long the driver of a job that succeeded may take to end by itself.
        capacity: how long a job may wait for a cluster that is too small for it, even empty, to grow.
    """

    tick: float = 1.0
    heartbeat: timedelta = timedelta(seconds=30)
    recovery: timedelta = timedelta(minutes=5)
    farewell: timedelta = timedelta(minutes=1)
    capacity: timedelta = timedelta(minutes=10)


class Controller:
    """The loop. Every process of the control plane may run one; two do no harm to each other."""

    def __init__(
        self,
        database: Database,
        audit: Trail,
        vault: SealedFileVault,
        blocks: BlockStore,
        launcher: RayLauncher,
        url: str,
        signer: NoteSigner,
        policy: CheckpointPolicy,
        *,
        entrypoint: str = ENTRYPOINT,
        timing: Timing | None = None,
    ) -> None:
        """``url`` is where drivers reach this control plane; ``entrypoint`` the command that starts one."""
        self._database = database
        self._audit = audit
        self._launcher = launcher
        self._url = url
        self._signer = signer
        self._policy = policy
        self._entrypoint = entrypoint
        self._timing = Timing() if timing is None else timing
        self._housekeeper = Housekeeper(database, vault, blocks)
        # While nobody listened, nobody could be heard: silence counts from here.
        self._listening_since = now()
        self._signed_at = time.monotonic()
        self._troubles: dict[str, str] = {}

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop."""
        while not stop.is_set():
            self.tick()
            stop.wait(self._timing.tick)

    def tick(self) -> None:
        """Look once at everything. Never raises: what fails is logged and tried again at the next tick."""
        self._attempt("searches", self._advance_searches)
        self._attempt("queue", self._start_queued)
        try:
            for job_id in self._ids(ACTIVE):
                self._attempt(job_id, partial(self._supervise, job_id))
            for job_id in self._ids(TERMINAL | {JobState.QUEUED}, submitted=True):
                self._attempt(job_id, partial(self._reap, job_id))
        except Exception:
            logger.exception("the jobs cannot be listed")
        self._attempt("audit checkpoint", self._sign)
        self._attempt("housekeeping", self._housekeeper.tick)

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        """Do one thing; a failure of it must not keep the others from being done."""
        try:
            action()
        except LauncherError as error:
            self._trouble(what, str(error), unexpected=False)
        except Exception as error:
            self._trouble(what, f"{type(error).__name__} in the controller", unexpected=True)
        else:
            self._troubles.pop(what, None)

    def _trouble(self, what: str, trouble: str, *, unexpected: bool) -> None:
        """Log a failure once, until it changes or goes away; in the job's own log too if it is one's."""
        if self._troubles.get(what) == trouble:
            return
        self._troubles[what] = trouble
        logger.warning("%s: %s", what, trouble, exc_info=unexpected)
        try:
            with self._database.write() as session:
                job = lock_job(session, what)
                if job is not None:
                    log_line(session, job, trouble, level="error" if unexpected else "warning")
        except Exception:
            logger.exception("%s: the job's log cannot be written", what)

    def _ids(self, states: frozenset[JobState], *, submitted: bool = False) -> list[str]:
        query = select(Job.id).where(Job.state.in_([state.value for state in states])).order_by(Job.id)
        if submitted:
            query = query.where(Job.submission_id.is_not(None))
        with self._database.read() as session:
            return list(session.scalars(query))

    def _advance_searches(self) -> None:
        for search_id in running_searches(self._database):
            self._attempt(search_id, partial(advance, self._database, self._audit, search_id))

    def _start_queued(self) -> None:
        with self._database.read() as session:
            projects = waiting_projects(session)
        for project in projects:
            with self._database.write() as session:
                for job in next_jobs(session, project):
                    self._new_attempt(job)
                    reason = f"attempt {job.attempt} is handed to Ray"
                    transition(session, self._audit, job, JobState.STARTING, reason)
                    log_line(session, job, reason)

    def _supervise(self, job_id: str) -> None:
        """Compare an active job with its driver: launch it, leave it be, or declare it dead."""
        with self._database.read() as session:
            job = session.get_one(Job, job_id)
            submission_id = job.submission_id or ""
            silent = self._silence(session, job)
        status = self._launcher.status(submission_id)
        if status is DriverStatus.ALIVE:
            if silent is None:
                if group_awaited(job):
                    self._require_room(job_id)
                return
            self._launcher.stop(submission_id)
        ticket = None
        with self._database.write() as session:
            found = lock_job(session, job_id)
            if found is None or found.state not in ACTIVE or found.submission_id != submission_id:
                return
            if status is DriverStatus.UNKNOWN and self._is_launchable(session, found):
                ticket = issue_ticket(session, found)
            else:
                cause = silent if status is DriverStatus.ALIVE and silent else DEATHS[status]
                if record_death(session, self._audit, found, cause):
                    self._new_attempt(found)
        if ticket is not None:
            env = {"SECURE_TRAIN_URL": self._url, "SECURE_TRAIN_TICKET": ticket}
            self._launcher.submit(submission_id, self._entrypoint, env)

    def _require_room(self, job_id: str) -> None:
        """Say it if the cluster is too small for a job's workers, and give up if it does not grow in time."""
        nodes = self._launcher.nodes()
        if not nodes:
            # One there is always, that which answered: Ray takes seconds after its start to list it.
            return
        with self._database.write() as session:
            job = lock_job(session, job_id)
            if job is None or not group_awaited(job):
                return
            lacking = shortage(job_from_json(job.spec).resources, nodes)
            if lacking is None:
                return
            if now() - waiting_since(session, job) > self._timing.capacity:
                minutes = self._timing.capacity.total_seconds() / 60
                fail(session, self._audit, job, f"{lacking}; it has not grown for {minutes:g} min")
            elif job.reason != lacking:
                job.reason = lacking
                log_line(session, job, lacking, level="warning")

    def _is_launchable(self, session: Session, job: Job) -> bool:
        """Whether Ray does not know the submission because it was never made, not because it forgot it."""
        return job.state != JobState.RUNNING and not was_launched(session, job)

    def _silence(self, session: Session, job: Job) -> str | None:
        """Say for how long a worker that should report has not."""
        last = last_sign_of_life(session, job)
        if last is None:
            return None
        allowed = self._timing.heartbeat if job.state == JobState.RUNNING else self._timing.recovery
        if now() - max(last, self._listening_since) <= allowed:
            return None
        return f"a worker was silent for more than {allowed.total_seconds():.0f} s"

    def _new_attempt(self, job: Job) -> None:
        """Number a new launch. From its commit on, the processes of older ones are refused everything."""
        job.attempt += 1
        job.submission_id = f"{job.id}-{job.attempt}"
        job.heartbeat_at = None

    def _reap(self, job_id: str) -> None:
        """See to it that the processes of a job that has ended end too; then forget the submission."""
        with self._database.read() as session:
            job = session.get_one(Job, job_id)
            submission_id, state, finished = job.submission_id or "", job.state, job.finished_at
        if self._launcher.status(submission_id) is DriverStatus.ALIVE:
            ending = state == JobState.SUCCEEDED and finished is not None
            if not (ending and finished is not None and now() - finished < self._timing.farewell):
                self._launcher.stop(submission_id)
            return
        with self._database.write() as session:
            found = lock_job(session, job_id)
            if found is not None and found.submission_id == submission_id and found.state not in ACTIVE:
                found.submission_id = None

    def _sign(self) -> None:
        """Sign the audit log's head when the policy says so."""
        log = self._audit.log
        elapsed = time.monotonic() - self._signed_at
        with self._database.read() as session:
            latest, size = log.latest_checkpoint(session), log.size(session)
        last_size = 0 if latest is None else latest.size
        if self._policy.due(size=size, last_size=last_size, seconds_since_last=elapsed):
            with self._database.write() as session:
                log.checkpoint(session, self._signer)
            self._signed_at = time.monotonic()
