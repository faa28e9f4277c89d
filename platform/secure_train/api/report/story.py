"""What a job's state means, and the few figures that a reader wants first."""

from __future__ import annotations

from dataclasses import dataclass

from secure_train.api.report import text
from secure_train.api.report.life import Life
from secure_train.api.report.privacy import Loss, set_aside
from secure_train.api.report.releases import Curve
from secure_train.jobs import JobState
from secure_train.wire.jobs import JobDetail
from secure_train.wire.models import ModelVersionView

MEANING = {
    JobState.SUBMITTED: "It has been recorded and waits to be queued. Nothing has been charged.",
    JobState.QUEUED: "Its budget is reserved and it waits for its turn.",
    JobState.STARTING: "It has been handed to the cluster; no worker group has started yet.",
    JobState.RUNNING: "It trains. All figures on this page are as of the time above.",
    JobState.RECOVERING: "Something died. Training has not yet gone beyond the step it was restored to.",
    JobState.SUCCEEDED: "It trained to the end, and its model is published.",
    JobState.FAILED: (
        "It ended without a model. What it was charged stays charged, since the noised values of those steps "
        "were computed."
    ),
    JobState.CANCELLED: (
        "It was stopped before its end. What it was charged stays charged; "
        "the rest of its reservation went back."
    ),
    JobState.DENIED: "It never ran: nothing was reserved or charged, and no data was opened.",
}


@dataclass(frozen=True)
class Figure:
    """One of the figures at the top: its name, its value and a remark."""

    name: str
    value: str
    remark: str


def figures(
    detail: JobDetail, model: ModelVersionView | None, curves: list[Curve], loss: Loss, life: Life
) -> list[Figure]:
    """Choose the figures at the top of the page."""
    job = detail.job
    end = "from submission to end" if job.finished_at else "since submission, so far"
    return [
        _quality(detail, curves),
        Figure(
            "Privacy spent",
            f"ε {text.figure(loss.epsilon)}",
            f"of {text.figure(job.epsilon)} allowed, δ {text.number(job.delta)}",
        ),
        Figure("Training steps", f"{job.step:,}", f"of {job.steps:,} planned"),
        _recoveries(detail),
        Figure("Duration", text.duration(life.seconds), end),
        Figure("Model", "none", "not published")
        if model is None
        else Figure("Model", f"{model.model}@{model.version}", f"stage: {model.stage}"),
    ]


def _quality(detail: JobDetail, curves: list[Curve]) -> Figure:
    if not curves:
        if set_aside(detail) is None:
            return Figure("Held-out quality", "not measured", "the job asked for no evaluation")
        return Figure(
            "Held-out quality",
            "none yet" if detail.job.finished_at is None else "none",
            "nothing was released",
        )
    curve = curves[0]
    newest = curve.newest
    noise = "exact: the owner released these rows"
    if newest.half is not None:
        noise = f"{curve.metric.write_width(newest.half)} of noise (95 %)"
    return Figure(f"Held-out {curve.metric.title.lower()}", curve.metric.write(newest.value), noise)


def _recoveries(detail: JobDetail) -> Figure:
    deaths = detail.recoveries
    if not deaths:
        return Figure("Recoveries", "0", "nothing died")
    unfinished = sum(death.resumed_at is None for death in deaths)
    if unfinished:
        return Figure("Recoveries", str(len(deaths)), f"training has not gone on after {unfinished}")
    lost = sum(death.seconds or 0.0 for death in deaths)
    repeated = sum(death.steps_repeated or 0 for death in deaths)
    steps = f"{text.counted(repeated, 'step')} or a few more" if repeated else "few steps"
    return Figure("Recoveries", str(len(deaths)), f"{text.duration(lost)} lost, {steps} repeated")
