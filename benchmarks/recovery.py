"""How long a job stands still after a kill -9, and what checkpoints cost while nothing goes wrong.

Recovery: seconds from SIGKILL of a worker, or of the driver, to the first new step of the group that
replaces it, as the control plane hears of it. Overhead: time per step with a charge and a checkpoint every
25 steps, over time per step with one charge and one checkpoint in all; both run in turns on the same stack.
The first such run also has the accountant compose every number of steps for the first time; it counts on its
own.

Run ``python benchmarks/recovery.py [--quick] [-o json]``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from rig import Stack, small_job, throw_away_stack
from secure_train.wire.jobs import JobDetail

ROWS = 32_561
ENDLESS_STEPS, MEASURED_STEPS = 100_000, 1_000
CHECKPOINT_EVERY = 25
# The demo's model and batch.
REALISTIC: dict[str, Any] = {
    "model": {"kind": "mlp", "hidden": [32], "activation": "tanh"},
    "resources": {"workers": 2},
}
BATCHES = {"batchSize": 1024, "physicalBatchSize": 1024}


def recovery_seconds(stack: Stack, kills: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Kill workers, then drivers, of one long job, each time once it trains again and has a checkpoint."""
    recovery = {"maxFailures": 100, "checkpointEvery": CHECKPOINT_EVERY}
    job = stack.submit(small_job("kills", ENDLESS_STEPS, training=BATCHES, recovery=recovery, **REALISTIC))
    victims: dict[str, Callable[[], None]] = {
        "worker": lambda: stack.kill_worker(job, 1),
        "driver": stack.kill_driver,
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in victims}
    for kind, strike in victims.items():
        for _ in range(kills):
            before = stack.wait_for(job, _trains).recoveries
            killed = time.time()
            strike()
            after = stack.wait_for(job, partial(_recovered, deaths=len(before) + 1))
            resumed = after.recoveries[-1].resumed_at
            if resumed is not None:
                seconds[kind].append(resumed.timestamp() - killed)
                say(f"{kind} killed: training again after {seconds[kind][-1]:.1f} s")
    stack.client.cancel(job)
    stack.end_of(job)
    return seconds


def _trains(detail: JobDetail) -> bool:
    good = [one.step for one in detail.checkpoints if one.state == "good"]
    workers = {one.rank for one in detail.workers}
    return detail.job.state == "running" and workers == {0, 1} and bool(good) and detail.job.step > min(good)


def _recovered(detail: JobDetail, deaths: int) -> bool:
    return len(detail.recoveries) >= deaths and all(one.resumed_at for one in detail.recoveries)


def milliseconds_per_step(stack: Stack, every: int) -> float:
    """Train to the end with a checkpoint every so many steps."""
    recovery = {"checkpointEvery": every}
    job = stack.submit(
        small_job("overhead", MEASURED_STEPS, training=BATCHES, recovery=recovery, **REALISTIC)
    )
    detail = stack.end_of(job)
    if detail.job.state != "succeeded":
        raise RuntimeError(f"{job} {detail.job.state}: {detail.job.reason}")
    first, last = detail.progress[0], detail.progress[-1]
    return 1000 * (last.at - first.at).total_seconds() / (last.step - first.step)


def measure(quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with throw_away_stack(ROWS, say) as stack:
        for kind, found in recovery_seconds(stack, 2 if quick else 5, say).items():
            figures[f"{kind}_kills"] = len(found)
            figures[f"{kind}_recovery_seconds_median"] = round(median(found), 2)
            figures[f"{kind}_recovery_seconds_worst"] = round(max(found), 2)
        first = milliseconds_per_step(stack, CHECKPOINT_EVERY)
        pairs = [
            (milliseconds_per_step(stack, CHECKPOINT_EVERY), milliseconds_per_step(stack, MEASURED_STEPS))
            for _ in range(1 if quick else 3)
        ]
    without = median(bare for _, bare in pairs)
    figures["step_ms_without_checkpoints"] = round(without, 2)
    figures["step_ms_with_checkpoints"] = round(median(full for full, _ in pairs), 2)
    figures["step_ms_with_checkpoints_first_run"] = round(first, 2)
    figures["checkpoint_overhead_ratio"] = round(median(full / bare for full, bare in pairs), 3)
    figures["first_run_overhead_ratio"] = round(first / without, 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two kills of each kind, one pair of runs")
    parser.add_argument("-o", choices=["text", "json"], default="text", help="json: only the last line")
    arguments = parser.parse_args()
    text = arguments.o == "text"

    def say(line: str) -> None:
        if text:
            print(line, flush=True)

    figures = measure(arguments.quick, say)
    if text:
        for name, value in figures.items():
            print(f"{name:36} {value:>10}")
    result = {"benchmark": "recovery", "quick": arguments.quick, "figures": figures}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
