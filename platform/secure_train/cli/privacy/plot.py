"""The plot of a curve as SVG, and a page around it; neither runs a script nor refers to anything outside."""

from __future__ import annotations

import math

from markupsafe import Markup

from secure_train.api.report import svg
from secure_train.api.report.axes import Scale, decimals, padded, ticks
from secure_train.cli.privacy.curve import Curve
from secure_train.dp.curve import CurvePoint

WIDTH, HEIGHT = 640.0, 400.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 24.0, 20.0, 56.0
_STYLE = Markup("""
svg.chart { display: block; width: 100%; height: auto; font-family: system-ui, sans-serif; color: #18202c; }
.chart text { fill: #556070; font-size: 13px; }
.chart .grid { stroke: #dde2e9; }
.chart .axis { stroke: #667180; }
.chart .curve { fill: none; stroke: #2c57c9; stroke-width: 2; stroke-linejoin: round; }
.chart .dot { fill: #2c57c9; stroke: #fff; stroke-width: 1.5; }
.chart .spread { stroke: #2c57c9; stroke-width: 1.4; opacity: .65; }
.chart .plain { stroke: #0b7264; stroke-width: 1.6; stroke-dasharray: 6 5; }
.chart .plain-name { fill: #0b7264; }
.chart .value { fill: #18202c; }
""")
_PAGE_STYLE = Markup("""
body { margin: 2rem auto; max-width: 46rem; padding: 0 1rem; background: #fff; color: #18202c;
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.5rem; }
.warning { border-left: 3px solid #b3261e; padding-left: .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid #dde2e9; text-align: right; }
caption { text-align: left; color: #556070; }
""")
SYNTHETIC = (
    "The rows are made up from the schema, with a rule planted into them. Absolute values mean nothing for "
    "real rows; at most, how they fall as ε falls tells something."
)


def svg_plot(curve: Curve) -> str:
    """The plot as a file of its own. ε is drawn on a logarithmic scale."""
    return str(_picture(curve, svg.tag("style", _STYLE), xmlns="http://www.w3.org/2000/svg")) + "\n"


def html_page(curve: Curve) -> str:
    """The plot with its numbers."""
    head = ("ε", "σ", curve.metric, "models")
    rows = [
        svg.tag(
            "tr",
            *(svg.tag("td", cell) for cell in (_name(p), f"{p.noise_multiplier:.4g}", *_cells(curve, p))),
        )
        for p in curve.points
    ]
    table = svg.tag(
        "table",
        svg.tag("caption", f"{subtitle(curve)} Means over models, with the smallest and largest."),
        svg.tag("thead", svg.tag("tr", *(svg.tag("th", name, scope="col") for name in head))),
        svg.tag("tbody", *rows),
    )
    warning = [svg.tag("p", SYNTHETIC, class_="warning")] if curve.synthetic else []
    body = svg.tag("body", svg.tag("h1", _title(curve)), *warning, _picture(curve), table)
    style = svg.tag("style", _STYLE + _PAGE_STYLE)
    page = svg.tag(
        "html",
        svg.tag("head", Markup('<meta charset="utf-8">'), svg.tag("title", _title(curve)), style),
        body,
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def subtitle(curve: Curve) -> str:
    """What was run, in a sentence."""
    return (
        f"{curve.rows:,} rows of {curve.source}, measured without noise on {curve.held_out:,} others; "
        f"δ {curve.delta:g}, q {curve.sampling_rate:.4g}, {curve.steps:,} steps."
    )


def _title(curve: Curve) -> str:
    return f"{curve.job}: {curve.metric} against ε"


def _picture(curve: Curve, *before: Markup, **attributes: str) -> Markup:
    private = [point for point in curve.points if point.epsilon is not None]
    values = [value for point in curve.points for value in point.qualities]
    ceiling = 1.0 if curve.metric == "accuracy" else math.inf
    up = Scale(*padded(min(values), max(values), 0.0, ceiling), HEIGHT - _BOTTOM, _TOP)
    logs = [math.log(point.epsilon) for point in private if point.epsilon is not None]
    air = 0.08 * (max(logs) - min(logs)) or 1.0
    across = Scale(min(logs) - air, max(logs) + air, _LEFT, WIDTH - _RIGHT)
    places = [(across(log), up(point.mean)) for log, point in zip(logs, private, strict=True)]
    parts = [*before, *_axes(curve, up), *_plain_line(curve, up), svg.path(places, "curve")]
    for (x, y), point in zip(places, private, strict=True):
        label = f"ε {point.epsilon:g}: {_written(curve, point.mean)}"
        parts += [
            svg.line(x, up(min(point.qualities)), x, up(max(point.qualities)), "spread"),
            svg.tag("circle", svg.hint(label), cx=x, cy=y, r=4.5, class_="dot"),
            svg.text(x, HEIGHT - _BOTTOM + 20, f"{point.epsilon:g}", "tick"),
        ]
    return svg.picture(
        WIDTH, HEIGHT, f"{_title(curve)}. {subtitle(curve)}", parts, class_="chart", **attributes
    )


def _axes(curve: Curve, up: Scale) -> list[Markup]:
    marks = ticks(up.low, up.high, 6)
    share = curve.metric == "accuracy"
    places = decimals([100 * mark for mark in marks] if share else marks)
    parts = []
    for mark in marks:
        written = f"{100 * mark:.{places}f} %" if share else f"{mark:.{places}f}"
        parts += [
            svg.line(_LEFT, up(mark), WIDTH - _RIGHT, up(mark), "grid"),
            svg.text(_LEFT - 8, up(mark) + 4, written, "tick", "end"),
        ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    rows = "made-up rows" if curve.synthetic else curve.source
    return [
        *parts,
        svg.line(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT, HEIGHT - _BOTTOM, "axis"),
        svg.text(middle, HEIGHT - 12, f"ε (δ = {curve.delta:g}); {curve.metric} on {rows}", "label"),
    ]


def _plain_line(curve: Curve, up: Scale) -> list[Markup]:
    plain = curve.points[-1]
    y = up(plain.mean)
    name = f"without privacy: {_written(curve, plain.mean)}"
    # Below the line, unless the curve comes close from there: an error falls towards it from above.
    offset = -7 if curve.metric == "accuracy" and y - _TOP > 20 else 17
    return [
        svg.line(_LEFT, y, WIDTH - _RIGHT, y, "plain"),
        svg.text(_LEFT + 8, y + offset, name, "plain-name", "start"),
    ]


def _name(point: CurvePoint) -> str:
    return "without privacy" if point.epsilon is None else f"{point.epsilon:g}"


def _cells(curve: Curve, point: CurvePoint) -> tuple[str, str]:
    mean = _written(curve, point.mean)
    if len(point.qualities) > 1:
        low, high = min(point.qualities), max(point.qualities)
        mean += f" ({_written(curve, low)} … {_written(curve, high)})"
    return mean, str(len(point.qualities))


def _written(curve: Curve, value: float) -> str:
    return f"{100 * value:.2f} %" if curve.metric == "accuracy" else f"{value:.4g}"
