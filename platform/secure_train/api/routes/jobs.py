"""Jobs, for people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, StreamingResponse

from secure_train.api import live
from secure_train.api.auth import BearerText, Caller, Plane
from secure_train.wire.jobs import JobDetail, JobPlan, JobView, LogLine, PlanJob, SubmitJob

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.post("/plan")
def plan(plane: Plane, caller: Caller, body: PlanJob) -> JobPlan:
    """Return what a job would cost and whether it would be allowed; nothing is submitted or reserved."""
    return plane.jobs.plan(caller, body)


@router.post("", status_code=201)
def submit(plane: Plane, caller: Caller, body: SubmitJob) -> JobView:
    """Submit a job: validate, authorise, reserve its budget and queue it, in one transaction."""
    return plane.jobs.view(plane.jobs.submit(caller, body))


@router.get("")
def list_jobs(
    plane: Plane,
    caller: Caller,
    project: str | None = None,
    state: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: str | None = None,
) -> list[JobView]:
    """List the jobs that the caller may read, newest first."""
    return plane.jobs.list(caller, project=project, state=state, limit=limit, after=after)


@router.get("/{job}")
def show(plane: Plane, caller: Caller, job: str) -> JobDetail:
    """Return a job with its whole life."""
    return plane.jobs.detail(caller, job)


@router.post("/{job}/cancel")
def cancel(plane: Plane, caller: Caller, job: str) -> JobView:
    """End a job in whatever state it is; its unused budget goes back."""
    return plane.jobs.cancel(caller, job)


@router.post("/{job}/resume")
def resume(plane: Plane, caller: Caller, job: str) -> JobView:
    """Queue a failed or cancelled job again, from its newest checkpoint."""
    return plane.jobs.resume(caller, job)


@router.get("/{job}/logs")
def logs(plane: Plane, caller: Caller, job: str, after: int = -1) -> list[LogLine]:
    """Return the platform's log lines of a job after a sequence number."""
    return plane.jobs.logs(caller, job, after)


@router.get("/{job}/stream", response_class=StreamingResponse)
def stream(plane: Plane, caller: Caller, token: BearerText, job: str, after: int = -1) -> StreamingResponse:
    """Stream log lines, progress, releases and changes of state as server-sent events until the job ends."""
    detail = plane.jobs.detail(caller, job)
    return StreamingResponse(live.events(plane, token, detail, after), media_type="text/event-stream")


@router.get("/{job}/report", response_class=HTMLResponse)
def report(plane: Plane, caller: Caller, job: str) -> HTMLResponse:
    """Return the job's report as one self-contained page."""
    return HTMLResponse(plane.reports.render(caller, job))
