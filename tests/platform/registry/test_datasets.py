"""Registering datasets and opening them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from secure_train.blocks import BlockStore
from secure_train.db import Database
from secure_train.db.tables import Dataset, DatasetVersion
from secure_train.db.trail import Trail
from secure_train.policy import Denied, Guard
from secure_train.registry import AlreadyExists, NotFound, RowErrors
from secure_train.registry.budgets import BudgetService, Wish
from secure_train.registry.datasets import DatasetService
from secure_train.registry.sealing import live_manifests
from secure_train.spec import SpecErrors, schema_from_json
from secure_train.training.encoding import Split, encode, split_rows
from secure_train.vault import SealedFileVault
from secure_train.wire.data import NewDatasetVersion


def stored_rows(database: Database, table: type[Any]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_registered_dataset_can_be_opened_by_whom_the_service_grants_it(
    database: Database, datasets: DatasetService, blocks: BlockStore, census: Any
) -> None:
    view = datasets.register(census.olga, census.request(), census.csv(40))
    (version,) = view.versions
    assert (view.owner, view.task, version.version) == ("user:olga", "binary", 1)
    assert (version.training_rows, version.holdout_rows, version.features) == (30, 10, 4)
    with database.read() as session:
        _, row = datasets.resolve(session, "census", "adult")
        grant = datasets.grant(session, row)
    stored = blocks.read(grant.data_key, grant.manifest_id, expected_digest=grant.digest)
    examples = encode(
        schema_from_json(census.schema), stored.tensors, split_rows(stored.tensors, Split.TRAINING)
    )
    assert examples.features.shape == (30, 4)
    assert set(stored.tensors) == {"column/age", "column/colour", "target", "holdout"}


def test_how_well_rows_compress_is_shown_to_nobody(datasets: DatasetService, census: Any) -> None:
    """It is an exact function of the rows, and everybody in the project may look at the dataset."""
    view = datasets.register(census.olga, census.request(), census.csv(40))
    assert "bytes" not in str(view.model_dump())


def test_a_registration_is_recorded_once_with_what_it_did(
    datasets: DatasetService,
    census: Any,
    events: Callable[..., list[Any]],
    decisions: Callable[[], list[Any]],
) -> None:
    view = datasets.register(census.olga, census.request(), census.csv(40))
    (event,) = events(type="dataset.registered")
    assert (event.actor, event.subject) == ("user:olga", f"dataset:{view.id}")
    assert event.data["digest"] == view.versions[0].digest
    assert event.data["budget_epsilon"] == 8.0
    (decision,) = decisions()
    assert (decision.result, decision.action) == ("allow", "dataset:register")


def test_nothing_of_a_row_is_readable_on_disk_or_in_the_trail(
    database: Database,
    datasets: DatasetService,
    census: Any,
    events: Callable[..., list[Any]],
    stored_files: Callable[[], list[Path]],
) -> None:
    datasets.register(census.olga, census.request(), census.csv(40))
    files = stored_files()
    assert files
    for path in files:
        content = path.read_bytes()
        assert census.marker.encode() not in content
        assert b"column/colour" not in content
    assert census.marker not in str([record.body for record in events()])
    with database.read() as session:
        assert census.marker not in str([row.schema for row in session.scalars(select(DatasetVersion))])


def test_rows_that_do_not_fit_leave_nothing_but_the_decision(
    database: Database,
    datasets: DatasetService,
    census: Any,
    events: Callable[..., list[Any]],
    decisions: Callable[[], list[Any]],
    stored_files: Callable[[], list[Path]],
) -> None:
    bad = io.BytesIO(census.csv(40).getvalue() + b"old,secret,red,yes\n")
    with pytest.raises(RowErrors, match="line 42, column 'age' is not a number"):
        datasets.register(census.olga, census.request(), bad)
    assert stored_files() == []
    assert stored_rows(database, Dataset) == 0
    assert [event.type for event in events()] == ["policy.decision"]
    assert len(decisions()) == 1


def test_a_wrong_schema_is_refused_with_every_error(
    database: Database, datasets: DatasetService, census: Any
) -> None:
    wrong = {**census.schema, "columns": [{"name": "age", "kind": "numeric", "lower": 9, "upper": 1}], "x": 1}
    with pytest.raises(SpecErrors) as caught:
        datasets.register(census.olga, census.request(data_schema=wrong), census.csv())
    assert {error.path for error in caught.value.errors} == {"columns.0.upper", "x"}
    assert stored_rows(database, Dataset) == 0


@pytest.mark.parametrize("asks", ["erik", "zoe"])
def test_who_may_not_register_is_denied_before_the_rows_are_read(
    datasets: DatasetService, census: Any, asks: str, decisions: Callable[[], list[Any]]
) -> None:
    rows = census.csv()
    with pytest.raises(Denied):
        datasets.register(getattr(census, asks), census.request(), rows)
    assert rows.tell() == 0
    assert [decision.result for decision in decisions()] == ["deny"]


def test_a_missing_project_is_told_to_admins_only(datasets: DatasetService, census: Any) -> None:
    with pytest.raises(Denied):
        datasets.register(census.olga, census.request(project="nowhere"), census.csv())
    with pytest.raises(NotFound, match="nowhere"):
        datasets.register(census.root, census.request(project="nowhere"), census.csv())


def test_a_name_can_be_taken_once_in_a_project(datasets: DatasetService, census: Any) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    with pytest.raises(AlreadyExists, match="add a version"):
        datasets.register(census.olga, census.request(), census.csv())


def test_of_racing_registrations_of_one_name_exactly_one_wins(
    database: Database, datasets: DatasetService, census: Any
) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def register() -> None:
        start.wait()
        try:
            datasets.register(census.olga, census.request(), census.csv())
            outcomes.append("registered")
        except AlreadyExists:
            outcomes.append("taken")

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["registered", "taken", "taken", "taken"]
    assert stored_rows(database, DatasetVersion) == 1


def test_racing_versions_are_numbered_without_gaps(datasets: DatasetService, census: Any) -> None:
    view = datasets.register(census.olga, census.request(), census.csv())
    request = NewDatasetVersion(data_schema=census.schema, format="csv")

    def add() -> None:
        datasets.add_version(census.olga, view.id, request, census.csv(44))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = datasets.get(census.olga, "census/adult").versions
    assert [version.version for version in versions] == [1, 2, 3, 4, 5]
    assert [version.training_rows for version in versions] == [30, 33, 33, 33, 33]


def test_only_its_owner_adds_to_a_dataset(datasets: DatasetService, census: Any) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    request = NewDatasetVersion(data_schema=census.schema, format="csv")
    with pytest.raises(Denied):
        datasets.add_version(census.erik, "census/adult", request, census.csv())


def test_the_same_rows_are_sealed_under_different_keys_and_splits(
    database: Database, datasets: DatasetService, blocks: BlockStore, census: Any
) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    request = NewDatasetVersion(data_schema=census.schema, format="csv")
    datasets.add_version(census.olga, "census/adult", request, census.csv())
    with database.read() as session:
        first, second = (
            datasets.grant(session, datasets.resolve(session, "census", f"adult@{number}")[1])
            for number in (1, 2)
        )
    assert first.data_key != second.data_key
    masks = [blocks.read(grant.data_key, grant.manifest_id).tensors["holdout"] for grant in (first, second)]
    assert masks[0].sum() == masks[1].sum()
    assert not masks[0].equal(masks[1])


def test_jobs_resolve_the_newest_version_or_the_one_they_pin(
    database: Database, datasets: DatasetService, census: Any
) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    request = NewDatasetVersion(data_schema=census.schema, format="csv")
    datasets.add_version(census.olga, "census/adult", request, census.csv())
    with database.read() as session:
        assert datasets.resolve(session, "census", "adult")[1].version == 2
        assert datasets.resolve(session, "census", "adult@1")[1].version == 1
        for reference in ("adult@3", "nothing"):
            with pytest.raises(NotFound):
                datasets.resolve(session, "census", reference)
        with pytest.raises(NotFound):
            datasets.resolve(session, "other", "adult")


def test_lists_show_what_one_may_read(
    datasets: DatasetService, census: Any, decisions: Callable[[], list[Any]]
) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    assert [view.name for view in datasets.list(census.erik)] == ["adult"]
    assert datasets.list(census.zoe) == []
    assert len(decisions()) == 3


def test_a_dataset_is_found_by_id_and_by_name(datasets: DatasetService, census: Any) -> None:
    view = datasets.register(census.olga, census.request(), census.csv())
    assert datasets.get(census.erik, view.id) == datasets.get(census.erik, "census/adult")


def test_strangers_cannot_tell_a_missing_dataset_from_one_they_may_not_see(
    datasets: DatasetService, census: Any
) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    for reference in ("census/adult", "census/nothing"):
        with pytest.raises(Denied):
            datasets.get(census.zoe, reference)


def test_the_budget_starts_whole(datasets: DatasetService, census: Any, guard: Guard, audit: Trail) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    budget = BudgetService(guard, audit).show(census.erik, "census/adult", Wish())
    assert (budget.epsilon, budget.available_epsilon, budget.lines) == (8.0, 8.0, [])
    assert (budget.composition, budget.fit is not None) == ("rdp-filter", True)
    assert [(change.by, change.epsilon_after) for change in budget.changes] == [("user:olga", 8.0)]


def test_every_dataset_is_among_what_garbage_collection_must_keep(
    database: Database,
    datasets: DatasetService,
    blocks: BlockStore,
    vault: SealedFileVault,
    census: Any,
) -> None:
    datasets.register(census.olga, census.request(), census.csv())
    with database.read() as session:
        live = list(live_manifests(session, vault))
    assert {name for _, name in live} == {entry.name for entry in blocks.manifests()}
    for key, manifest_id in live:
        blocks.open(key, manifest_id)
