"""Collection removes what nobody needs and nothing that anybody could."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from secure_train.blocks import (
    BlockStore,
    BlocksVanished,
    CorruptManifest,
    DirectoryBackend,
    GarbageReport,
    GraceTooShort,
    MissingManifest,
    UnlistedManifests,
)
from secure_train.vault import DataKey

HOUR = timedelta(hours=1)
Age = Callable[[], None]


def write(store: BlockStore, key: DataKey, manifest_id: str, *values: int) -> None:
    tensors = {f"t{value}": torch.full((100,), value) for value in values}
    store.write(key, tensors, {}, manifest_id=manifest_id, kind="test")


def values(store: BlockStore, key: DataKey, manifest_id: str) -> set[int]:
    return {int(tensor[0]) for tensor in store.read(key, manifest_id).tensors.values()}


def test_only_old_unreferenced_blocks_are_deleted(store: BlockStore, key: DataKey, age: Age) -> None:
    write(store, key, "a", 1, 2)
    write(store, key, "b", 2, 3)
    store.delete_manifest("a")
    age()
    write(store, key, "c", 4)
    store.delete_manifest("c")
    report = store.collect_garbage([(key, "b")], grace=HOUR)
    assert (report.live_blocks, report.deleted_blocks, report.young_blocks) == (2, 1, 1)
    assert report.deleted_bytes > 0
    assert values(store, key, "b") == {2, 3}


def test_a_dry_run_reports_the_same_and_deletes_nothing(
    store: BlockStore, root: Path, key: DataKey, age: Age
) -> None:
    write(store, key, "a", 1, 2)
    write(store, key, "b", 3)
    store.delete_manifest("a")
    age()
    before = sorted(root.rglob("*"))
    planned = store.collect_garbage([(key, "b")], grace=HOUR, dry_run=True)
    assert sorted(root.rglob("*")) == before
    done = store.collect_garbage([(key, "b")], grace=HOUR)
    assert planned == GarbageReport(
        True, done.live_blocks, done.young_blocks, done.deleted_blocks, done.deleted_bytes, 0
    )
    assert done.deleted_blocks == 2


def test_blocks_of_several_keys_are_kept_side_by_side(store: BlockStore, key: DataKey, age: Age) -> None:
    other = DataKey.generate()
    write(store, key, "a", 1)
    write(store, other, "b", 1)
    age()
    report = store.collect_garbage([(key, "a"), (other, "b")], grace=HOUR)
    assert (report.live_blocks, report.deleted_blocks) == (2, 0)


def test_a_stored_manifest_that_is_not_named_as_live_stops_the_collection(
    store: BlockStore, key: DataKey, age: Age
) -> None:
    write(store, key, "a", 1)
    write(store, key, "forgotten", 2)
    age()
    with pytest.raises(UnlistedManifests, match="forgotten"):
        store.collect_garbage([(key, "a")], grace=HOUR)
    assert values(store, key, "forgotten") == {2}


def test_a_manifest_committed_after_the_list_was_made_survives(
    store: BlockStore, key: DataKey, age: Age
) -> None:
    write(store, key, "a", 1)
    age()
    write(store, key, "new", 2)
    store.collect_garbage([(key, "a")], grace=HOUR)
    assert values(store, key, "new") == {2}


def test_a_live_manifest_that_can_not_be_read_stops_the_collection(
    store: BlockStore, root: Path, key: DataKey, age: Age
) -> None:
    write(store, key, "a", 1)
    write(store, key, "b", 2)
    store.delete_manifest("b")
    age()
    blocks = sorted((root / "blocks").rglob("*"))
    with pytest.raises(MissingManifest):
        store.collect_garbage([(key, "b")], grace=HOUR)
    (root / "manifests" / "a").write_bytes((root / "manifests" / "a").read_bytes()[:-1])
    with pytest.raises(CorruptManifest):
        store.collect_garbage([(key, "a")], grace=HOUR)
    assert sorted((root / "blocks").rglob("*")) == blocks


def test_a_grace_shorter_than_a_write_may_take_is_refused(store: BlockStore) -> None:
    with pytest.raises(GraceTooShort):
        store.collect_garbage([], grace=timedelta(minutes=9))


def test_touching_saves_a_block_that_was_listed_as_old(backend: DirectoryBackend, age: Age) -> None:
    """What a write does to a block that it found stored, just when a collection is about to delete it."""
    backend.put("blocks/aa/aa", b"old")
    backend.put("blocks/bb/bb", b"old")
    age()
    cutoff = time.time() - 3600
    assert backend.touch("blocks/aa/aa")
    assert not backend.delete_older("blocks/aa/aa", cutoff)
    assert backend.delete_older("blocks/bb/bb", cutoff)
    assert backend.get("blocks/aa/aa") == b"old"
    assert not backend.touch("blocks/bb/bb")


class Interrupted(DirectoryBackend):
    """Lets something happen between the blocks of a write and its manifest."""

    def __init__(self, path: Path, happening: Callable[[Collection[str]], None]) -> None:
        super().__init__(path)
        self.happening = happening

    def settle(self, names: Collection[str]) -> frozenset[str]:
        self.happening(names)
        return super().settle(names)


def test_a_collection_during_a_write_deletes_nothing_that_the_write_relies_on(
    store: BlockStore, root: Path, key: DataKey, age: Age
) -> None:
    write(store, key, "a", 1)
    write(store, key, "z", 9)
    store.delete_manifest("a")
    age()
    reports = []
    concurrent = BlockStore(
        Interrupted(root, lambda _: reports.append(store.collect_garbage([(key, "z")], grace=HOUR)))
    )
    write(concurrent, key, "b", 1, 2)
    assert reports[0].deleted_blocks == 0
    assert values(store, key, "b") == {1, 2}


def test_a_write_whose_blocks_vanish_commits_nothing(store: BlockStore, root: Path, key: DataKey) -> None:
    def lose_one(names: Collection[str]) -> None:
        (root / sorted(names)[0]).unlink()

    with pytest.raises(BlocksVanished, match="1 block"):
        write(BlockStore(Interrupted(root, lose_one)), key, "a", 1, 2)
    assert list(store.manifests()) == []
    write(store, key, "a", 1, 2)
    assert values(store, key, "a") == {1, 2}


class StoreMachine(RuleBasedStateMachine):
    """Any order of writes, deletions, ageing and collections leaves every live manifest readable."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.backend = DirectoryBackend(Path(self.folder.name))
        self.store = BlockStore(self.backend)
        self.keys = [DataKey(bytes([n]) * 32) for n in range(2)]
        self.live: dict[str, tuple[DataKey, set[int]]] = {}
        self.count = 0

    @rule(key=st.integers(0, 1), contents=st.sets(st.integers(0, 4), max_size=3))
    def write(self, key: int, contents: set[int]) -> None:
        self.count += 1
        write(self.store, self.keys[key], f"m{self.count}", *contents)
        self.live[f"m{self.count}"] = (self.keys[key], contents)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.live:
            manifest_id = data.draw(st.sampled_from(sorted(self.live)))
            assert self.store.delete_manifest(manifest_id)
            del self.live[manifest_id]

    @rule()
    def collect_after_two_hours(self) -> None:
        then = time.time() - 7200
        for path in Path(self.folder.name).rglob("*"):
            os.utime(path, (then, then))
        report = self.store.collect_garbage([(key, name) for name, (key, _) in self.live.items()], grace=HOUR)
        needed = {(key.reveal(), value) for key, contents in self.live.values() for value in contents}
        assert report.live_blocks == len(needed) == len(list(self.backend.list("blocks")))

    @rule()
    def collect_now(self) -> None:
        report = self.store.collect_garbage([(key, name) for name, (key, _) in self.live.items()], grace=HOUR)
        assert report.deleted_blocks == 0

    @invariant()
    def all_live_manifests_are_readable(self) -> None:
        for name, (key, contents) in self.live.items():
            assert values(self.store, key, name) == contents

    def teardown(self) -> None:
        self.folder.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
