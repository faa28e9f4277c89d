"""The chart of a released metric over training steps."""

from __future__ import annotations

from markupsafe import Markup

from secure_train.api.report import svg, text
from secure_train.api.report.axes import Scale, decimals, padded, ticks
from secure_train.api.report.releases import Curve, Point

WIDTH, HEIGHT = 420.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 12.0, 40.0
_CAP = 4.0


def metric_chart(curve: Curve, steps: int) -> Markup:
    """Draw a metric: a point per release, bars where the release states its noise."""
    low = min(point.value - (point.half or 0) for point in curve.points)
    high = max(point.value + (point.half or 0) for point in curve.points)
    ceiling = min(point.ceiling for point in curve.points)
    bottom, top = padded(max(low, 0.0), min(high, ceiling), 0.0, ceiling)
    across = Scale(0, max(steps, 1), LEFT, WIDTH - RIGHT)
    up = Scale(bottom, top, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(curve, across, up)]
    newest = curve.newest.noise_epoch
    for epoch in sorted({point.noise_epoch for point in curve.points}):
        own = [point for point in curve.points if point.noise_epoch == epoch]
        kind = "curve" if epoch == newest else "curve faded"
        parts.append(svg.path([(across(point.step), up(point.value)) for point in own], kind))
        parts += [_mark(curve, point, across, up, faded=epoch != newest) for point in own]
    return svg.picture(WIDTH, HEIGHT, _label(curve), parts, class_="chart")


def _label(curve: Curve) -> str:
    first, last = curve.points[0], curve.newest
    return (
        f"{curve.metric.title} on held-out rows over training steps: {curve.metric.write(first.value)} "
        f"at step {first.step}, {curve.metric.write(last.value)} at step {last.step}. "
        "The table below has all values."
    )


def _grid(curve: Curve, across: Scale, up: Scale) -> list[Markup]:
    marks = ticks(up.low, up.high, 7)
    places = decimals([100 * mark for mark in marks] if curve.metric.share else marks)
    parts = []
    for mark in marks:
        written = f"{100 * mark:.{places}f} %" if curve.metric.share else f"{mark:.{places}f}"
        parts.append(svg.line(LEFT, up(mark), WIDTH - RIGHT, up(mark), "grid"))
        parts.append(svg.text(LEFT - 7, up(mark) + 4, written, "tick", "end"))
    for mark in ticks(across.low, across.high, whole=True):
        parts.append(svg.text(across(mark), HEIGHT - BOTTOM + 17, f"{mark:,.0f}", "tick"))
    parts.append(svg.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    parts.append(svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "training step", "label"))
    return parts


def _mark(curve: Curve, point: Point, across: Scale, up: Scale, *, faded: bool) -> Markup:
    x, parts = across(point.step), []
    if point.half is not None:
        upper, lower = up(point.value + point.half), up(point.value - point.half)
        parts.append(svg.line(x, upper, x, lower, "bar"))
        parts += [svg.line(x - _CAP, y, x + _CAP, y, "bar") for y in (upper, lower)]
    parts.append(svg.tag("circle", cx=x, cy=up(point.value), r=4, class_="dot"))
    said = (
        f"step {point.step:,}: {curve.describe(point)}\n"
        f"released {point.at} for ε = {text.figure(point.epsilon)}, noise epoch {point.noise_epoch}"
    )
    return svg.tag("g", svg.hint(said), *parts, class_="point faded" if faded else "point")
