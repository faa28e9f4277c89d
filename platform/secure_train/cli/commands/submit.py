"""``submit``: hand in a job."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from secure_train.cli.commands.jobs import describe
from secure_train.cli.context import connect
from secure_train.cli.errors import CliError, ExitCode, UsageError
from secure_train.cli.follow import Follower, Silent, failure, live_view
from secure_train.cli.output import Format, Output, console, note, show
from secure_train.client import Client
from secure_train.spec import EntrypointModel, load_job, pack
from secure_train.wire.jobs import JobPlan, JobView


class PlanDenied(CliError):
    """The job, as it stands, would be refused."""

    code = "denied"
    exit_code = ExitCode.DENIED


def submit(
    file: Annotated[Path, typer.Argument(help="A job.yaml.", exists=True, dir_okay=False)],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="a.b=c: override a field of the file.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show cost and decision; submit nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, quietly.")] = False,
    live: Annotated[bool, typer.Option("--follow", help="Show log and progress until its end.")] = False,
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds to wait or follow at most.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating a submission with it changes nothing.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Submit a training job."""
    if wait and live:
        raise UsageError(
            "--wait and --follow exclude each other", "--follow waits too, and shows what happens"
        )
    job = load_job(file, overrides=overrides or [])
    spec = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    with connect() as client:
        if dry_run:
            _show_plan(client.plan(spec), output)
            return
        workdir = None
        if isinstance(job.model, EntrypointModel):
            workdir = pack(_working_dir(file, job.model.working_dir)).data
        view = client.submit(spec, idempotency_key=idempotency_key or secrets.token_hex(16), workdir=workdir)
        if output is Format.TABLE:
            console().print(view.id)
            note(f"next: secure-train jobs logs -f {view.id}")
        if wait or live:
            view = _until_end(client, view, live, timeout)

    def facts(_: Console) -> None:
        if wait or live:
            for name, value in describe(view):
                note(f"{name:<12} {value}")

    show(view, output, facts, failure=failure(view) if wait or live else None)


def _working_dir(file: Path, given: str) -> Path:
    """Return the folder to send, beside or below the job file: a copied job file sends nothing else."""
    base = file.resolve().parent
    folder = (base / given).resolve()
    if not folder.is_relative_to(base):
        raise UsageError(
            f"{file}: model.workingDir: {given} lies outside {base}, and everything in it would be sent",
            "move the job file next to its code, or the code below it",
        )
    return folder


def _until_end(client: Client, view: JobView, live: bool, timeout: float | None) -> JobView:
    if not live:
        return Follower(client, view.id, Silent()).until_end(timeout)
    with live_view() as shown:
        return Follower(client, view.id, shown).until_end(timeout)


def _show_plan(plan: JobPlan, output: Format) -> None:
    def text(to: Console) -> None:
        _fields(to, plan.spec)
        to.print()
        for name, value in (
            ("dataset", f"{plan.dataset}@{plan.dataset_version}, {plan.training_rows} training rows"),
            (
                "ε",
                f"{plan.epsilon:g} = {plan.training_epsilon:g} for training "
                f"+ {plan.evaluation_epsilon:g} for evaluation",
            ),
            ("δ", f"{plan.delta:g}"),
            ("σ", f"{plan.noise_multiplier:.4f} (noise standard deviation over the clipping norm)"),
            ("sampling", f"each record joins a step with probability {plan.sampling_rate:.5f}"),
            ("steps", plan.steps),
            (
                "policy",
                f"{'allowed' if plan.allowed else 'denied'} by {', '.join(plan.policies) or plan.reason} "
                f"({plan.decision_id})",
            ),
            (
                "budget",
                f"{'fits' if plan.fits_budget else 'does not fit'}: ε {plan.budget_available_epsilon:g} left",
            ),
        ):
            to.print(f"{name:<10} {value}", markup=False)

    show(plan, output, text, failure=_objection(plan))


def _objection(plan: JobPlan) -> PlanDenied | None:
    if not plan.allowed:
        return PlanDenied(
            f"policy would deny this job: {plan.reason}", f"secure-train policy explain {plan.decision_id}"
        )
    if not plan.fits_budget:
        left = f"ε {plan.budget_available_epsilon:g} left"
        return PlanDenied(
            f"the budget of {plan.dataset} has {left}: not enough for ε {plan.epsilon:g}, δ {plan.delta:g}",
            f"secure-train data budget {plan.spec['metadata']['project']}/{plan.dataset} tells who holds it",
        )
    return None


def _fields(to: Console, values: dict[str, Any], indent: str = "") -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            to.print(f"{indent}{name}:", markup=False)
            _fields(to, value, indent + "  ")
        else:
            to.print(f"{indent}{name}: {value}", markup=False)
