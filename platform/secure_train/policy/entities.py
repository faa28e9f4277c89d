"""Rows of the database as Cedar entities.

A request takes along only the entities that it concerns: a decision's cost does not grow with the number of
principals, datasets or jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_train.db.tables import Dataset, Job, Model, ModelVersion, Principal, Search
from secure_train.policy.actions import Action


@dataclass(frozen=True)
class Uid:
    """Type and id of a Cedar entity."""

    type: str
    id: str

    @property
    def json(self) -> dict[str, str]:
        """As Cedar's request format has it."""
        return {"type": self.type, "id": self.id}

    @property
    def reference(self) -> dict[str, dict[str, str]]:
        """As an attribute's value."""
        return {"__entity": self.json}


@dataclass(frozen=True)
class Entity:
    """One entity. `attributes` are in Cedar's JSON form."""

    uid: Uid
    attributes: Mapping[str, Any]
    parents: tuple[Uid, ...] = ()

    @property
    def json(self) -> dict[str, Any]:
        """As Cedar's entities format has it."""
        return {
            "uid": self.uid.json,
            "attrs": dict(self.attributes),
            "parents": [parent.json for parent in self.parents],
        }

    @property
    def shown(self) -> dict[str, Any]:
        """For people: id, attributes and, where there are any, parents, without Cedar's wrapping."""
        plain = {name: _plain(value) for name, value in self.attributes.items()}
        shown = {"type": self.uid.type, "id": self.uid.id, **plain}
        if self.parents:
            shown["in"] = sorted(parent.id for parent in self.parents)
        return shown


def project_uid(project_id: str) -> Uid:
    """Name a project."""
    return Uid("Project", project_id)


def principal_uid(principal_id: str) -> Uid:
    """Name a principal."""
    return Uid("Principal", principal_id)


def principal_entity(row: Principal, projects: Iterable[str]) -> Entity:
    """Describe a person or a service, in its projects."""
    attributes = {
        "kind": row.kind,
        "department": row.department,
        "clearance": row.clearance,
        "roles": sorted(row.roles),
        "active": row.active,
    }
    return Entity(principal_uid(row.id), attributes, tuple(project_uid(name) for name in sorted(projects)))


def dataset_entity(row: Dataset, rows: int, guests: Iterable[str] = ()) -> Entity:
    """Describe a dataset whose largest version has `rows` training rows.

    `guests`: other projects that have a part of its budget.
    """
    attributes = {
        "project": project_uid(row.project_id).reference,
        "owner": principal_uid(row.owner_id).reference,
        "classification": row.classification,
        "projects": [project_uid(name).reference for name in sorted({row.project_id, *guests})],
        "purposes": sorted(row.purposes),
        "rows": rows,
    }
    return Entity(Uid("Dataset", row.id), attributes)


def job_entity(row: Job | Search, granted: Iterable[Action] | None = None) -> Entity:
    """Describe a job; with what its capability grants, if the job itself asks.

    A search is a job too: whoever may read or cancel its trials may do so with the whole of it.
    """
    attributes: dict[str, Any] = {
        "project": project_uid(row.project_id).reference,
        "submitter": principal_uid(row.submitted_by).reference,
        "dataset": Uid("Dataset", row.dataset_id).reference,
        "purpose": row.purpose,
        "state": row.state,
    }
    if granted is not None:
        attributes["granted"] = [Uid("Action", action).reference for action in sorted(granted)]
    return Entity(Uid("Job", row.id), attributes)


def model_entity(row: Model, version: ModelVersion | None, submitters: Iterable[str]) -> Entity:
    """Describe one version of a model, or (None) its whole line."""
    attributes = {
        "project": project_uid(row.project_id).reference,
        "stage": "" if version is None else version.stage,
        "submitters": [principal_uid(name).reference for name in sorted(set(submitters))],
    }
    return Entity(Uid("Model", row.id if version is None else f"{row.id}@{version.version}"), attributes)


def checkpoint_entity(job: Job) -> Entity:
    """Describe all checkpoints of a job."""
    attributes = {"project": project_uid(job.project_id).reference, "job": Uid("Job", job.id).reference}
    return Entity(Uid("Checkpoint", job.id), attributes)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return value["__entity"]["id"]
    return value
