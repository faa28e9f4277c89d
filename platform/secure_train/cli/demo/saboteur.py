"""Kills one worker of a running job, for good: SIGKILL, mid-way, once there is something to recover from."""

from __future__ import annotations

import os
import signal
import socket

from secure_train.cli.follow import Say
from secure_train.client import Client
from secure_train.wire.jobs import JobView, WorkerView


class Saboteur:
    """Watches a job and strikes once.

    Attributes:
        victim: the worker that was killed; None if it has not come to that.
    """

    def __init__(self, client: Client, say: Say) -> None:
        self._client = client
        self._say = say
        self.victim: WorkerView | None = None

    def watch(self, job: JobView) -> None:
        """Strike if half of the steps are done and a checkpoint is there."""
        if (
            self.victim is not None
            or job.state != "running"
            or not job.checkpoints
            or 2 * job.step < job.steps
        ):
            return
        workers = [w for w in self._client.job(job.id).workers if w.host == socket.gethostname()]
        if not workers:
            return
        victim = max(workers, key=lambda worker: worker.rank)
        os.kill(victim.pid, signal.SIGKILL)
        self.victim = victim
        self._say(f"killed worker {victim.rank} (pid {victim.pid}) at step {job.step} of {job.steps}")
