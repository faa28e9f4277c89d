"""A throw-away stack on real data: started, told what to do, hurt, brought up again, and cleared away."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rig import processes
from secure_train.cli import stack
from secure_train.cli.demo.cast import CONFIDENTIAL, PROJECT, Cast, gather
from secure_train.cli.examples import example
from secure_train.client import Client, ServerUnreachable
from secure_train.spec import load_schema
from secure_train.wire.data import NewDataset
from secure_train.wire.jobs import JobDetail

DATASET = "adult"
PURPOSE = "income-statistics"
ENDED = frozenset({"succeeded", "failed", "cancelled", "denied"})
# Of the dataset, whose only use is to be trained on again and again.
BUDGET_EPSILON, BUDGET_DELTA = 100.0, 1e-3
_PAUSE_SECONDS = 0.1

T = TypeVar("T")
Say = Callable[[str], None]


class Stack:
    """A control plane and a Ray cluster of one's own, with an administrator, a data owner and an engineer.

    Attributes:
        home: where everything of it is.
        url: of the control plane; it stays the same over restarts.
        cast: the people and their connections.
        dataset: id of the registered dataset.
    """

    def __init__(self, home: stack.Home, url: str, cast: Cast, dataset: str, say: Say) -> None:
        self.home = home
        self.url = url
        self.cast = cast
        self.dataset = dataset
        self._say = say

    @property
    def client(self) -> Client:
        """The engineer's connection."""
        return self.cast.engineer

    def submit(self, spec: dict[str, Any], workdir: bytes | None = None) -> str:
        """Submit a job as the engineer and return its id."""
        key = secrets.token_hex(16)
        return self.client.submit(spec, idempotency_key=key, workdir=workdir).id

    def job(self, job: str) -> JobDetail:
        """Return a job, waiting for a control plane that is away."""
        return self.until(lambda: self.client.job(job))

    def wait_for(self, job: str, condition: Callable[[JobDetail], bool]) -> JobDetail:
        """Return the job as soon as the condition holds.

        Raises:
            RuntimeError: it ended, and the condition does not hold.
        """
        while not condition(detail := self.job(job)):
            if detail.job.state in ENDED:
                raise RuntimeError(
                    f"{job} {detail.job.state} at step {detail.job.step} of {detail.job.steps}, before what "
                    f"was waited for came true: {detail.job.reason}"
                )
            time.sleep(_PAUSE_SECONDS)
        return detail

    def end_of(self, job: str) -> JobDetail:
        """Return the job once it has ended."""
        return self.wait_for(job, lambda detail: detail.job.state in ENDED)

    def until(self, ask: Callable[[], T]) -> T:
        """Ask, again and again while the control plane does not answer."""
        while True:
            try:
                return ask()
            except ServerUnreachable:
                time.sleep(_PAUSE_SECONDS)

    def kill_worker(self, job: str, rank: int) -> None:
        """SIGKILL the process that runs this rank of the job."""
        (worker,) = [one for one in self.job(job).workers if one.rank == rank]
        processes.kill(worker.pid)

    def kill_driver(self) -> None:
        """SIGKILL the driver that runs; raises RuntimeError if none does."""
        pid = processes.driver_of(self.home)
        if pid is None:
            raise RuntimeError("no driver runs")
        processes.kill(pid)

    def kill_control_plane(self) -> None:
        """SIGKILL the control plane, which stays away until `bring_up`; raises RuntimeError if it is away."""
        state = stack.look(self.home)
        if state.pid is None:
            raise RuntimeError("the control plane does not run")
        processes.kill(state.pid)

    def bring_up(self) -> None:
        """Start what does not run."""
        running = stack.up(self.home, _no_new_admin, self._say)
        if running.url != self.url:
            raise RuntimeError(f"the control plane moved from {self.url} to {running.url}")


@contextmanager
def throw_away_stack(rows: int, say: Say) -> Iterator[Stack]:
    """Start a stack with the first rows of the Adult census registered; clear it away afterwards.

    Args:
        rows: how many.
        say: told what is going on.

    Raises:
        RuntimeError: at the end, if a process has outlived the stack.
    """
    home = stack.Home.at(Path(tempfile.mkdtemp(prefix="secure-train-rig-")))
    # Not the usual port: another stack may be about to take that one.
    (home.path / "config.toml").write_text(f"port = {_free_port()}\n")
    try:
        running = stack.up(home, lambda url, token: None, say)
        if running.admin_token is None:
            raise RuntimeError(f"{home.path} is not a new home")
        with gather(running.url, running.admin_token) as cast:
            yield Stack(home, running.url, cast, _register(cast, rows), say)
    finally:
        stack.down(home, say)
        left = processes.of_stack(home)
        for pid in left:
            processes.kill(pid)
        shutil.rmtree(home.path)
    if left:
        raise RuntimeError(f"processes outlived the stack: {left}")


def _register(cast: Cast, rows: int) -> str:
    with example("data/adult.csv").open("rb") as file:
        content = b"".join(islice(file, rows + 1))
    schema = load_schema(example("adult/adult.schema.yaml"))
    new = NewDataset(
        name=DATASET,
        project=PROJECT,
        purposes=[PURPOSE],
        classification=CONFIDENTIAL,
        budget_epsilon=BUDGET_EPSILON,
        budget_delta=BUDGET_DELTA,
        data_schema=schema.model_dump(mode="json", by_alias=True, exclude_none=True),
        format="csv",
    )
    return cast.owner.register_dataset(new, BytesIO(content)).id


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _no_new_admin(url: str, token: str) -> None:
    raise RuntimeError(f"the database behind {url} was empty: everything acknowledged has been lost")
