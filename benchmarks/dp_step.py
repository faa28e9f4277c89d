"""What a private step costs: ours, plain SGD, and every peer that runs the model, side by side in one run.

Time: the engines of a row take turns, step by step, so that whatever else the machine does hits all of them;
the medians are compared. Memory: each engine runs alone in a process of its own, which reports its peak above
what it held after a step of a tiny model (resident memory on Linux, allocated memory on CUDA).

`<row>.ours_over_plain` and `<row>.memory_over_plain` say what privacy costs, `<row>.best_peer_over_ours` how
much faster ours is than the fastest peer. A peer that cannot run a row is named with its error.

Run ``python benchmarks/dp_step.py [--quick] [--rows mlp,cnn] [-o json]``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch

from peers import engines
from peers.rows import ON_CPU, ON_GPU, SMALL, Batch, Row

DEVICE = torch.device(os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
ROWS = ON_GPU if DEVICE.type == "cuda" else ON_CPU


def seconds(row: Row, quick: bool) -> tuple[dict[str, float], dict[str, str]]:
    """Median seconds a step by engine, and why others could not take part."""
    steps, absent = {}, {}
    for name in engines.ENGINES:
        try:
            steps[name] = engines.start(name, row, DEVICE)
            steps[name](batch_of(row))
        except Exception as error:
            if name in ("plain", "ours"):
                raise
            steps.pop(name, None)
            absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
    times: dict[str, list[float]] = {name: [] for name in steps}
    warm_up, rounds = (1, 5) if quick else (3, 25)
    for turn in range(warm_up + rounds):
        batch = batch_of(row)
        for name, step in steps.items():
            synchronise()
            start = time.perf_counter()
            step(batch)
            synchronise()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}, absent


def batch_of(row: Row) -> Batch:
    inputs, targets = row.batch(row.records)
    return inputs.to(DEVICE), targets.to(DEVICE)


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def peak_bytes(row: Row, engine: str) -> int:
    """The peak of three steps above what the process held before; of this process, so call it once in one."""
    batch = batch_of(row)
    # Threads and libraries take their memory at the first product; that is not the engine's.
    engines.start(engine, SMALL, DEVICE)(batch_of(SMALL))
    gc.collect()
    before = forget_peak()
    step = engines.start(engine, row, DEVICE)
    for _ in range(3):
        step(batch)
    return peak() - before


def forget_peak() -> int:
    """Make the peak what is held now, and say how much that is."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    return peak()


def peak() -> int:
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def peak_in_own_process(name: str, engine: str) -> int:
    command = [sys.executable, str(Path(__file__)), "--memory-of", name, engine]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(answer.stdout.splitlines()[-1])


def measure(name: str, quick: bool) -> tuple[dict[str, float], dict[str, str]]:
    row = ROWS[name]
    median, absent = seconds(row, quick)
    figures = {f"{engine}_ms": 1e3 * value for engine, value in median.items()}
    best = min((value, peer) for peer, value in median.items() if peer in engines.PEERS)
    figures["ours_over_plain"] = median["ours"] / median["plain"]
    figures["best_peer_over_ours"] = best[0] / median["ours"]
    memory = {engine: peak_in_own_process(name, engine) for engine in ("plain", "ours", best[1])}
    figures["plain_mib"] = memory["plain"] / 2**20
    figures["ours_mib"] = memory["ours"] / 2**20
    figures[f"{best[1]}_mib"] = memory[best[1]] / 2**20
    figures["memory_over_plain"] = memory["ours"] / memory["plain"]
    return {f"{name}.{key}": round(value, 4) for key, value in figures.items()}, absent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, rougher figures")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("-o", choices=["text", "json"], default="text", help="json: only the last line")
    parser.add_argument("--memory-of", nargs=2, metavar=("ROW", "ENGINE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Torch and Opacus remark on hooks at the first layer of every model.
    warnings.simplefilter("ignore")
    if arguments.memory_of:
        name, engine = arguments.memory_of
        print(peak_bytes(ROWS[name], engine))
        return
    figures: dict[str, float] = {}
    absent: dict[str, dict[str, str]] = {}
    for name in arguments.rows.split(","):
        found, missing = measure(name, arguments.quick)
        figures |= found
        if missing:
            absent[name] = missing
        if arguments.o == "text":
            for key, value in found.items():
                print(f"{key:32} {value:10.3f}", flush=True)
            for engine, why in missing.items():
                print(f"{name}.{engine:25} cannot: {why}", flush=True)
    result = {
        "benchmark": "dp_step",
        "quick": arguments.quick,
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "figures": figures,
        "absent": absent,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
