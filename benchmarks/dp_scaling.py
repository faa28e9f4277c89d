"""How private steps scale over data-parallel workers: measured with 1 and 2, predicted for more.

Weak scaling keeps each worker's batch, strong scaling the logical batch. Workers are processes of one thread
on gloo, so that two of them do not share cores on a machine that has two.

The model behind the prediction: workers compute without waiting for each other for t seconds a step, then
sum their noised gradients once in a ring, each sending and receiving 2·(W-1)/W·4·P bytes for P parameters.
Nothing overlaps: with flat clipping, no record's gradient can be scaled before all its layers are known. So
efficiency is t / (t + 2·(W-1)/W·4·P / bandwidth + (W-1)·2·latency). The private step sends exactly what
ordinary data-parallel training sends; noise adds no bytes.

Predictions take t, P and the links from `--gpu-*`; the defaults are 92 million parameters, a step of 100 ms,
and the datasheet rates of NVLink within a node of 8 and of 400 Gb/s InfiniBand between nodes.

Run ``python benchmarks/dp_scaling.py [--quick] [-o json]``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed
from torch.multiprocessing.spawn import spawn

from peers.rows import ON_CPU, losses
from secure_train.dp import GaussianNoise, PerformanceFlags, PrivacySpec, PrivateStep, sum_over_workers

ROW = ON_CPU["mlp"]
BYTES_PER_VALUE = 4
PREDICTED = (8, 64, 1024)
GPUS_A_NODE = 8


def work(rank: int, workers: int, batch: int, rounds: int, folder: str) -> None:
    """One worker: `rounds` steps of `batch` records; rank 0 writes the median seconds of a step."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=workers
    )
    model = ROW.build()
    private = PrivateStep(
        model,
        torch.optim.SGD(model.parameters(), lr=1e-3),
        losses,
        PrivacySpec(noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=batch * workers),
        GaussianNoise(bytes(range(32)), rank, workers),
        PerformanceFlags(physical_batch_size=batch),
        all_reduce=sum_over_workers() if workers > 1 else None,
    )
    seconds = []
    for step in range(rounds + 2):
        records = ROW.batch(batch)
        torch.distributed.barrier()
        start = time.perf_counter()
        private.step(records, epoch=0, step=step)
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        (Path(folder) / "seconds").write_text(str(statistics.median(seconds[2:])))
    torch.distributed.destroy_process_group()


def seconds_a_step(workers: int, batch: int, rounds: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        spawn(work, (workers, batch, rounds, folder), nprocs=workers)  # type: ignore[no-untyped-call]
        return float((Path(folder) / "seconds").read_text())


def predicted(
    parameters: int, compute: float, workers: int, in_node: float, between: float, wait: float
) -> float:
    """Weak-scaling efficiency of a ring over `workers` GPUs; its slowest link decides."""
    bandwidth = in_node if workers <= GPUS_A_NODE else between
    sent = 2 * (workers - 1) / workers * BYTES_PER_VALUE * parameters
    return compute / (compute + sent / bandwidth + 2 * (workers - 1) * wait)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer steps, rougher figures")
    parser.add_argument("-o", choices=["text", "json"], default="text", help="json: only the last line")
    parser.add_argument("--gpu-parameters", type=float, default=92e6)
    parser.add_argument("--gpu-step-ms", type=float, default=100.0)
    parser.add_argument("--gpu-node-gbps", type=float, default=330.0, help="GB/s of a ring within a node")
    parser.add_argument("--gpu-network-gbps", type=float, default=50.0, help="GB/s a GPU between nodes")
    parser.add_argument("--gpu-latency-us", type=float, default=5.0, help="of one message")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    batch, rounds = ROW.records, 5 if arguments.quick else 20
    one = seconds_a_step(1, batch, rounds)
    weak = seconds_a_step(2, batch, rounds)
    strong = seconds_a_step(2, batch // 2, rounds)
    size = sum(parameter.numel() for parameter in ROW.build().parameters())
    figures = {
        "one_worker_ms": 1e3 * one,
        "two_workers_weak_ms": 1e3 * weak,
        "two_workers_strong_ms": 1e3 * strong,
        "weak_efficiency_2": one / weak,
        "strong_speedup_2": one / strong,
        "sent_per_worker_mib_2": BYTES_PER_VALUE * size / 2**20,
    }
    for workers in PREDICTED:
        figures[f"predicted_weak_efficiency_{workers}"] = predicted(
            arguments.gpu_parameters,
            arguments.gpu_step_ms / 1e3,
            workers,
            arguments.gpu_node_gbps * 1e9,
            arguments.gpu_network_gbps * 1e9,
            arguments.gpu_latency_us / 1e6,
        )
    figures = {name: round(value, 4) for name, value in figures.items()}
    if arguments.o == "text":
        for name, value in figures.items():
            print(f"{name:34} {value:10.3f}")
    sys.stdout.write(
        json.dumps({"benchmark": "dp_scaling", "quick": arguments.quick, "figures": figures}) + "\n"
    )


if __name__ == "__main__":
    main()
