"""The function that Ray Train runs in every worker process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device

from secure_train.client.errors import ApiError
from secure_train.client.worker_client import WorkerClient
from secure_train.spec import TrainingJob, job_from_json
from secure_train.spec.errors import WorkdirError
from secure_train.spec.workdir import unpack
from secure_train.training.collective import Collective
from secure_train.training.credential import token_source
from secure_train.training.failures import PermanentFailure, WorkerFailure, describe, refused
from secure_train.training.loop import Assignment, run_worker
from secure_train.training.scratch import scratch_folder

_FENCED_EXIT_CODE = 77


def train_worker(config: dict[str, Any]) -> None:
    """Train as one rank of a group.

    Args:
        config: ``url``, ``job_id``, ``spec``, ``code_digest`` and the ``keeper`` of the capability.

    Raises:
        WorkerFailure: nothing else, so that no message of another exception reaches Ray's logs.
    """
    _silence()
    job = job_from_json(config["spec"])
    _configure_torch(job)
    context = ray.train.get_context()
    collective = Collective(context.get_world_rank(), context.get_world_size(), get_device())
    client = WorkerClient(config["url"], token_source(config["keeper"]))
    with scratch_folder(config["job_id"]) as scratch:
        code = None if config["code_digest"] is None else scratch.resolve() / "code"
        failure: WorkerFailure | None = None
        try:
            if code is not None:
                _fetch_code(client, code, config["code_digest"])
            run_worker(Assignment(job, config["job_id"], client, collective, code, _exit))
        except WorkerFailure as error:
            failure = error
        except ApiError as error:
            failure = refused(error)
        except (Exception, SystemExit) as error:
            failure = WorkerFailure(describe(error, code))
        if failure is not None:
            # Raised out here, without the context of the exception that led to it.
            raise failure.with_traceback(None)


def _silence() -> None:
    """The author's code may print records, and Ray would write them to its log files in plain text."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)


def _configure_torch(job: TrainingJob) -> None:
    """Make a step that is run again give the same bits, which the number of threads would change."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.set_num_threads(job.resources.cpus_per_worker)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def _fetch_code(client: WorkerClient, folder: Path, digest: str) -> None:
    try:
        unpack(client.code(), folder, digest)
    except WorkdirError as error:
        raise PermanentFailure(f"working directory: {error}") from None
    # What is imported from here must not be shadowed by leftovers of the driver's own folder.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]


def _exit() -> None:
    """End this process without asking its training thread, which may wait for peers that are gone."""
    os._exit(_FENCED_EXIT_CODE)
