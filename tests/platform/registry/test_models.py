"""Publishing models and using them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors

from secure_train.blocks import BlockStore, MissingManifest, WrongDigest
from secure_train.db import Database, new_id
from secure_train.db.tables import BudgetReservation, DatasetVersion, Job, ModelVersion, Principal
from secure_train.policy import Actor, Denied
from secure_train.registry import InvalidModel, NotFound, NotServed, Retired, RowErrors, serving
from secure_train.registry.datasets import DatasetService
from secure_train.registry.models import ModelService
from secure_train.registry.sealing import live_manifests
from secure_train.spec import job_from_json, schema_from_json
from secure_train.training.encoding import encode_features
from secure_train.training.models import build_model
from secure_train.training.tasks import task_of
from secure_train.vault import DataKey, KeyContext, SealedFileVault

MLP = {"kind": "mlp", "hidden": [4]}
STATEMENT = {"epsilon": 3.0}


@dataclass
class Publisher:
    """Takes the place of the workers: trains nothing, hands weights over as they do, and publishes them."""

    database: Database
    datasets: DatasetService
    models: ModelService
    vault: SealedFileVault
    blocks: BlockStore
    rows: Any
    submitter: Actor

    def job(self, model: dict[str, Any] = MLP, **values: Any) -> tuple[Job, DataKey]:
        """A running job of erik's on the registered dataset."""
        spec = {
            "apiVersion": "secure-train/v1",
            "kind": "TrainingJob",
            "metadata": {"name": "income", "project": "census", "purpose": "income-statistics"},
            "data": {"dataset": "adult"},
            "model": model,
            "privacy": {"epsilon": 3.0, "delta": 1e-5},
            "training": {"batchSize": 8, "steps": 5, "optimizer": {"kind": "adam", "learningRate": 0.01}},
        }
        job_id = new_id("job")
        key, wrapped = self.vault.new_data_key(KeyContext("census", job_id, "job"))
        with self.database.write() as session:
            dataset, _ = self.datasets.resolve(session, "census", "adult")
            submitter = session.get_one(Principal, self.submitter.id)
            job = self.rows.job(
                session,
                dataset,
                submitter,
                id=job_id,
                spec=spec,
                wrapped_key=wrapped.to_bytes(),
                state="running",
                **values,
            )
            session.add(
                BudgetReservation(
                    job_id=job.id,
                    dataset_id=dataset.id,
                    epsilon=3.0,
                    delta=1e-5,
                    spent_epsilon=2.5,
                    events=[],
                    spent_events=[],
                )
            )
        return job, key

    def weights(self, job: Job) -> dict[str, torch.Tensor]:
        """Weights of the job's model; different for each job."""
        seed = int.from_bytes(job.id.encode()[-4:], "big")
        return build_model(job_from_json(job.spec).model, 4, 1, seed).state_dict()

    def hand_over(self, job: Job, key: DataKey, weights: dict[str, torch.Tensor]) -> tuple[str, str]:
        """Seal weights as a worker does."""
        manifest_id = f"{job.id}/final"
        ref = self.blocks.write(key, weights, {}, manifest_id=manifest_id, kind="model")
        return manifest_id, ref.digest

    def publish(self, job: Job, key: DataKey, weights: dict[str, torch.Tensor]) -> ModelVersion:
        """Do what the control plane does with what was handed over."""
        manifest_id, digest = self.hand_over(job, key, weights)
        with self.database.read() as session:
            version = session.get_one(DatasetVersion, (job.dataset_id, job.dataset_version))
        sealed = self.models.seal(job, version, key, manifest_id, digest)
        with self.database.write() as session:
            return self.models.publish(
                session,
                self.submitter,
                session.get_one(Job, job.id),
                sealed,
                weights_digest=digest,
                metrics={"accuracy": 0.85},
                statement=STATEMENT,
            )

    def published(self, **values: Any) -> tuple[Job, dict[str, torch.Tensor]]:
        """Publish a new job's model."""
        job, key = self.job(**values)
        weights = self.weights(job)
        self.publish(job, key, weights)
        return job, weights


@pytest.fixture
def publisher(
    database: Database,
    datasets: DatasetService,
    models: ModelService,
    vault: SealedFileVault,
    blocks: BlockStore,
    rows: Any,
    census: Any,
) -> Publisher:
    datasets.register(census.olga, census.request(), census.csv())
    return Publisher(database, datasets, models, vault, blocks, rows, census.erik)


def rows_without_target(count: int = 5) -> io.BytesIO:
    lines = ["colour,age"] + [f"{('red', 'green', 'blue')[n % 3]},{20 + n}" for n in range(count)]
    return io.BytesIO("\n".join(lines).encode())


def test_a_published_model_tells_where_it_came_from(
    models: ModelService, census: Any, publisher: Publisher, events: Callable[..., list[Any]]
) -> None:
    job, _ = publisher.published()
    view = models.get(census.mia, "census/income")
    (version,) = view.versions
    assert (version.version, version.stage, version.job_id) == (1, "candidate", job.id)
    assert version.statement == STATEMENT
    assert version.metrics == {"accuracy": 0.85}
    assert version.lineage["job"]["submitted_by"] == "user:erik"
    assert version.lineage["dataset"]["name"] == "adult"
    assert len(version.lineage["dataset"]["digest"]) == 64
    assert version.lineage["privacy"] == {"epsilon_spent": 2.5, "delta_spent": 0.0}
    (event,) = events(type="model.published")
    assert (event.subject, event.data["digest"]) == (f"model:{view.id}", version.digest)


def test_publishing_twice_is_publishing_once(
    models: ModelService, census: Any, publisher: Publisher, events: Callable[..., list[Any]]
) -> None:
    job, key = publisher.job()
    first = publisher.publish(job, key, publisher.weights(job))
    again = publisher.publish(job, key, publisher.weights(job))
    assert (first.version, first.manifest_id) == (again.version, again.manifest_id)
    assert len(models.get(census.mia, "census/income").versions) == 1
    assert len(events(type="model.published")) == 1


def test_jobs_of_one_name_form_one_line_of_versions(
    models: ModelService, census: Any, publisher: Publisher
) -> None:
    publisher.published()
    publisher.published()
    versions = models.get(census.mia, "census/income").versions
    assert [version.version for version in versions] == [1, 2]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weights: weights.pop("0.weight"),
        lambda weights: weights.update(extra=torch.zeros(1)),
        lambda weights: weights.update({"0.weight": torch.zeros(4, 5)}),
        lambda weights: weights.update({"0.weight": weights["0.weight"].double()}),
    ],
)
def test_weights_that_are_not_the_jobs_model_are_not_published(
    publisher: Publisher, spoil: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    job, key = publisher.job()
    weights = publisher.weights(job)
    spoil(weights)
    with pytest.raises(InvalidModel, match=r"0\.weight|extra"):
        publisher.publish(job, key, weights)


def test_weights_are_pinned_by_the_digest_that_the_job_reported(
    database: Database, models: ModelService, publisher: Publisher
) -> None:
    job, key = publisher.job()
    manifest_id, _ = publisher.hand_over(job, key, publisher.weights(job))
    with database.read() as session:
        version = session.get_one(DatasetVersion, (job.dataset_id, job.dataset_version))
    with pytest.raises(WrongDigest):
        models.seal(job, version, key, manifest_id, "0" * 64)


def test_predictions_are_those_of_the_model(models: ModelService, census: Any, publisher: Publisher) -> None:
    job, weights = publisher.published()
    prediction = models.predict(census.mia, "census/income", 1, rows_without_target())
    module = build_model(job_from_json(job.spec).model, 4, 1, seed=0)
    module.load_state_dict(weights)
    schema = schema_from_json(census.schema)
    columns = {
        "column/age": torch.tensor([20.0, 21, 22, 23, 24], dtype=torch.float64),
        "column/colour": torch.tensor([0, 1, 2, 0, 1], dtype=torch.int32),
    }
    with torch.no_grad():
        expected = task_of(schema).predictions(module(encode_features(schema, columns)))
    assert prediction.columns == ["no", "yes"]
    assert torch.allclose(torch.tensor(prediction.rows, dtype=torch.float64), expected)
    assert prediction.labels == [prediction.columns[int(row[1] > row[0])] for row in prediction.rows]


def test_wide_rows_are_predicted_a_bounded_piece_at_a_time(
    models: ModelService, census: Any, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.published()
    whole = models.predict(census.mia, "census/income", 1, rows_without_target(5))
    sizes = []

    def encode(schema: Any, columns: dict[str, torch.Tensor]) -> torch.Tensor:
        sizes.append(len(columns["column/age"]))
        return encode_features(schema, columns)

    monkeypatch.setattr(serving, "BATCH_VALUES", 8)
    monkeypatch.setattr(serving, "encode_features", encode)
    pieces = models.predict(census.mia, "census/income", 1, rows_without_target(5))
    assert torch.allclose(torch.tensor(pieces.rows), torch.tensor(whole.rows))
    assert sizes == [2, 2, 1]


def test_rows_that_do_not_fit_are_not_predicted(
    models: ModelService, census: Any, publisher: Publisher
) -> None:
    publisher.published()
    with pytest.raises(RowErrors, match="line 2, column 'colour'"):
        models.predict(census.mia, "census/income", 1, io.BytesIO(b"colour,age\npink,3\n"))


def test_an_authors_own_code_never_runs_in_the_control_plane(
    models: ModelService, census: Any, publisher: Publisher
) -> None:
    model = {"kind": "entrypoint", "entrypoint": "model:build"}
    job, key = publisher.job(model=model, code_digest="1" * 64)
    publisher.publish(job, key, {"anything": torch.zeros(2)})
    with pytest.raises(NotServed, match="models download"):
        models.predict(census.mia, "census/income", 1, rows_without_target())
    packed = models.download(census.mia, "census/income", 1)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert set(load_safetensors(archive.read("model.safetensors"))) == {"anything"}


def test_a_diverged_model_says_so_instead_of_answering(
    models: ModelService, census: Any, publisher: Publisher
) -> None:
    job, key = publisher.job()
    weights = publisher.weights(job)
    weights["0.weight"] = torch.full_like(weights["0.weight"], float("nan"))
    publisher.publish(job, key, weights)
    with pytest.raises(NotServed, match="diverged"):
        models.predict(census.mia, "census/income", 1, rows_without_target())


def test_a_download_holds_weights_and_everything_to_check_them_by(
    models: ModelService, census: Any, publisher: Publisher, events: Callable[..., list[Any]]
) -> None:
    job, weights = publisher.published()
    packed = models.download(census.mia, "census/income", 1)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["model.safetensors", "model.json"]
        loaded = load_safetensors(archive.read("model.safetensors"))
        about = json.loads(archive.read("model.json"))
    assert all(torch.equal(weights[name], loaded[name]) for name in weights)
    assert (about["spec"], about["statement"]) == (job.spec, STATEMENT)
    assert schema_from_json(about["schema"]).encoded_width() == 4
    assert about["lineage"]["job"]["id"] == job.id
    assert packed == models.download(census.mia, "census/income", 1)
    assert [event.actor for event in events(type="model.downloaded")] == ["user:mia"] * 2


def test_who_submitted_the_job_may_not_promote_its_model(
    models: ModelService, census: Any, publisher: Publisher
) -> None:
    publisher.published()
    with pytest.raises(Denied) as caught:
        models.promote(census.erik, "census/income", 1, "")
    assert caught.value.decision.reason == "own-model-not-promoted"
    assert models.promote(census.mia, "census/income", 1, "fine").promoted_by == "user:mia"


def test_one_version_at_most_is_in_production(
    models: ModelService, census: Any, publisher: Publisher, events: Callable[..., list[Any]]
) -> None:
    publisher.published()
    publisher.published()
    models.promote(census.mia, "census/income", 1, "")
    models.promote(census.mia, "census/income", 2, "better")
    view = models.get(census.mia, "census/income")
    assert [version.stage for version in view.versions] == ["candidate", "production"]
    assert [event.data["replaces"] for event in events(type="model.promoted")] == [[], [1]]


def test_a_deleted_version_is_gone_for_good(
    database: Database,
    models: ModelService,
    vault: SealedFileVault,
    blocks: BlockStore,
    census: Any,
    publisher: Publisher,
    events: Callable[..., list[Any]],
) -> None:
    publisher.published()
    with database.read() as session:
        kept = {name: key for key, name in live_manifests(session, vault)}
        row = session.get_one(ModelVersion, (models.get(census.mia, "census/income").id, 1))
    assert models.delete(census.olga, "census/income", 1).stage == "retired"
    with pytest.raises(MissingManifest):
        blocks.open(kept[row.manifest_id], row.manifest_id)
    with database.read() as session:
        assert session.get_one(ModelVersion, (row.model_id, 1)).wrapped_key == b""
        assert row.manifest_id not in {name for _, name in live_manifests(session, vault)}
    for use in (models.download, models.delete):
        with pytest.raises(Retired):
            use(census.olga if use == models.delete else census.mia, "census/income", 1)
    assert [event.data["version"] for event in events(type="model.deleted")] == [1]


def test_strangers_see_no_model_and_may_not_use_one(
    models: ModelService, census: Any, publisher: Publisher
) -> None:
    publisher.published()
    assert models.list(census.zoe) == []
    assert [view.name for view in models.list(census.mia)] == ["income"]
    for reference in ("census/income", "census/nothing"):
        with pytest.raises(Denied):
            models.get(census.zoe, reference)
        with pytest.raises(Denied):
            models.predict(census.zoe, reference, 1, rows_without_target())
    with pytest.raises(NotFound):
        models.get(census.root, "census/nothing")


def test_every_request_leaves_exactly_one_decision(
    models: ModelService, census: Any, publisher: Publisher, decisions: Callable[[], list[Any]]
) -> None:
    publisher.published()
    requests: list[Callable[[], object]] = [
        lambda: models.get(census.mia, "census/income"),
        lambda: models.list(census.mia),
        lambda: models.download(census.mia, "census/income", 1),
        lambda: models.predict(census.mia, "census/income", 1, rows_without_target()),
        lambda: models.promote(census.mia, "census/income", 1, ""),
        lambda: models.delete(census.olga, "census/income", 1),
    ]
    for request in requests:
        before = len(decisions())
        request()
        assert len(decisions()) == before + 1
    for refused in (
        lambda: models.get(census.zoe, "census/income"),
        lambda: models.get(census.root, "census/nothing"),
        lambda: models.download(census.root, "census/income", 9),
        lambda: models.download(census.root, "census/income", 1),
    ):
        before = len(decisions())
        with pytest.raises((Denied, NotFound, Retired)):
            refused()
        assert len(decisions()) == before + 1
