"""``jobs``: what was submitted and how it fares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secure_train.cli.context import connect
from secure_train.cli.errors import UsageError
from secure_train.cli.figures import metric_facts, recovery_text, spent
from secure_train.cli.follow import ENDED, Follower, Log, failure, live_view, print_log
from secure_train.cli.output import Format, Output, console, facts, note, note_more, rows, show
from secure_train.wire.jobs import JobDetail, JobView

app = typer.Typer(help="Jobs.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(help="Such as job_….")]


def describe(job: JobView) -> list[tuple[str, object]]:
    """Return what a person wants to know of a job first."""
    why = f": {job.reason}" if job.reason else ""
    doing = "" if job.state in ENDED else f" ({job.phase})"
    found: list[tuple[str, object]] = [
        ("job", f"{job.id} ({job.name})"),
        ("state", f"{job.state}{doing}{why}"),
        ("project", f"{job.project}, for {job.purpose}"),
        ("dataset", f"{job.dataset}@{job.dataset_version}"),
        ("steps", f"{job.step} of {job.steps}"),
        ("privacy", f"ε {spent(job.spent_epsilon)} spent of {job.epsilon:g}, δ {job.delta:g}"),
        ("recoveries", job.recoveries),
        ("checkpoints", job.checkpoints),
        *metric_facts(job.metrics),
    ]
    if job.search is not None:
        found.append(("search", f"a trial of {job.search}"))
    if job.model is not None:
        found.append(("model", f"{job.project}/{job.model}"))
    return found


def _detail(detail: JobDetail, to: Console) -> None:
    job, ended = detail.job, detail.job.state in ENDED
    deaths = [("recovery", recovery_text(recovery)) for recovery in detail.recoveries]
    facts([*describe(job), *deaths], to)
    changes = [(f"{t.at:%H:%M:%S}", t.source, t.target, t.reason) for t in detail.transitions]
    # All ranks take every step together, so a job that succeeded has had all its workers at its last step.
    done = job.step if job.state == "succeeded" else None
    workers = [
        (w.rank, w.host, w.pid, w.step if done is None else done, f"{w.reported_at:%H:%M:%S}")
        for w in detail.workers
    ]
    title = "workers (ended)" if ended else "workers"
    to.print()
    rows("states (UTC)", ("at", "from", "to", "why"), changes, "", lead=3)(to)
    if workers:
        to.print()
        rows(title, ("rank", "host", "pid", "step", "last heartbeat"), workers, "", lead=2)(to)


@app.command("list")
def list_jobs(
    project: Annotated[str | None, typer.Option(help="Only this project's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=499, help="Jobs to list at most.")] = 20,
    output: Output = Format.TABLE,
) -> None:
    """List jobs, newest first, and say if there are more."""
    with connect() as client:
        found = client.jobs(project=project, state=state, limit=limit + 1)
    columns = ("id", "name", "state", "step", "ε spent", "ε", "recoveries", "submitted by", "created")
    lines = [
        (
            j.id,
            j.name,
            j.state,
            f"{j.step}/{j.steps}",
            spent(j.spent_epsilon),
            f"{j.epsilon:g}",
            j.recoveries,
            j.submitted_by,
            f"{j.created_at:%Y-%m-%d %H:%M}",
        )
        for j in found[:limit]
    ]
    empty = "none yet; `secure-train submit job.yaml` submits one"
    show(found[:limit], output, rows("Jobs", columns, lines, empty))
    note_more(found, limit, "--limit lists more, --project and --state fewer")


@app.command("show")
def show_job(job: JobId, output: Output = Format.TABLE) -> None:
    """Show a job with its whole life."""
    with connect() as client:
        detail = client.job(job)
    show(detail, output, lambda to: _detail(detail, to))


@app.command()
def logs(
    job: JobId,
    live: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Print a job's log: what the platform did, never what a worker printed.

    With --follow the exit status is 1 if the job fails.
    """
    if live and output is not Format.TABLE:
        raise UsageError("--follow prints lines as they come", f"leave out --follow for -o {output}")
    with connect() as client:
        found = client.logs(job)

        def lines(to: Console) -> None:
            for line in found:
                print_log(line, to)

        show(found, output, lines)
        if live:
            follower = Follower(client, job, Log(), after=found[-1].seq if found else -1)
            failed = failure(follower.until_end())
            if failed is not None:
                raise failed


@app.command()
def cancel(job: JobId, output: Output = Format.TABLE) -> None:
    """End a job, in whatever state it is; its unused budget goes back."""
    with connect() as client:
        view = client.cancel(job)
    show(view, output, lambda to: to.print(f"{view.id} {view.state}"))


@app.command()
def resume(
    job: JobId,
    live: Annotated[bool, typer.Option("--follow", help="Follow it to its end.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Queue a failed or cancelled job again, from its newest checkpoint."""
    failed = None
    with connect() as client:
        view = client.resume(job)
        if live:
            with live_view() as shown:
                view = Follower(client, view.id, shown).until_end()
            failed = failure(view)
    show(view, output, lambda to: to.print(f"{view.id} {view.state}"), failure=failed)


@app.command()
def report(
    job: JobId,
    target: Annotated[
        Path | None, typer.Option("--output", "--to", help="File to write; JOB.html unless given.")
    ] = None,
) -> None:
    """Write the job's report, one self-contained HTML page, and print where it is."""
    with connect() as client:
        page = client.report(job)
    target = target or Path(f"{job}.html")
    target.write_bytes(page)
    console().print(str(target), markup=False)
    note(f"{len(page)} bytes; open it in a browser")
