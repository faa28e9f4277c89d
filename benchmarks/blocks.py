"""How fast the block store writes and reads, and how much it saves on the checkpoints of a real training run.

A small network learns a function from random points by SGD with momentum: random initial weights, gradients
from data, so that mantissas are as noisy as in any training run. Every few steps model and optimizer are
stored. One variant trains all layers, the other only the last one (fine-tuning), where most blocks repeat
from checkpoint to checkpoint.

Run ``python benchmarks/blocks.py [--quick] [-o json]``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.blocks.cipher import BLOCK_BYTES
from secure_train.blocks.codec import compress
from secure_train.blocks.dtypes import to_bytes
from secure_train.vault import DataKey

Tensors = dict[str, torch.Tensor]


def checkpoints(width: int, count: int, *, only_last_layer: bool) -> Iterator[Tensors]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 10),
    )
    trained = list((model[-1] if only_last_layer else model).parameters())
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    for _ in range(count):
        for _ in range(5):
            points = torch.randn(64, 64)
            labels = points[:, :10].square().argmax(dim=1)
            optimizer.zero_grad()
            torch.autograd.backward(torch.nn.functional.cross_entropy(model(points), labels))
            optimizer.step()
        moments = {
            f"momentum.{index}": optimizer.state[parameter]["momentum_buffer"]
            for index, parameter in enumerate(trained)
        }
        yield {name: tensor.clone() for name, tensor in (model.state_dict() | moments).items()}


def throughput(megabytes: int) -> dict[str, float]:
    tensors = {"weights": torch.randn(megabytes * 250_000)}
    key = DataKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        store = BlockStore(DirectoryBackend(Path(folder)))
        start = time.perf_counter()
        store.write(key, tensors, {}, manifest_id="first", kind="benchmark")
        written = time.perf_counter()
        store.write(key, tensors, {}, manifest_id="again", kind="benchmark")
        repeated = time.perf_counter()
        store.read(key, "first")
        read = time.perf_counter()
    return {
        "write_mb_per_s": megabytes / (written - start),
        "write_unchanged_mb_per_s": megabytes / (repeated - written),
        "read_mb_per_s": megabytes / (read - repeated),
    }


def compressed_ratio(tensors: Tensors, *, shuffle: bool) -> float:
    stored = logical = 0
    for tensor in tensors.values():
        plain = to_bytes(tensor).tobytes()
        for start in range(0, len(plain), BLOCK_BYTES):
            block = plain[start : start + BLOCK_BYTES]
            stored += len(compress(block, tensor.dtype.itemsize if shuffle else 1)[1])
            logical += len(block)
    return stored / logical


def series_ratio(width: int, count: int, *, only_last_layer: bool) -> float:
    key = DataKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        store = BlockStore(DirectoryBackend(Path(folder)))
        refs = [
            store.write(key, tensors, {"step": step}, manifest_id=f"step-{step}", kind="checkpoint")
            for step, tensors in enumerate(checkpoints(width, count, only_last_layer=only_last_layer))
        ]
    return sum(ref.stored_bytes for ref in refs) / sum(ref.logical_bytes for ref in refs)


def measure(quick: bool) -> dict[str, float]:
    width, count = (512, 3) if quick else (1536, 8)
    last = list(checkpoints(width, count, only_last_layer=False))[-1]
    half = {name: tensor.to(torch.bfloat16) for name, tensor in last.items()}
    return {
        **throughput(16 if quick else 256),
        "compressed_ratio_f32_plain": compressed_ratio(last, shuffle=False),
        "compressed_ratio_f32_shuffled": compressed_ratio(last, shuffle=True),
        "compressed_ratio_bf16_plain": compressed_ratio(half, shuffle=False),
        "compressed_ratio_bf16_shuffled": compressed_ratio(half, shuffle=True),
        "series_ratio_all_layers_trained": series_ratio(width, count, only_last_layer=False),
        "series_ratio_last_layer_trained": series_ratio(width, count, only_last_layer=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds, rougher figures")
    parser.add_argument("-o", choices=["text", "json"], default="text", help="json: only the last line")
    arguments = parser.parse_args()
    figures = {name: round(value, 4) for name, value in measure(arguments.quick).items()}
    if arguments.o == "text":
        for name, value in figures.items():
            print(f"{name:35} {value:10.3f}")
    sys.stdout.write(json.dumps({"benchmark": "blocks", "quick": arguments.quick, "figures": figures}) + "\n")


if __name__ == "__main__":
    main()
