"""A model version for people: what it can do, what it is private against, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from secure_train.cli.figures import metric_facts, spent
from secure_train.cli.output import facts
from secure_train.wire.models import ModelVersionView

Facts = list[tuple[str, object]]


def print_card(version: ModelVersionView, to: Console) -> None:
    """Print a version in sections; ``-o json`` has every figure in full."""
    for title, section in (
        ("", _first(version)),
        ("privacy", _privacy(version.statement)),
        ("lineage", _lineage(version.lineage)),
    ):
        if title:
            to.print(f"\n[bold]{title}[/]")
        facts(section, to)
    to.print("\n[bold]what the guarantee rests on[/]")
    facts(
        [("-", text) for text in [*version.statement["assumptions"], version.statement["float_caveat"]]], to
    )


def _first(version: ModelVersionView) -> Facts:
    promoted = f", promoted by {version.promoted_by}" if version.promoted_by else ""
    return [
        ("model", f"{version.project}/{version.model}@{version.version}"),
        ("stage", f"{version.stage}{promoted}"),
        ("job", version.job_id),
        ("digest", version.digest),
        *metric_facts(version.metrics),
    ]


def _privacy(statement: Mapping[str, Any]) -> Facts:
    told, replaced, checked = (
        statement[name] for name in ("guarantee", "guarantee_replace_one", "accountant")
    )
    evaluations, sigma = statement["evaluations"], spent(statement["noise_multiplier"])
    total = spent(sum(one["epsilon"] for one in evaluations))
    training = f"{spent(told['training_epsilon'])} training and {total} evaluation ({len(evaluations)} times)"
    checks = f"PRV {spent(checked['cross_check_prv'])}, RDP {spent(checked['cross_check_rdp'])}"
    return [
        ("protects", f"one {statement['unit_of_privacy']}"),
        ("ε", f"{spent(told['total_epsilon'])} if a record is added or removed: {training}"),
        ("", f"{spent(replaced['total_epsilon'])} if a record is exchanged for another"),
        ("δ", f"{told['delta']:g}"),
        ("mechanism", statement["mechanism"]),
        ("clipping", f"norm {statement['max_grad_norm']:g}"),
        ("noise σ", f"{sigma} times the clipping norm, in each of {statement['steps']} steps"),
        ("sampling", statement["sampler_run"]),
        ("accountant", f"{checked['name']} {checked['version']}; others find for training: {checks}"),
        ("randomness", statement["randomness"]),
        (
            "public",
            f"{len(statement['public_inputs'])} inputs, such as bounds and categories; -o json lists them",
        ),
    ]


def _lineage(lineage: Mapping[str, Mapping[str, Any]]) -> Facts:
    """Name each fact by its section; the job's id and the total ε are shown above."""
    return [
        (f"{section} {name.replace('_', ' ')}", value)
        for section, values in lineage.items()
        if section != "privacy"
        for name, value in values.items()
        if value is not None
    ]
