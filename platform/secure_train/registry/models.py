"""Published models: their versions, and who may see, run, promote and delete them."""

from __future__ import annotations

from typing import Any, BinaryIO

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from torch import Tensor

from secure_train.audit import Event
from secure_train.blocks import BlockStore
from secure_train.db import new_id
from secure_train.db.tables import DatasetVersion, Job, Model, ModelVersion
from secure_train.db.trail import Trail
from secure_train.policy import Action, Actor, Guard, resources
from secure_train.registry import serving
from secure_train.registry.errors import NotFound, Retired
from secure_train.registry.lineage import lineage_of
from secure_train.registry.lookup import find_model, model_versions, version_of_job
from secure_train.registry.sealing import SealedWeights, seal_weights, unwrap_weights
from secure_train.registry.views import model_version_view, model_view
from secure_train.spec import EntrypointModel, job_from_json, schema_from_json
from secure_train.vault import DataKey, SealedFileVault
from secure_train.wire.models import ModelVersionView, ModelView, Prediction


class ModelService:
    """Models, for those who may. Methods that take an actor decide first, and record the decision."""

    def __init__(self, guard: Guard, trail: Trail, vault: SealedFileVault, blocks: BlockStore) -> None:
        self._guard = guard
        self._trail = trail
        self._vault = vault
        self._blocks = blocks

    def seal(
        self, job: Job, version: DatasetVersion, job_key: DataKey, manifest_id: str, digest: str
    ) -> SealedWeights:
        """Check the weights that a job hands over, and seal them under a key of their own, durably.

        To be called before the transaction that publishes: if that fails, what was sealed is garbage.

        Args:
            job: whose model it is.
            version: what the job trained on.
            job_key: seals what the job wrote.
            manifest_id, digest: of the manifest that the job wrote: one tensor for each entry of the model's
                `state_dict`, under its name.

        Raises:
            BlocksError: the weights cannot be read.
            InvalidModel: they are not those of the job's model.
        """
        weights = self._blocks.read(job_key, manifest_id, expected_digest=digest).tensors
        if not isinstance(job_from_json(job.spec).model, EntrypointModel):
            serving.load_weights(job, schema_from_json(version.schema), weights)
        return seal_weights(self._vault, self._blocks, job.project_id, weights, job.id)

    def publish(
        self,
        session: Session,
        actor: Actor,
        job: Job,
        weights: SealedWeights,
        *,
        weights_digest: str,
        metrics: dict[str, Any],
        statement: dict[str, Any],
    ) -> ModelVersion:
        """Record a job's model in the caller's transaction, which has authorised it and locked the job.

        A job publishes once: repeated, this returns the version that is there. The line of versions is named
        after the job. ``metrics`` are released values only, ``weights_digest`` is what the job handed over.
        """
        published = session.scalar(select(ModelVersion).where(ModelVersion.job_id == job.id))
        if published is not None:
            return published
        model = _line_of(session, job)
        newest = max((version.version for version in model_versions(session, model)), default=0)
        version = ModelVersion(
            model_id=model.id,
            version=newest + 1,
            job_id=job.id,
            manifest_id=weights.manifest_id,
            digest=weights.digest,
            wrapped_key=weights.wrapped_key,
            lineage=lineage_of(session, job, weights_digest),
            metrics=metrics,
            statement=statement,
            stage="candidate",
        )
        session.add(version)
        session.flush()
        data = {"job": job.id, "digest": version.digest, "lineage": version.lineage, "metrics": metrics}
        self._trail.append(session, _event("model.published", actor, model, version, data, "published"))
        return version

    def get(self, actor: Actor, reference: str) -> ModelView:
        """Show a model, given by id or ``project/name``. Raises Denied, NotFound."""
        with self._guard.transaction() as session:
            model = find_model(session, reference)
            if model is None:
                raise self._missing(session, actor, Action.MODEL_READ, reference)
            self._guard.authorize(
                session, actor, Action.MODEL_READ, resources.model(session, model, asked=reference)
            )
            return model_view(model, model_versions(session, model))

    def list(self, actor: Actor) -> list[ModelView]:
        """Show the models that the actor may read, by project and name. Raises Denied."""
        with self._guard.transaction() as session:
            self._guard.authorize(session, actor, Action.MODEL_READ, resources.catalog("models"))
            found = list(session.scalars(select(Model).order_by(Model.project_id, Model.name)))
            concerned = [resources.model(session, model) for model in found]
            seen = self._guard.visible(session, actor, Action.MODEL_READ, concerned)
            return [
                model_view(model, model_versions(session, model))
                for model, is_seen in zip(found, seen, strict=True)
                if is_seen
            ]

    def download(self, actor: Actor, reference: str, number: int) -> bytes:
        """Return a version as a zip; see `serving.bundle`. Raises Denied, NotFound, Retired."""
        with self._guard.transaction() as session:
            model, version, job = self._authorized(session, actor, Action.MODEL_DOWNLOAD, reference, number)
            schema = version_of_job(session, job).schema
            data = {"digest": version.digest}
            event = _event("model.downloaded", actor, model, version, data, new_id("download"))
            self._trail.append(session, event)
        return serving.bundle(model, version, job, schema, self._weights(model, version))

    def predict(self, actor: Actor, reference: str, number: int, rows: BinaryIO) -> Prediction:
        """Run a version on the rows of a CSV file.

        Raises Denied, NotFound, Retired, NotServed, RowErrors.
        """
        with self._guard.transaction() as session:
            model, version, job = self._authorized(session, actor, Action.MODEL_PREDICT, reference, number)
            schema = schema_from_json(version_of_job(session, job).schema)
        return serving.predict(model, version, job, schema, self._weights(model, version), rows)

    def promote(self, actor: Actor, reference: str, number: int, comment: str) -> ModelVersionView:
        """Put a version into production; the one that was there is a candidate again.

        Raises Denied, NotFound, Retired.
        """
        with self._guard.transaction() as session:
            model, version, _ = self._authorized(session, actor, Action.MODEL_PROMOTE, reference, number)
            before = [other for other in model_versions(session, model) if other.stage == "production"]
            for other in before:
                other.stage = "candidate"
            version.stage = "production"
            version.promoted_by = actor.id
            data = {
                "comment": comment,
                "replaces": [other.version for other in before],
                "digest": version.digest,
            }
            event = _event("model.promoted", actor, model, version, data, new_id("promotion"))
            self._trail.append(session, event)
            return model_version_view(model, version)

    def delete(self, actor: Actor, reference: str, number: int) -> ModelVersionView:
        """Retire a version for good: its key is destroyed with this transaction, its weights right after.

        Raises Denied, NotFound, Retired.
        """
        with self._guard.transaction() as session:
            model, version, _ = self._authorized(session, actor, Action.MODEL_DELETE, reference, number)
            data = {"stage": version.stage, "digest": version.digest}
            version.stage = "retired"
            version.wrapped_key = b""
            self._trail.append(session, _event("model.deleted", actor, model, version, data, "deleted"))
            view = model_version_view(model, version)
        self._blocks.delete_manifest(version.manifest_id)
        return view

    def _authorized(
        self, session: Session, actor: Actor, action: Action, reference: str, number: int
    ) -> tuple[Model, ModelVersion, Job]:
        asked = f"{reference}@{number}"
        model = find_model(session, reference)
        query = select(ModelVersion).with_for_update(key_share=True)
        version = None
        if model is not None:
            # Serialises changes to the line: one version at most is in production.
            session.refresh(model, with_for_update={"key_share": True})
            query = query.where(ModelVersion.model_id == model.id, ModelVersion.version == number)
            version = session.scalar(query)
        if model is None or version is None:
            raise self._missing(session, actor, action, asked)
        self._guard.authorize(session, actor, action, resources.model(session, model, version, asked))
        if version.stage == "retired":
            raise Retired(f"version {number} of {model.name!r} was deleted: its weights are gone for good")
        return model, version, session.get_one(Job, version.job_id)

    def _missing(self, session: Session, actor: Actor, action: Action, reference: str) -> NotFound:
        self._guard.authorize(session, actor, action, resources.missing("model", reference))
        return NotFound(f"there is no model {reference!r}")

    def _weights(self, model: Model, version: ModelVersion) -> dict[str, Tensor]:
        key = unwrap_weights(self._vault, model.project_id, version)
        return self._blocks.read(key, version.manifest_id, expected_digest=version.digest).tensors


def _line_of(session: Session, job: Job) -> Model:
    """The job's line of models, created if need be, and locked: versions are numbered without gaps."""
    reference = f"{job.project_id}/{job.name}"
    if find_model(session, reference) is None:
        try:
            with session.begin_nested():
                session.add(Model(id=new_id("mdl"), project_id=job.project_id, name=job.name))
        except IntegrityError:
            # Another job of this name was faster; its line is there now, or the error was a different one.
            if find_model(session, reference) is None:
                raise
    query = select(Model).where(Model.project_id == job.project_id, Model.name == job.name)
    return session.scalars(query.with_for_update(key_share=True)).one()


def _event(
    kind: str, actor: Actor, model: Model, version: ModelVersion, data: dict[str, Any], key: str
) -> Event:
    return Event(
        type=kind,
        actor=actor.id,
        subject=f"model:{model.id}",
        project=model.project_id,
        data={"name": model.name, "version": version.version, **data},
        idempotency_key=f"{model.id}:{version.version}:{key}",
    )
