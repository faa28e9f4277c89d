"""``submit``: hand in a job."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secure_train.cli.commands.jobs import describe
from secure_train.cli.context import connect
from secure_train.cli.errors import UsageError
from secure_train.cli.follow import Follower, Silent, failure, live_view
from secure_train.cli.output import Format, Output, console, diagnostics, facts, note, show
from secure_train.cli.plans import PlanDenied, plan_yaml
from secure_train.cli.searching import submit_search
from secure_train.client import Client
from secure_train.spec import EntrypointModel, ModelSpec, SearchJob, load_submittable, pack
from secure_train.wire.jobs import JobPlan, JobView


def submit(
    file: Annotated[Path, typer.Argument(help="A job.yaml or search.yaml.", exists=True, dir_okay=False)],
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
    """Submit a training job, or a search."""
    if wait and live:
        raise UsageError(
            "--wait and --follow exclude each other", "--follow waits too, and shows what happens"
        )
    job = load_submittable(file, overrides=overrides or [])
    key = idempotency_key or secrets.token_hex(16)
    if isinstance(job, SearchJob):
        model = job.template.model
        submit_search(
            job, None if dry_run else _packed(file, model), key, output, dry_run, wait or live, live, timeout
        )
        return
    spec = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    with connect() as client:
        if dry_run:
            _show_plan(client.plan(spec), output)
            return
        view = client.submit(spec, idempotency_key=key, workdir=_packed(file, job.model))
        if output is Format.TABLE:
            console().print(view.id)
            note(f"next: secure-train jobs logs -f {view.id}")
        if wait or live:
            view = _until_end(client, view, live, timeout)

    def summary(_: Console) -> None:
        if wait or live:
            facts(describe(view), diagnostics())

    show(view, output, summary, failure=failure(view) if wait or live else None)


def _packed(file: Path, model: ModelSpec) -> bytes | None:
    """Pack the code of a model that has some."""
    return pack(_working_dir(file, model.working_dir)).data if isinstance(model, EntrypointModel) else None


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
        to.print(plan_yaml(plan.spec), markup=False, soft_wrap=True)
        facts(_cost(plan), to)

    show(plan, output, text, failure=_objection(plan))


def _cost(plan: JobPlan) -> list[tuple[str, object]]:
    parts = f"{plan.training_epsilon:g} for training, {plan.evaluation_epsilon:g} for evaluation"
    allowed, by = ("allowed" if plan.allowed else "denied"), (", ".join(plan.policies) or plan.reason)
    return [
        ("data", f"{plan.training_rows} training rows, version {plan.dataset_version}"),
        ("ε", f"{plan.epsilon:g} by itself: {parts}"),
        ("δ", f"{plan.delta:g}"),
        ("noise σ", f"{plan.noise_multiplier:.4f} times the clipping norm, in each step"),
        ("sampling", f"each row joins a step with probability {plan.sampling_rate:.4g}"),
        ("steps", plan.steps),
        ("budget", _budget(plan)),
        ("policy", f"{allowed} by {by} ({plan.decision_id})"),
    ]


def _objection(plan: JobPlan) -> PlanDenied | None:
    if not plan.allowed:
        return PlanDenied(
            f"policy would deny this job: {plan.reason}", f"secure-train policy explain {plan.decision_id}"
        )
    if not plan.fits_budget:
        fitting = plan.fitting_epsilon
        fits = "no ε would fit" if fitting is None else f"privacy.epsilon up to {fitting:g} would fit"
        return PlanDenied(
            plan.shortage or "the job does not fit the budget",
            f"{fits}; secure-train data budget show {plan.dataset} tells who spent and holds it",
        )
    return None


def _budget(plan: JobPlan) -> str:
    """Tell apart what the job costs by itself, and what all jobs on the dataset come to with it."""
    before, after = plan.budget_used_epsilon, plan.budget_with_job_epsilon
    fitting = plan.fitting_epsilon
    most = "nothing" if fitting is None else f"privacy.epsilon up to {fitting:g}"
    return (
        f"{'fits' if plan.fits_budget else 'does not fit'}: all jobs on the dataset together come to "
        f"ε {before:.4g} now, {after:.4g} with this one, of {plan.budget_epsilon:g} "
        f"(δ {plan.budget_delta:g}, {plan.composition}); {most} would fit"
    )
