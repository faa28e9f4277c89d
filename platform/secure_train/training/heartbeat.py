"""A worker's sign of life. Public figures only: steps done, and throughput to two digits.

How long a step takes varies slightly with the number of records sampled, which is private; rounding the
rate over many steps to two digits leaves nothing of a single step's time.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from secure_train.client.errors import ApiError, ServerUnreachable
from secure_train.client.worker_client import WorkerClient
from secure_train.wire.worker import Heartbeat

INTERVAL_SECONDS = 2.0


class Pulse:
    """Sends a heartbeat right after a group's first step, and every two seconds from then on.

    Args:
        fenced: called from the pulse's thread when the control plane refuses this worker: its training
        thread may be
            stuck in a collective operation and cannot be asked to stop.
        interval: seconds between two heartbeats.
    """

    def __init__(
        self,
        client: WorkerClient,
        generation: int,
        rank: int,
        fenced: Callable[[], None],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._client = client
        self._generation = generation
        self._rank = rank
        self._fenced = fenced
        self._interval = interval
        self._step = 0
        self._started = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def done(self, step: int) -> None:
        """``step`` steps are done."""
        self._step = step
        self._started.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._started.set()

    def _run(self) -> None:
        self._started.wait()
        step, moment, rate = self._step, time.monotonic(), 0.0
        while not self._stopped.is_set():
            try:
                self._send(rate)
            except ServerUnreachable:
                # The next one comes soon; whether the job goes on is decided by the requests that matter.
                pass
            except ApiError as error:
                if error.status < 500:
                    self._fenced()
                    return
            self._stopped.wait(self._interval)
            now, done = time.monotonic(), self._step
            rate, step, moment = (done - step) / (now - moment), done, now

    def _send(self, rate: float) -> None:
        self._client.heartbeat(
            Heartbeat(
                generation=self._generation,
                rank=self._rank,
                host=socket.gethostname()[:128],
                pid=os.getpid(),
                step=self._step,
                steps_per_second=float(f"{max(0.0, rate):.2g}"),
            )
        )
