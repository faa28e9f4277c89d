"""A progress bar on a terminal, on stderr; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from secure_train.cli.output import diagnostics


@contextmanager
def working(what: str, steps: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many steps were taken."""
    target = diagnostics()
    if not target.is_terminal:
        yield lambda done: None
        return
    columns = (TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=target, transient=True) as bar:
        task = bar.add_task(what, total=steps)
        yield lambda done: bar.advance(task, done)
