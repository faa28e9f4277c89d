"""Following a job to its end: a progress bar on a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from secure_train.cli.errors import JobFailed, TimedOut
from secure_train.cli.figures import release_text, spent
from secure_train.cli.output import console, diagnostics, note
from secure_train.client import Client, ServerUnreachable
from secure_train.wire.jobs import JobView, LogLine, ProgressView, ReleaseView

ENDED = frozenset({"succeeded", "failed", "cancelled", "denied"})
RECONNECT_SECONDS = 2.0
PATIENCE_SECONDS = 300.0
"""How long to wait for a control plane that went away: a restarted one carries its jobs on."""
REMINDER_SECONDS = 15.0
"""How long plain lines may be silent."""

Say = Callable[[str], None]
"""Tells the person what is going on."""


class View(Protocol):
    """How a job's life is shown."""

    def log(self, line: LogLine) -> None:
        """Show a line of its log."""

    def release(self, text: str) -> None:
        """Show released metrics."""

    def job(self, job: JobView) -> None:
        """Show what it is doing."""

    def progress(self, step: int, steps: int, epsilon: float) -> None:
        """Show how far it is."""

    def waiting(self) -> None:
        """Nothing new has come; called about once a second."""


class Silent:
    """Shows nothing: for ``--wait``."""

    def log(self, line: LogLine) -> None:
        """Show nothing."""

    def release(self, text: str) -> None:
        """Show nothing."""

    def job(self, job: JobView) -> None:
        """Show nothing."""

    def progress(self, step: int, steps: int, epsilon: float) -> None:
        """Show nothing."""

    def waiting(self) -> None:
        """Show nothing."""


class Log(Silent):
    """Prints the log alone, to stdout: it is the answer of ``jobs logs``."""

    def log(self, line: LogLine) -> None:
        """Print a line."""
        print_log(line, console())


class Lines:
    """Prints plain lines to stderr: each phase and each step once, and a word now and then in between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase = ""
        self._since = self._said = clock()
        self._step = -1

    def log(self, line: LogLine) -> None:
        """Print a line."""
        self._say(_log_text(line))

    def release(self, text: str) -> None:
        """Print metrics."""
        self._say(text)

    def job(self, job: JobView) -> None:
        """Print a phase when it begins."""
        if job.phase != self._phase and job.state not in ENDED:
            self._phase, self._since = job.phase, self._clock()
            self._say(job.phase)

    def progress(self, step: int, steps: int, epsilon: float) -> None:
        """Print a step when it is reached."""
        if step != self._step:
            self._step = step
            self._say(f"step {step}/{steps}  ε {spent(epsilon)}")

    def waiting(self) -> None:
        """Say that the phase goes on, if nothing has been said for a while."""
        if self._phase and self._clock() - self._said >= REMINDER_SECONDS:
            self._say(f"{self._phase}, for {self._clock() - self._since:.0f} s so far")

    def _say(self, text: str) -> None:
        self._said = self._clock()
        note(text)


class Bar:
    """Draws a progress bar below the lines; its clock runs, so that waiting shows."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, epsilon="0", phase="")

    def log(self, line: LogLine) -> None:
        """Print a line above the bar."""
        self._bar.console.print(_log_text(line), markup=False)

    def release(self, text: str) -> None:
        """Print metrics above the bar."""
        self._bar.console.print(text, markup=False)

    def job(self, job: JobView) -> None:
        """Name the phase beside the bar."""
        self._bar.update(self._task, phase=job.phase)

    def progress(self, step: int, steps: int, epsilon: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step, total=steps, epsilon=spent(epsilon))

    def waiting(self) -> None:
        """Show nothing: the bar's clock runs."""


@contextmanager
def live_view() -> Iterator[View]:
    """Open a bar on a terminal, lines elsewhere."""
    target = diagnostics()
    if not target.is_terminal:
        yield Lines()
        return
    columns = (
        TextColumn("{task.fields[phase]}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("ε {task.fields[epsilon]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=target) as bar:
        yield Bar(bar)


def _log_text(line: LogLine) -> str:
    return f"{line.at:%H:%M:%S} {line.source}: {line.message}"


def print_log(line: LogLine, to: Console) -> None:
    """Print one log line."""
    to.print(f"{line.at:%H:%M:%S} {line.level:<7} {line.source:<10} {line.message}", markup=False)


class Follower:
    """Follows one job. What was shown once is not shown again when the stream is opened anew."""

    def __init__(self, client: Client, job: str, view: View, after: int = -1) -> None:
        self._client = client
        self._view = view
        self._after = after
        self._progress = self._step = -1
        self._released: set[tuple[int, int]] = set()
        self.job = client.job(job).job

    def until_end(
        self, timeout: float | None = None, on_change: Callable[[JobView], None] | None = None
    ) -> JobView:
        """Show the job until it ends and return it. A control plane that restarts meanwhile is waited for.

        Args:
            timeout: seconds; None waits for ever.
            on_change: called with the job whenever it changed.

        Raises:
            TimedOut: the time is over; the job goes on.
        """
        started, lost_at = time.monotonic(), None
        while self.job.state not in ENDED:
            try:
                for kind, message in self._client.follow(self.job.id, after=self._after):
                    lost_at = None
                    self._show(kind, message)
                    if kind == "job" and on_change is not None:
                        on_change(self.job)
                    self._check(started, timeout)
                if self.job.state not in ENDED:
                    self.job = self._client.job(self.job.id).job
            except ServerUnreachable:
                if lost_at is None:
                    lost_at = time.monotonic()
                    note("lost the control plane; waiting for it to come back")
                if time.monotonic() - lost_at > PATIENCE_SECONDS:
                    raise
                time.sleep(RECONNECT_SECONDS)
            self._check(started, timeout)
        return self.job

    def _check(self, started: float, timeout: float | None) -> None:
        if timeout is not None and time.monotonic() - started > timeout and self.job.state not in ENDED:
            job = self.job
            raise TimedOut(
                f"{job.id} is {job.state} after {timeout:g} s",
                f"it goes on: secure-train jobs show {job.id}",
                data=job,
            )

    def _show(self, kind: str, message: dict[str, Any]) -> None:
        if kind == "log":
            line = LogLine.model_validate(message)
            self._after = line.seq
            self._view.log(line)
        elif kind == "job":
            self.job = JobView.model_validate(message)
            self._view.job(self.job)
            if self.job.state in ENDED and self.job.step > self._step:
                # Its last steps were done after the last heartbeat.
                self._view.progress(self.job.step, self.job.steps, self.job.spent_epsilon)
        elif kind == "progress":
            point = ProgressView.model_validate(message)
            if point.seq > self._progress:
                self._progress, self._step = point.seq, point.step
                self._view.progress(point.step, self.job.steps, point.epsilon)
        elif kind == "release":
            release = ReleaseView.model_validate(message)
            if (release.noise_epoch, release.step) not in self._released:
                self._released.add((release.noise_epoch, release.step))
                self._view.release(f"held-out at step {release.step}: {release_text(release.metrics)}")
        elif kind == "alive":
            self._view.waiting()


def failure(job: JobView) -> JobFailed | None:
    """Return the error that says a job did not succeed; None if it did."""
    if job.state == "succeeded":
        return None
    reason = f": {job.reason}" if job.reason else ""
    return JobFailed(f"{job.id} {job.state}{reason}", f"secure-train jobs logs {job.id}")
