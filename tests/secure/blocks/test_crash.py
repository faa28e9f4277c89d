"""Killed at any point, the store keeps what was committed, commits nothing by halves, and can be cleaned."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from secure_train.blocks import BlockStore, MissingManifest
from secure_train.vault import DataKey

WRITER = """
import os, signal, sys, threading
from pathlib import Path
import torch
from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.vault import DataKey

root, call, survived = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original, calls, lock = getattr(os, call), [0], threading.Lock()

def counted(*args, **kwargs):
    with lock:
        calls[0] += 1
        if calls[0] > survived:
            os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

setattr(os, call, counted)
tensor = torch.randn(400_000, generator=torch.Generator().manual_seed(3))
BlockStore(DirectoryBackend(root)).write(
    DataKey(bytes(range(32))), {"t": tensor}, {}, manifest_id="killed", kind="test"
)
"""


@pytest.mark.parametrize(
    ("call", "survived", "committed"),
    [
        ("fsync", 0, False),
        ("rename", 0, False),
        ("rename", 3, False),
        ("link", 0, False),
        ("unlink", 0, True),
    ],
    ids=["writing a block", "naming the first", "naming the fourth", "naming the manifest", "tidying up"],
)
def test_a_kill_leaves_the_store_readable_and_cleanable(
    store: BlockStore,
    root: Path,
    key: DataKey,
    tensors: dict[str, torch.Tensor],
    age: Callable[[], None],
    call: str,
    survived: int,
    committed: bool,
) -> None:
    before = store.write(key, tensors, {}, manifest_id="before", kind="test")
    blocks_before = {path.name for path in (root / "blocks").rglob("*") if path.is_file()}

    killed = subprocess.run([sys.executable, "-c", WRITER, root, call, str(survived)], check=False)
    assert killed.returncode == -signal.SIGKILL

    live = [(key, "before")]
    assert torch.equal(store.read(key, before).tensors["weight"], tensors["weight"])
    if committed:
        assert store.read(key, "killed").tensors["t"].shape == (400_000,)
        live.append((key, "killed"))
    else:
        with pytest.raises(MissingManifest):
            store.read(key, "killed")
    age()
    report = store.collect_garbage(live, grace=timedelta(hours=1))
    assert report.discarded_partial_files > 0
    left = {path.name for path in (root / "blocks").rglob("*") if path.is_file()}
    assert not list(root.rglob(".tmp-*"))
    assert (left == blocks_before) is not committed

    tensor = torch.randn(400_000, generator=torch.Generator().manual_seed(3))
    again = store.write(key, {"t": tensor}, {}, manifest_id="killed", kind="test")
    assert torch.equal(store.read(key, again).tensors["t"], tensor)


SHARER = """
import sys
from pathlib import Path
import torch
from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.vault import DataKey
tensor = torch.arange(600_000, dtype=torch.float32)
sys.stdin.readline()
store = BlockStore(DirectoryBackend(Path(sys.argv[1])))
print(store.write(DataKey(bytes(range(32))), {"t": tensor}, {}, manifest_id="same", kind="test").digest)
"""


def test_processes_that_commit_the_same_at_once_agree(store: BlockStore, root: Path, key: DataKey) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", SHARER, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    digests = {writer.communicate()[0].strip() for writer in writers}
    assert len(digests) == 1
    assert torch.equal(store.read(key, "same").tensors["t"], torch.arange(600_000, dtype=torch.float32))
