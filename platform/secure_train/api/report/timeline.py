"""The time line: states, training step and charged ε over one axis of time, and deaths through all three."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from markupsafe import Markup

from secure_train.api.report import svg, text
from secure_train.api.report.axes import Scale, decimals, ticks, time_ticks
from secure_train.api.report.life import Life
from secure_train.jobs import JobState
from secure_train.wire.jobs import JobDetail

_STATES_TOP, _STATES_HEIGHT = 26.0, 24.0
_LANE_HEIGHT = 120.0
_STEP_TOP = _STATES_TOP + _STATES_HEIGHT + 42
_EPSILON_TOP = _STEP_TOP + _LANE_HEIGHT + 42
_BOTTOM = _EPSILON_TOP + _LANE_HEIGHT
_HEIGHT = _BOTTOM + 44
_LETTER_WIDTH = 7.5
_TITLE_RISE = 10.0


@dataclass(frozen=True)
class Layout:
    """How wide the drawing is, and how many ticks of time it has room for."""

    width: float
    left: float
    right: float
    time_ticks: int


WIDE = Layout(width=960, left=46, right=14, time_ticks=10)
NARROW = Layout(width=380, left=40, right=10, time_ticks=4)


def timeline(detail: JobDetail, life: Life, layout: Layout) -> Markup:
    """Draw a job's life."""
    return svg.picture(
        layout.width, _HEIGHT, _label(detail, life), _Drawing(detail, life, layout).parts(), class_="chart"
    )


def _label(detail: JobDetail, life: Life) -> str:
    job = detail.job
    return (
        f"Time line over {text.duration(life.seconds)}: {text.counted(len(life.spans), 'span')} of states, "
        f"{text.counted(len(life.outages), 'recovery', 'recoveries')}, training step {job.step:,} of "
        f"{job.steps:,}, ε {text.figure(job.spent_epsilon)} of {text.figure(job.epsilon)} charged."
    )


class _Drawing:
    """The parts of one time line; they share its scales."""

    def __init__(self, detail: JobDetail, life: Life, layout: Layout) -> None:
        self._detail, self._life, self._layout = detail, life, layout
        self._left, self._right = layout.left, layout.width - layout.right
        self._seconds = max(life.seconds, 1.0)
        self._across = Scale(0, self._seconds, self._left, self._right)
        self._steps = Scale(0, detail.job.steps, _STEP_TOP + _LANE_HEIGHT, _STEP_TOP)
        self._epsilon = Scale(0, detail.job.epsilon, _BOTTOM, _EPSILON_TOP)

    def parts(self) -> list[Markup]:
        return [
            *self._outages(),
            *self._time_axis(),
            *self._states(),
            *self._step_lane(),
            *self._epsilon_lane(),
        ]

    def _x(self, moment: datetime) -> float:
        return self._across(self._life.at(moment))

    def _outages(self) -> list[Markup]:
        drawn = []
        for outage in self._life.outages:
            start, end = self._x(outage.start), self._x(outage.end)
            lasted = text.duration((outage.end - outage.start).total_seconds())
            end_words = f"training went on after {lasted}" if outage.resumed else "training did not go on"
            drawn.append(
                svg.tag(
                    "g",
                    svg.hint(f"{outage.cause}\nnoticed {text.moment(outage.start)}; {end_words}"),
                    svg.tag(
                        "rect",
                        x=start,
                        y=_STATES_TOP,
                        width=max(end - start, 2),
                        height=_BOTTOM - _STATES_TOP,
                        class_="outage",
                    ),
                    svg.line(start, _STATES_TOP, start, _BOTTOM, "death"),
                )
            )
        return drawn

    def _time_axis(self) -> list[Markup]:
        parts = [svg.line(self._left, _BOTTOM, self._right, _BOTTOM, "axis")]
        for mark in time_ticks(self._seconds, self._layout.time_ticks):
            x = self._across(mark)
            parts.append(svg.line(x, _BOTTOM, x, _BOTTOM + 4, "axis"))
            parts.append(svg.text(x, _BOTTOM + 18, text.duration(mark) if mark else "0", "tick"))
        middle = (self._left + self._right) / 2
        parts.append(svg.text(middle, _HEIGHT - 6, "time since submission", "label"))
        return parts

    def _states(self) -> list[Markup]:
        parts = [svg.text(self._left, _STATES_TOP - _TITLE_RISE, "state", "label", "start")]
        for span in self._life.spans:
            start, end = self._x(span.start), self._x(span.end)
            lasted = text.duration((span.end - span.start).total_seconds())
            reason = f"\n{span.reason}" if span.reason else ""
            inside = [
                svg.hint(f"{span.state} for {lasted}, from {text.moment(span.start)}{reason}"),
                svg.tag(
                    "rect",
                    x=start,
                    y=_STATES_TOP,
                    width=max(end - start, 1),
                    height=_STATES_HEIGHT,
                    class_=f"state {span.state}",
                ),
            ]
            if end - start > len(span.state) * _LETTER_WIDTH + 8:
                inside.append(
                    svg.text((start + end) / 2, _STATES_TOP + 16, span.state, f"name on-{span.state}")
                )
            parts.append(svg.tag("g", *inside))
        return parts

    def _step_lane(self) -> list[Markup]:
        marks = ticks(0, self._detail.job.steps, 4, whole=True)
        parts = self._lane("training step", _STEP_TOP, [(self._steps(m), f"{m:,.0f}") for m in marks])
        for _, run in groupby(self._life.progress, key=lambda point: point.generation):
            points = list(run)
            way = [(self._x(p.at), self._steps(p.step)) for p in points]
            if points[-1] is self._life.progress[-1] and self._detail.job.state == JobState.SUCCEEDED:
                # The last heartbeat lags behind the end, which the publication of the model tells.
                way.append((self._x(self._life.end), self._steps(self._detail.job.step)))
            parts.append(svg.path(way, "steps"))
            for point in points:
                said = (
                    f"step {point.step:,} at {text.moment(point.at)}\n"
                    f"{text.number(point.steps_per_second)} steps a second, worker group {point.generation}"
                )
                dot = svg.tag("circle", cx=self._x(point.at), cy=self._steps(point.step), r=2, class_="step")
                parts.append(svg.tag("g", svg.hint(said), dot))
        for stored in self._detail.checkpoints:
            x, y = self._x(stored.created_at), _STEP_TOP + _LANE_HEIGHT
            kind = "refused" if stored.state == "refused" else "kept"
            said = f"checkpoint of step {stored.step:,}, {text.moment(stored.created_at)}: {stored.state}"
            parts.append(svg.tag("g", svg.hint(said), svg.line(x, y, x, y - 9, f"checkpoint {kind}")))
        return parts

    def _epsilon_lane(self) -> list[Markup]:
        marks = ticks(0, self._detail.job.epsilon, 4)
        places = decimals(marks)
        top, lane = (
            self._epsilon(self._detail.job.epsilon),
            [(self._epsilon(m), f"{m:.{places}f}") for m in marks],
        )
        parts = self._lane("ε charged to the dataset's budget", _EPSILON_TOP, lane)
        parts.append(svg.line(self._left, top, self._right, top, "limit"))
        allowed = f"allowed: {text.figure(self._detail.job.epsilon)}"
        parts.append(svg.text(self._right, top - 5, allowed, "label", "end"))
        stairs: list[tuple[float, float]] = []
        for charge in self._life.charges:
            x, y = self._x(charge.at), self._epsilon(charge.epsilon)
            stairs.append((x, stairs[-1][1] if stairs else _BOTTOM))
            stairs.append((x, y))
        if stairs:
            stairs.append((self._x(self._life.end), stairs[-1][1]))
            parts.append(svg.path(stairs, "spent"))
        for charge in self._life.charges:
            said = (
                f"ε = {text.figure(charge.epsilon)} charged in all by {text.moment(charge.at)}\n{charge.what}"
            )
            dot = svg.tag(
                "circle", cx=self._x(charge.at), cy=self._epsilon(charge.epsilon), r=2, class_="charge"
            )
            parts.append(svg.tag("g", svg.hint(said), dot))
        return parts

    def _lane(self, title: str, top: float, marks: list[tuple[float, str]]) -> list[Markup]:
        parts = [svg.text(self._left, top - _TITLE_RISE, title, "label", "start")]
        for y, written in marks:
            parts.append(svg.line(self._left, y, self._right, y, "grid"))
            parts.append(svg.text(self._left - 6, y + 4, written, "tick", "end"))
        return parts
