"""Released metrics with their noise: what a chart draws and a table lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from secure_train.api.report import text
from secure_train.wire.jobs import ReleaseView

_MOST = 19 / 20


@dataclass(frozen=True)
class Metric:
    """A kind of metric.

    Attributes:
        key: its name in released metrics; the scale of its noise is there as ``<key>_scale``.
        title: heading of its chart.
        share: a share of 1, written as a percentage.
    """

    key: str
    title: str
    share: bool

    def write(self, value: float) -> str:
        """Write a value."""
        return text.share(value) if self.share else text.number(value)

    def write_width(self, half: float) -> str:
        """Write half the width of an interval."""
        return f"± {100 * half:.1f} points" if self.share else f"± {text.number(half)}"


METRICS = (
    Metric("accuracy", "Accuracy", share=True),
    Metric("loss", "Mean log loss", share=False),
    Metric("error", "Mean absolute error", share=False),
)


@dataclass(frozen=True)
class Point:
    """A released value.

    Attributes:
        half: 95 % of the noise lies within ± this; None where the release states no noise.
        ceiling: the largest value that the metric can have, if that is public.
    """

    step: int
    noise_epoch: int
    value: float
    half: float | None
    epsilon: float
    ceiling: float
    at: str


@dataclass(frozen=True)
class Curve:
    """All released values of a metric, oldest first."""

    metric: Metric
    points: tuple[Point, ...]

    @property
    def newest(self) -> Point:
        """The value that was released last."""
        return self.points[-1]

    def describe(self, point: Point) -> str:
        """Write a value with its noise."""
        written = self.metric.write(point.value)
        return written if point.half is None else f"{written} {self.metric.write_width(point.half)}"


def curves(releases: Sequence[ReleaseView]) -> list[Curve]:
    """Collect the curves of what was released."""
    found = []
    for metric in METRICS:
        points = tuple(_point(release, metric) for release in releases if metric.key in release.metrics)
        if points:
            found.append(Curve(metric, points))
    return found


def noise_half_width(scale: float) -> float:
    """Half the width of the interval that holds 95 % of Laplace noise: P(|X| > t) = exp(−t / scale)."""
    return -scale * math.log(1 - _MOST)


def _point(release: ReleaseView, metric: Metric) -> Point:
    scale = release.metrics.get(f"{metric.key}_scale")
    return Point(
        step=release.step,
        noise_epoch=release.noise_epoch,
        value=float(release.metrics[metric.key]),
        half=None if scale is None else noise_half_width(float(scale)),
        epsilon=release.epsilon,
        ceiling=1.0 if metric.share else float(release.metrics.get("bound", math.inf)),
        at=text.moment(release.at),
    )
