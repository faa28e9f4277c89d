"""Lineage, checkpoints and decisions, arranged for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from secure_train.wire.evidence import DecisionView
from secure_train.wire.jobs import CheckpointView, JobDetail
from secure_train.wire.models import ModelVersionView

_NEWEST_CHECKPOINTS = 30


@dataclass(frozen=True)
class Allowed:
    """Decisions that differ in nothing but their time."""

    principal: str
    action: str
    resource: str
    policies: tuple[str, ...]
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Station:
    """A station of a model's way from data to weights: its kind, name, and (label, value) pairs."""

    kind: str
    name: str
    facts: tuple[tuple[str, str], ...]


def allowed(decisions: Sequence[DecisionView]) -> list[Allowed]:
    """Group what was allowed, in order of first occurrence."""
    groups: dict[tuple[str, str, str, tuple[str, ...]], list[DecisionView]] = {}
    for decision in decisions:
        if decision.result == "allow":
            policies = tuple(decision.policies)
            key = (decision.principal, decision.action, decision.resource, policies)
            groups.setdefault(key, []).append(decision)
    return [
        Allowed(*key, len(own), min(same.at for same in own), max(same.at for same in own))
        for key, own in groups.items()
    ]


def denied(decisions: Sequence[DecisionView]) -> list[DecisionView]:
    """Return what was denied, each by itself."""
    return [decision for decision in decisions if decision.result == "deny"]


def shown_checkpoints(checkpoints: Sequence[CheckpointView]) -> list[CheckpointView]:
    """Return the newest checkpoints, and every refused one."""
    newest = len(checkpoints) - _NEWEST_CHECKPOINTS
    return [row for index, row in enumerate(checkpoints) if index >= newest or row.state == "refused"]


def stations(detail: JobDetail, model: ModelVersionView | None) -> list[Station]:
    """Lay out where the model came from: dataset, job, model."""
    job = detail.job
    lineage: Mapping[str, Any] = {} if model is None else model.lineage
    return [
        Station(
            "Dataset",
            f"{job.dataset}@{job.dataset_version}",
            (
                ("project", job.project),
                ("purpose", job.purpose),
                *_facts(lineage, "dataset", "name", "version"),
            ),
        ),
        Station(
            "Job",
            job.name,
            (
                ("id", job.id),
                ("submitted by", job.submitted_by),
                ("specification", detail.spec_digest),
                ("author's code", detail.code_digest or "none: a built-in model"),
                *_facts(
                    lineage, "job", "id", "name", "submitted_by", "purpose", "spec_digest", "code_digest"
                ),
            ),
        ),
        Station("Model", "none", (("published", "nothing"),))
        if model is None
        else Station(
            "Model",
            f"{model.model}@{model.version}",
            (
                ("digest", model.digest),
                ("stage", model.stage),
                ("promoted by", model.promoted_by or "nobody"),
                *_facts(lineage, "privacy"),
            ),
        ),
    ]


def _facts(lineage: Mapping[str, Any], section: str, *known: str) -> list[tuple[str, str]]:
    """Return what a section of the lineage says beyond what is shown already."""
    values: Mapping[str, Any] = lineage.get(section, {})
    return [
        (name.replace("_", " "), str(value))
        for name, value in values.items()
        if name not in known and value is not None
    ]
