"""``demo``: show it all on real data."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from secure_train.cli import context as contexts
from secure_train.cli.errors import StackError
from secure_train.cli.output import Format, Output, facts, note, program, show

if TYPE_CHECKING:
    from secure_train.cli.stack import Home

CONTEXT = "demo"


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack running and log in to it, to look around.")
    ] = False,
    target: Annotated[
        Path, typer.Option("--to", help="Folder for report and audit export.", file_okay=False)
    ] = Path("secure-train-demo"),
    output: Output = Format.TABLE,
) -> None:
    """Show it all on real data: a private job, a crash, a recovery, the evidence.

    Starts a stack of its own in a temporary home, trains on the Adult census with differential privacy,
    kills a worker mid-way, and removes everything but the report and the audit export.
    """
    from secure_train.cli import stack
    from secure_train.cli.demo import run_demo

    started = time.monotonic()
    # A demo that is told to end cleans up like one that is interrupted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    home = stack.Home.at(Path(tempfile.mkdtemp(prefix="secure-train-demo-")))
    target = target.absolute()
    finished = False
    try:
        running = stack.up(home, lambda url, token: None, note)
        if running.admin_token is None:
            raise StackError(f"{home.path} is not a new home")
        note(f"the stack runs at {running.url}")
        result, tokens = run_demo(running.url, running.admin_token, target, note, started)
        finished = True
    finally:
        if not (keep and finished):
            _clear(home, None if finished else target / "logs")
    if keep:
        for person, token in tokens.items():
            name = CONTEXT if person == "user:erin" else f"{CONTEXT}-{person.removeprefix('user:')}"
            context = contexts.Context(name, running.url, token, person)
            contexts.forget_checkpoint(context)
            contexts.save(context)
        contexts.use(CONTEXT)

    def text(to: Console) -> None:
        facts(result.lines(), to)

    show({**result.to_json(), "home": str(home.path) if keep else None}, output, text)
    note(f"next: open {result.report} in a browser; {program()} audit verify {result.export}")
    if keep:
        note(
            f"You are logged in as user:erin (context {CONTEXT}; `secure-train context list` shows more). "
            f"Try: {program()} jobs show {result.job.job.id}. "
            f"Stop it with: {program()} down --home {home.path}"
        )
    else:
        note(f"{program()} demo --keep leaves the stack running; {program()} up starts one for your own data")


def _clear(home: Home, logs: Path | None) -> None:
    """Stop the demo's stack and remove its home; after a failure its logs are kept in ``logs``."""
    from secure_train.cli import stack

    stack.down(home, note)
    if logs is not None and home.logs.is_dir():
        shutil.copytree(home.logs, logs, dirs_exist_ok=True)
        note(f"the logs are in {logs}")
    shutil.rmtree(home.path)
