"""Metrics, privacy figures and recoveries as people read them; ``-o json`` has them exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from secure_train.wire.jobs import RecoveryView

_MEANING = {"loss": "mean log loss", "error": "mean absolute error"}
_MOST = 19 / 20


def metric_facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a line for each metric of a release: its value, its noise, and what it is over.

    The half width holds 95 % of the Laplace noise that was added: P(|X| > t) = exp(−t / scale).
    """
    return [(name, _metric(name, metrics)) for name in ("accuracy", "loss", "error") if name in metrics]


def _metric(name: str, metrics: Mapping[str, Any]) -> str:
    parts = [_value(name, metrics[name])]
    scale = metrics.get(f"{name}_scale")
    if scale:
        half = -scale * math.log(1 - _MOST)
        width = f"{100 * half:.1f} points" if name == "accuracy" else f"{half:.2g}"
        parts.append(f"± {width} (95 % of its noise)")
    elif metrics.get("exact"):
        parts.append("(exact)")
    parts.append(f"over {metrics['rows']} held-out rows")
    if name in _MEANING:
        parts.append(f"({_MEANING[name]}, {metrics['bound']:g} at most)")
    return " ".join(parts)


def _value(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if name == "accuracy" else f"{value:.4g}"


def release_text(metrics: Mapping[str, Any]) -> str:
    """Return a release's metrics in a few words, for a line of a log."""
    named = (name for name in ("accuracy", "loss", "error") if name in metrics)
    return ", ".join(f"{name} {_value(name, metrics[name])}" for name in named)


def spent(epsilon: float) -> str:
    """Write an ε with four significant digits."""
    return f"{epsilon:.4g}"


def recovery_text(recovery: RecoveryView) -> str:
    """Tell a death and what it cost. Heartbeats lag, so that what was repeated is a least number."""
    died = f"{recovery.cause}, at step {recovery.last_step} or a little later"
    if recovery.restored_step is None or recovery.seconds is None:
        return f"{died}; training has not gone on"
    repeated = (
        f"{recovery.steps_repeated} steps or a few more" if recovery.steps_repeated else "at most a few steps"
    )
    return (
        f"{died}; back to the checkpoint of step {recovery.restored_step}, repeating {repeated}; "
        f"{recovery.seconds:.1f} s until training went on"
    )
