"""Finding datasets and models by what people call them: an id, or ``project/name``."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import Dataset, DatasetVersion, Job, Model, ModelVersion
from secure_train.registry.errors import NotFound


def find_dataset(session: Session, reference: str) -> Dataset | None:
    """Return the dataset of that id or ``project/name``."""
    project, slash, name = reference.partition("/")
    if not slash:
        return session.get(Dataset, reference)
    return session.scalar(select(Dataset).where(Dataset.project_id == project, Dataset.name == name))


def find_model(session: Session, reference: str) -> Model | None:
    """Return the model of that id or ``project/name``."""
    project, slash, name = reference.partition("/")
    if not slash:
        return session.get(Model, reference)
    return session.scalar(select(Model).where(Model.project_id == project, Model.name == name))


def dataset_versions(session: Session, dataset: Dataset) -> list[DatasetVersion]:
    """Return the versions of a dataset, newest last."""
    query = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset.id)
    return list(session.scalars(query.order_by(DatasetVersion.version)))


def model_versions(session: Session, model: Model) -> list[ModelVersion]:
    """Return the versions of a model, newest last."""
    query = select(ModelVersion).where(ModelVersion.model_id == model.id)
    return list(session.scalars(query.order_by(ModelVersion.version)))


def resolve_dataset(session: Session, project_id: str, reference: str) -> tuple[Dataset, DatasetVersion]:
    """Return what a job's ``data.dataset`` means in its project: ``name`` (the newest version) or ``name@3``.

    ``project/name`` is a dataset of another project, which has to have given this one a part of its budget.

    Raises:
        NotFound: no such dataset or version; tell only those who may know.
    """
    name, _, number = reference.partition("@")
    owner, _, name = name.rpartition("/")
    owner = owner or project_id
    dataset = find_dataset(session, f"{owner}/{name}")
    if dataset is None:
        raise NotFound(f"there is no dataset {name!r} in project {owner!r}")
    versions = dataset_versions(session, dataset)
    if not number:
        return dataset, versions[-1]
    for version in versions:
        if str(version.version) == number:
            return dataset, version
    raise NotFound(f"dataset {name!r} has no version {number}; its newest is {versions[-1].version}")


def version_of_job(session: Session, job: Job) -> DatasetVersion:
    """Return the dataset version that a job trains on."""
    return session.get_one(DatasetVersion, (job.dataset_id, job.dataset_version))
