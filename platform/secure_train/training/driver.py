"""A job's driver: ``python -m secure_train.training.driver``, submitted to Ray by the control plane.

It receives two variables, ``SECURE_TRAIN_URL`` and ``SECURE_TRAIN_TICKET``. The ticket is good for one
request, so that it does no harm in Ray's records. Exit status 0 means that the model was published.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from secure_train.client.errors import ClientError
from secure_train.client.worker_client import WorkerClient
from secure_train.spec import SpecErrors, TrainingJob, job_from_json
from secure_train.training.credential import start_keeper
from secure_train.training.errors import TrainingError
from secure_train.training.reporting import FailureReporter
from secure_train.training.scratch import scratch_folder
from secure_train.training.trainer import SealedRowsTrainer
from secure_train.training.worker import train_worker
from secure_train.wire.worker import JobOrder, Redeem

URL, TICKET = "SECURE_TRAIN_URL", "SECURE_TRAIN_TICKET"
# Longer than a worker waits for the control plane to come back: its peers wait for it in a collective
# operation.
_COLLECTIVE_TIMEOUT_SECONDS = 1800
_RAY_TRAIN = {
    # A dead worker is noticed at the next poll, and the next poll comes this soon.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # One that hangs (a stopped process, a lost machine) is given up after this long; Ray's default is 600.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    # Prints of the author's code may hold records and go nowhere, least of all into log files.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def main() -> int:
    """Run the job; returns the exit status."""
    try:
        url, ticket = os.environ.pop(URL), os.environ.pop(TICKET)
    except KeyError as missing:
        return _give_up(f"the variable {missing.args[0]} is not set: the control plane sets it on submission")
    try:
        client = WorkerClient(url, lambda: None)
        order = client.redeem(Redeem(ticket=ticket))
        job = job_from_json(order.spec)
        client.close()
    except (ClientError, SpecErrors) as error:
        return _give_up(f"the control plane's order could not be had: {error}")
    for name, value in _RAY_TRAIN.items():
        os.environ.setdefault(name, value)
    ray.init(log_to_driver=False)
    try:
        with scratch_folder(order.capability.job_id) as scratch:
            _trainer(url, order, job, scratch).fit()
    except TrainingFailedError as error:
        return _give_up(f"training ended: {type(error).__name__}")
    except TrainingError as error:
        return _give_up(str(error))
    return 0


def _trainer(url: str, order: JobOrder, job: TrainingJob, scratch: Path) -> SealedRowsTrainer:
    capability, resources = order.capability, job.resources
    keeper = start_keeper(url, capability)
    config: dict[str, Any] = {
        "url": url,
        "job_id": capability.job_id,
        "spec": order.spec,
        "code_digest": order.code_digest,
        "keeper": keeper,
    }
    reporter = FailureReporter(url, capability.attempt, keeper)
    on_gpu = resources.gpus_per_worker > 0
    per_worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if on_gpu:
        per_worker["GPU"] = resources.gpus_per_worker
    return SealedRowsTrainer(
        train_worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo", timeout_s=_COLLECTIVE_TIMEOUT_SECONDS),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=on_gpu, resources_per_worker=per_worker
        ),
        run_config=RunConfig(
            name=capability.job_id,
            # Ray Train insists on a folder; checkpoints go to the block store, so nothing is kept in it.
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=job.recovery.max_failures),
            callbacks=[reporter],  # type: ignore[list-item]  # typed as of Ray Train V1, which V2 replaces
        ),
    )


def _give_up(why: str) -> int:
    sys.stderr.write(f"secure-train driver: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
