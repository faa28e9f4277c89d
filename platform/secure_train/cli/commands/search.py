"""``search``: searches for hyperparameters; ``submit`` hands them in."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from secure_train.cli.context import connect
from secure_train.cli.figures import spent
from secure_train.cli.output import Format, Output, facts, note_more, rows, show
from secure_train.cli.searching import describe, failure, trial_lines, until_end
from secure_train.wire.searches import SearchDetail

app = typer.Typer(help="Searches for hyperparameters.", no_args_is_help=True)
SearchId = Annotated[str, typer.Argument(help="Such as srch_….")]


@app.command("list")
def list_searches(
    project: Annotated[str | None, typer.Option(help="Only this project's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=499, help="Searches to list at most.")] = 20,
    output: Output = Format.TABLE,
) -> None:
    """List searches, newest first, and say if there are more."""
    with connect() as client:
        found = client.searches(project=project, state=state, limit=limit + 1)
    columns = ("id", "name", "state", "trials ended", "best", "ε spent", "ε", "submitted by", "created")
    lines = [
        (
            s.id,
            s.name,
            s.state,
            f"{s.ended_trials}/{s.trials}",
            "" if s.best is None or s.best.value is None else f"{s.objective} {s.best.value:.4g}",
            spent(s.spent_epsilon),
            f"{s.epsilon:g}",
            s.submitted_by,
            f"{s.created_at:%Y-%m-%d %H:%M}",
        )
        for s in found[:limit]
    ]
    empty = "none yet; `secure-train submit search.yaml` submits one"
    show(found[:limit], output, rows("Searches", columns, lines, empty))
    note_more(found, limit, "--limit lists more, --project and --state fewer")


@app.command("show")
def show_search(search: SearchId, output: Output = Format.TABLE) -> None:
    """Show a search with its trials."""
    with connect() as client:
        detail = client.search(search)
    show(detail, output, lambda to: _detail(detail, to))


@app.command()
def wait(
    search: SearchId,
    live: Annotated[bool, typer.Option("--follow", help="Tell what becomes of its trials.")] = False,
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds to wait at most.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Wait until a search ends; the exit status is 1 if it has no result."""
    with connect() as client:
        view = until_end(client, search, live, timeout)
    show(view, output, lambda to: facts(describe(view), to), failure=failure(view))


@app.command()
def cancel(search: SearchId, output: Output = Format.TABLE) -> None:
    """End a search and every trial that has not ended; their unused budget goes back."""
    with connect() as client:
        view = client.cancel_search(search)
    show(view, output, lambda to: to.print(f"{view.id} {view.state}"))


def _detail(detail: SearchDetail, to: Console) -> None:
    facts(describe(detail.search), to)
    to.print()
    columns = (
        "trial",
        "state",
        detail.search.objective,
        "values",
        "step",
        "ε spent",
        "ε",
        "model",
        "job",
    )
    rows("trials", columns, trial_lines(detail.trials), "none: it was denied", lead=2)(to)
