"""Registering datasets, and who may see and open them.

A request is decided first, in a transaction of its own. Rows are parsed and sealed after that and outside of
any transaction, since it may take long; then dataset, version and audit event commit together. A crash before
leaves sealed blocks that no row names and whose key is nowhere: garbage, which the collector removes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.audit import Event
from secure_train.blocks import BlockStore
from secure_train.db import new_id
from secure_train.db.tables import Dataset, DatasetVersion, Project
from secure_train.db.trail import Trail
from secure_train.policy import Action, Actor, Guard, resources
from secure_train.registry.errors import AlreadyExists, NotFound
from secure_train.registry.ingest import ingest
from secure_train.registry.limits import DEFAULT_LIMITS, Limits
from secure_train.registry.lookup import dataset_versions, find_dataset, resolve_dataset
from secure_train.registry.sealing import SealedRows, schema_json, seal_rows, unwrap_rows
from secure_train.registry.tables import Format
from secure_train.registry.views import dataset_view
from secure_train.spec import DatasetSchema, schema_from_json
from secure_train.vault import DataKey, SealedFileVault
from secure_train.wire.data import DatasetView, NewDataset, NewDatasetVersion


@dataclass(frozen=True, slots=True)
class RowsGrant:
    """Where the sealed rows of a version lie, and the key that opens them."""

    manifest_id: str
    digest: str
    data_key: DataKey


class DatasetService:
    """Datasets, for those who may. Methods that take an actor decide first, and record the decision."""

    def __init__(
        self,
        guard: Guard,
        trail: Trail,
        vault: SealedFileVault,
        blocks: BlockStore,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._guard = guard
        self._trail = trail
        self._vault = vault
        self._blocks = blocks
        self._limits = limits

    def register(self, actor: Actor, request: NewDataset, rows: BinaryIO) -> DatasetView:
        """Validate every row, seal them all, and give the dataset its privacy budget.

        Raises:
            Denied: policy does not let the actor register datasets in this project.
            AlreadyExists: the project has a dataset of this name.
            SpecErrors: the schema is wrong.
            RowErrors: the rows do not fit the schema; nothing is stored.
            TableTooLarge: the rows unfold to more than the limits allow; nothing is stored.
        """
        with self._guard.transaction() as session:
            self._authorize_registration(session, actor, request.project)
            self._refuse_taken_name(session, request)
        schema = schema_from_json(request.data_schema)
        dataset = Dataset(
            id=new_id("ds"),
            project_id=request.project,
            name=request.name,
            owner_id=actor.id,
            classification=request.classification,
            purposes=list(dict.fromkeys(request.purposes)),
            budget_epsilon=request.budget_epsilon,
            budget_delta=request.budget_delta,
            composition=request.composition,
        )
        sealed = self._seal(request.project, dataset.id, schema, rows, request.format)
        try:
            with self._guard.database.write() as session:
                session.add(dataset)
                session.flush()
                ledger.open_budget(session, dataset)
                version = self._add(session, actor, dataset, 1, schema, sealed)
        except IntegrityError:
            # Another registration of this name was faster; anything else is not ours to explain.
            with self._guard.database.read() as session:
                self._refuse_taken_name(session, request)
            raise
        return dataset_view(dataset, [version])

    def add_version(
        self, actor: Actor, reference: str, request: NewDatasetVersion, rows: BinaryIO
    ) -> DatasetView:
        """Add an immutable version to a dataset, given by id or ``project/name``.

        Raises:
            Denied: policy does not let the actor add to this dataset.
            NotFound: there is no such dataset, and the actor may know that.
            SpecErrors: the schema is wrong.
            RowErrors: the rows do not fit the schema; nothing is stored.
            TableTooLarge: the rows unfold to more than the limits allow; nothing is stored.
        """
        with self._guard.transaction() as session:
            dataset = self._authorized(session, actor, Action.DATASET_REGISTER, reference)
        schema = schema_from_json(request.data_schema)
        sealed = self._seal(dataset.project_id, dataset.id, schema, rows, request.format)
        with self._guard.database.write() as session:
            # Versions are numbered without gaps: one writer at a time.
            query = select(Dataset).where(Dataset.id == dataset.id).with_for_update(key_share=True)
            dataset = session.scalars(query).one()
            versions = dataset_versions(session, dataset)
            number = versions[-1].version + 1
            versions.append(self._add(session, actor, dataset, number, schema, sealed))
        return dataset_view(dataset, versions)

    def get(self, actor: Actor, reference: str) -> DatasetView:
        """Show a dataset, given by id or ``project/name``. Raises Denied, NotFound."""
        with self._guard.transaction() as session:
            dataset = self._authorized(session, actor, Action.DATASET_READ, reference)
            return dataset_view(dataset, dataset_versions(session, dataset))

    def list(self, actor: Actor) -> list[DatasetView]:
        """Show the datasets that the actor may read, by project and name. Raises Denied."""
        with self._guard.transaction() as session:
            self._guard.authorize(session, actor, Action.DATASET_READ, resources.catalog("datasets"))
            found = list(session.scalars(select(Dataset).order_by(Dataset.project_id, Dataset.name)))
            concerned = [resources.dataset(session, dataset) for dataset in found]
            seen = self._guard.visible(session, actor, Action.DATASET_READ, concerned)
            return [
                dataset_view(dataset, dataset_versions(session, dataset))
                for dataset, is_seen in zip(found, seen, strict=True)
                if is_seen
            ]

    def resolve(self, session: Session, project_id: str, reference: str) -> tuple[Dataset, DatasetVersion]:
        """Return what a job's ``data.dataset`` means in its project. Authorises nothing. Raises NotFound."""
        return resolve_dataset(session, project_id, reference)

    def grant(self, session: Session, version: DatasetVersion) -> RowsGrant:
        """Open a version's key for whom the caller has authorised to read the dataset."""
        dataset = session.get_one(Dataset, version.dataset_id)
        key = unwrap_rows(self._vault, dataset.project_id, version)
        return RowsGrant(version.manifest_id, version.digest, key)

    def _authorize_registration(self, session: Session, actor: Actor, project_id: str) -> None:
        if session.get(Project, project_id) is None:
            missing = resources.missing("project", project_id)
            self._guard.authorize(session, actor, Action.DATASET_REGISTER, missing)
            raise NotFound(f"there is no project {project_id!r}")
        project = resources.project(project_id)
        self._guard.authorize(session, actor, Action.DATASET_REGISTER, project)

    def _authorized(self, session: Session, actor: Actor, action: Action, reference: str) -> Dataset:
        dataset = find_dataset(session, reference)
        if dataset is None:
            self._guard.authorize(session, actor, action, resources.missing("dataset", reference))
            raise NotFound(f"there is no dataset {reference!r}")
        self._guard.authorize(session, actor, action, resources.dataset(session, dataset, reference))
        return dataset

    def _refuse_taken_name(self, session: Session, request: NewDataset) -> None:
        if find_dataset(session, f"{request.project}/{request.name}") is not None:
            raise AlreadyExists(
                f"project {request.project!r} has a dataset {request.name!r}: choose another name, or add a "
                "version to it"
            )

    def _seal(
        self, project_id: str, dataset_id: str, schema: DatasetSchema, rows: BinaryIO, written_as: str
    ) -> SealedRows:
        columns = ingest(schema, rows, Format(written_as), self._limits)
        return seal_rows(self._vault, self._blocks, project_id, dataset_id, schema, columns)

    def _add(
        self,
        session: Session,
        actor: Actor,
        dataset: Dataset,
        number: int,
        schema: DatasetSchema,
        sealed: SealedRows,
    ) -> DatasetVersion:
        version = DatasetVersion(
            dataset_id=dataset.id,
            version=number,
            schema=schema_json(schema),
            digest=sealed.digest,
            training_rows=sealed.training_rows,
            holdout_rows=sealed.holdout_rows,
            manifest_id=sealed.manifest_id,
            wrapped_key=sealed.wrapped_key,
            stored_bytes=sealed.stored_bytes,
            created_by=actor.id,
        )
        session.add(version)
        session.flush()
        self._trail.append(session, _registered(actor, dataset, version))
        return version


def _registered(actor: Actor, dataset: Dataset, version: DatasetVersion) -> Event:
    return Event(
        type="dataset.registered" if version.version == 1 else "dataset.version_added",
        actor=actor.id,
        subject=f"dataset:{dataset.id}",
        project=dataset.project_id,
        data={
            "name": dataset.name,
            "version": version.version,
            "digest": version.digest,
            "training_rows": version.training_rows,
            "holdout_rows": version.holdout_rows,
            "holdout_release": version.schema["holdout"]["release"],
            "classification": dataset.classification,
            "purposes": dataset.purposes,
            "budget_epsilon": dataset.budget_epsilon,
            "budget_delta": dataset.budget_delta,
            "composition": dataset.composition,
        },
        idempotency_key=f"{dataset.id}:version:{version.version}",
    )
