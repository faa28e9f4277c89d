"""What is acted on: constructors of `Resource` from rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train.db.tables import (
    BudgetAllocation,
    Dataset,
    DatasetVersion,
    Job,
    Model,
    ModelVersion,
    Principal,
    ProjectMember,
    Search,
)
from secure_train.policy.entities import (
    Entity,
    Uid,
    checkpoint_entity,
    dataset_entity,
    job_entity,
    model_entity,
    principal_entity,
    project_uid,
)

MAX_REF = 160


@dataclass(frozen=True)
class Resource:
    """Something that an operation concerns.

    Attributes:
        ref: how records name it, e.g. "dataset:ds_…".
        entity: the thing itself.
        project: project it belongs to, if any.
        related: further entities that policies follow its attributes to.
        asked: how the caller named it, where that differs from ``ref``. A denial repeats no other name: the
            same words whether or not the thing exists.
    """

    ref: str
    entity: Entity
    project: str | None = None
    related: tuple[Entity, ...] = ()
    asked: str = ""


def dataset(session: Session, row: Dataset, asked: str = "") -> Resource:
    """Return a dataset, all its versions together. `asked` is the name that the caller sent."""
    return Resource(
        f"dataset:{row.id}",
        _dataset_entity(session, row),
        row.project_id,
        asked=asked and _named("dataset", asked),
    )


def job(session: Session, row: Job) -> Resource:
    """Return a job; policies may look at its dataset too."""
    related = (_dataset_entity(session, session.get_one(Dataset, row.dataset_id)),)
    return Resource(f"job:{row.id}", job_entity(row), row.project_id, related)


def search(session: Session, row: Search) -> Resource:
    """Return a search, which policies take for a job."""
    related = (_dataset_entity(session, session.get_one(Dataset, row.dataset_id)),)
    return Resource(f"search:{row.id}", job_entity(row), row.project_id, related)


def checkpoint(row: Job) -> Resource:
    """Return the checkpoints of a job."""
    return Resource(f"checkpoint:{row.id}", checkpoint_entity(row), row.project_id)


def model(session: Session, row: Model, version: ModelVersion | None = None, asked: str = "") -> Resource:
    """Return one version of a model, or its whole line. `asked` is the name that the caller sent."""
    submitters = select(Job.submitted_by).join(ModelVersion, ModelVersion.job_id == Job.id)
    submitters = submitters.where(ModelVersion.model_id == row.id)
    if version is not None:
        submitters = submitters.where(ModelVersion.version == version.version)
    entity = model_entity(row, version, session.scalars(submitters))
    return Resource(f"model:{entity.uid.id}", entity, row.project_id, asked=asked and _named("model", asked))


def project(project_id: str) -> Resource:
    """Return a project."""
    return Resource(f"project:{project_id}", Entity(project_uid(project_id), {}), project_id)


def principal(session: Session, row: Principal) -> Resource:
    """Return a person or a service."""
    return Resource(row.id, principal_entity(row, member_of(session, row.id)))


def catalog(kind: str) -> Resource:
    """Return a whole kind of thing, for lists and system-wide operations.

    `kind`: "datasets", "jobs", "models", "principals", "projects", "audit", "policy", "keys" or "system".
    """
    return Resource(f"catalog:{kind}", Entity(Uid("Catalog", kind), {}))


def missing(kind: str, ref: str) -> Resource:
    """Return something that was asked for and does not exist. `ref` is what the caller sent."""
    name = _named(kind, ref)
    return Resource(name, Entity(Uid("Missing", name), {"kind": kind}))


def _named(kind: str, ref: str) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in ref)
    return f"{kind}:{printable}"[:MAX_REF]


def member_of(session: Session, principal_id: str) -> list[str]:
    """Return the projects of a principal."""
    query = select(ProjectMember.project_id).where(ProjectMember.principal_id == principal_id)
    return list(session.scalars(query))


def _dataset_entity(session: Session, row: Dataset) -> Entity:
    query = select(func.max(DatasetVersion.training_rows)).where(DatasetVersion.dataset_id == row.id)
    guests = select(BudgetAllocation.project_id).where(BudgetAllocation.dataset_id == row.id)
    return dataset_entity(row, session.scalar(query) or 0, session.scalars(guests))
