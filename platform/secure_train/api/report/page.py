"""The page: everything is gathered here, and laid out by the template."""

from __future__ import annotations

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from secure_train.api.report import evidence, privacy, story, text
from secure_train.api.report.chart import metric_chart
from secure_train.api.report.life import Charge, as_of, life_of
from secure_train.api.report.releases import curves
from secure_train.api.report.timeline import NARROW, WIDE, timeline
from secure_train.api.report.workers import workers_of
from secure_train.jobs import JobState
from secure_train.jobs.states import TERMINAL
from secure_train.wire.evidence import DecisionView
from secure_train.wire.jobs import JobDetail
from secure_train.wire.models import ModelVersionView

_TEMPLATES = Environment(
    loader=PackageLoader("secure_train.api.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "number": text.number,
    "figure": text.figure,
    "share": text.share,
    "moment": text.moment,
    "duration": text.duration,
    "size": text.size,
}
_TEMPLATES.globals["counted"] = text.counted


def render_report(
    detail: JobDetail, model: ModelVersionView | None, decisions: list[DecisionView], charges: list[Charge]
) -> str:
    """Render a job's report: one HTML page that refers to nothing outside of itself and runs no script.

    A pure function: the same job, model and decisions give the same page.

    Args:
        detail: the job with its whole life, in any state.
        model: what it published, if it has.
        decisions: authorisation decisions that concern it, oldest first.
        charges: what it was charged, oldest first.
    """
    statement = privacy.statement_of(model)
    loss = privacy.loss_of(detail, statement)
    life, found = life_of(detail, charges), curves(detail.releases)
    state = JobState(detail.job.state)
    return _TEMPLATES.get_template("report.html.j2").render(
        detail=detail,
        job=detail.job,
        model=model,
        state=state,
        meaning=story.MEANING[state],
        ended=state in TERMINAL,
        workers=workers_of(detail),
        as_of=as_of(detail, decisions),
        figures=story.figures(detail, model, found, loss, life),
        statement=statement,
        loss=loss,
        privacy_rows=privacy.planned_rows(detail) if statement is None else privacy.stated_rows(statement),
        public_inputs=[] if statement is None else privacy.public_inputs(statement),
        set_aside=privacy.set_aside(detail),
        curves=found,
        charts=[metric_chart(curve, detail.job.steps) for curve in found],
        life=life,
        wide_timeline=timeline(detail, life, WIDE),
        narrow_timeline=timeline(detail, life, NARROW),
        stations=evidence.stations(detail, model),
        checkpoints=evidence.shown_checkpoints(detail.checkpoints),
        allowed=evidence.allowed(decisions),
        denied=evidence.denied(decisions),
        specification=yaml.safe_dump(detail.spec, sort_keys=False, allow_unicode=True),
    )
