"""Searches at the terminal: what one costs, how it fares, and waiting for its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from secure_train.cli.context import connect
from secure_train.cli.errors import JobFailed, TimedOut
from secure_train.cli.figures import metric_facts, spent
from secure_train.cli.follow import PATIENCE_SECONDS, RECONNECT_SECONDS
from secure_train.cli.output import Format, console, diagnostics, facts, note, rows, show
from secure_train.cli.plans import PlanDenied, plan_yaml
from secure_train.client import Client, ServerUnreachable
from secure_train.spec import SearchJob
from secure_train.wire.searches import SearchDetail, SearchPlan, SearchView, TrialView

POLL_SECONDS = 1.0


def submit_search(
    search: SearchJob,
    workdir: bytes | None,
    key: str,
    output: Format,
    dry_run: bool,
    wait: bool,
    live: bool,
    timeout: float | None,
) -> None:
    """Submit a search, or show its plan; as `submit` does with a job."""
    spec = search.model_dump(mode="json", by_alias=True)
    with connect() as client:
        if dry_run:
            plan = client.plan_search(spec)
            show(plan, output, lambda to: _show_plan(plan, to), failure=_objection(plan))
            return
        view = client.submit_search(spec, idempotency_key=key, workdir=workdir)
        if output is Format.TABLE:
            console().print(view.id)
            note(f"next: secure-train search show {view.id}")
        if wait:
            view = until_end(client, view.id, live, timeout)

    def summary(_: Console) -> None:
        if wait:
            facts(describe(view), diagnostics())

    show(view, output, summary, failure=failure(view) if wait else None)


def until_end(client: Client, search: str, live: bool, timeout: float | None) -> SearchView:
    """Wait until a search ends; with ``live`` tell what becomes of its trials.

    A control plane that restarts meanwhile is waited for. Raises TimedOut.
    """
    started, lost_at = time.monotonic(), None
    told: dict[int, str] = {}
    while True:
        try:
            detail = client.search(search)
        except ServerUnreachable:
            if lost_at is None:
                lost_at = time.monotonic()
                note("lost the control plane; waiting for it to come back")
            if time.monotonic() - lost_at > PATIENCE_SECONDS:
                raise
            time.sleep(RECONNECT_SECONDS)
            continue
        lost_at = None
        if live:
            _tell(detail, told)
        view = detail.search
        if view.state != "running":
            return view
        if timeout is not None and time.monotonic() - started > timeout:
            raise TimedOut(
                f"{view.id} is {view.state} after {timeout:g} s, {view.ended_trials} of {view.trials} trials "
                "have ended",
                f"it goes on: secure-train search show {view.id}",
                data=view,
            )
        time.sleep(POLL_SECONDS)


def describe(view: SearchView) -> list[tuple[str, object]]:
    """Return what a person wants to know of a search first."""
    why = f": {view.reason}" if view.reason else ""
    found: list[tuple[str, object]] = [
        ("search", f"{view.id} ({view.name})"),
        ("state", f"{view.state}{why}"),
        ("project", f"{view.project}, for {view.purpose}"),
        ("dataset", f"{view.dataset}@{view.dataset_version}"),
        (
            "trials",
            f"{view.ended_trials} of {view.trials} ended; {view.sampler}, {view.concurrency} at once, "
            f"by {view.objective}",
        ),
        (
            "privacy",
            f"ε {spent(view.spent_epsilon)} spent of {view.epsilon:g}, δ {view.delta:g}: trials added up",
        ),
    ]
    if view.best is not None:
        best = view.best
        name = "best" if view.state != "running" else "best so far"
        found.append((name, f"trial {best.number} ({best.job}): {values(best.parameters)}"))
        found += metric_facts(best.metrics)
        if best.model is not None:
            found.append(("model", f"{view.project}/{best.model}"))
    return found


def trial_lines(trials: list[TrialView]) -> list[tuple[object, ...]]:
    """Return the cells of a table of trials."""
    return [
        (
            trial.number,
            trial.state,
            "" if trial.value is None else f"{trial.value:.4g}",
            values(trial.parameters),
            f"{trial.step}/{trial.steps}",
            spent(trial.spent_epsilon),
            f"{trial.epsilon:g}",
            trial.model,
            trial.job,
        )
        for trial in trials
    ]


def values(parameters: Mapping[str, Any] | None) -> str:
    """Write a trial's values in one line; the last part of a key is enough to know it by."""
    if parameters is None:
        return "to be chosen"
    return ", ".join(
        f"{_last(path)} {value:.4g}" if isinstance(value, float) else f"{_last(path)} {value}"
        for path, value in parameters.items()
    )


def failure(view: SearchView) -> JobFailed | None:
    """Return the error that says a search did not succeed; None if it did."""
    if view.state == "succeeded":
        return None
    return JobFailed(f"{view.id} {view.state}: {view.reason}", f"secure-train search show {view.id}")


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _tell(detail: SearchDetail, told: dict[int, str]) -> None:
    for trial in detail.trials:
        if told.get(trial.number, "submitted") != trial.state:
            value = "" if trial.value is None else f", {detail.search.objective} {trial.value:.4g}"
            why = f": {trial.reason}" if trial.state in {"failed", "cancelled"} else ""
            note(f"trial {trial.number} {trial.state}{value}{why} ({values(trial.parameters)})")
        told[trial.number] = trial.state


def _show_plan(plan: SearchPlan, to: Console) -> None:
    to.print(plan_yaml(plan.spec), markup=False, soft_wrap=True)
    lines = [
        (
            trial.number,
            values(trial.parameters),
            f"{trial.epsilon:g}",
            f"{trial.delta:g}",
            f"{trial.noise_multiplier:.4f}",
            f"{trial.sampling_rate:.4g}",
            trial.steps,
        )
        for trial in plan.trials
    ]
    rows("trials", ("trial", "values", "ε", "δ", "noise σ", "sampling", "steps"), lines, "", lead=2)(to)
    to.print()
    facts(_cost(plan), to)


def _cost(plan: SearchPlan) -> list[tuple[str, object]]:
    one, count = plan.trials[0], len(plan.trials)
    alike = len({(trial.epsilon, trial.delta) for trial in plan.trials}) == 1
    allowed, by = ("allowed" if plan.allowed else "denied"), (", ".join(plan.policies) or plan.reason)
    before, after = plan.budget_used_epsilon, plan.budget_with_search_epsilon
    return [
        ("data", f"{plan.training_rows} training rows, version {plan.dataset_version}"),
        (
            "one trial",
            f"ε {one.epsilon:g} by itself (δ {one.delta:g})" if alike else "see above: they differ",
        ),
        (
            "all trials",
            f"{count}, all charged: ε {plan.epsilon_sum:g} added up (δ {plan.delta_sum:g}), "
            f"{plan.epsilon_together:.4g} composed (δ {plan.delta:g})",
        ),
        (
            "budget",
            f"{'fits' if plan.fits_budget else 'does not fit'}: all jobs on the dataset together come to "
            f"ε {before:.4g} now, {after:.4g} with this search, of {plan.budget_epsilon:g} "
            f"(δ {plan.budget_delta:g}, {plan.composition})",
        ),
        ("policy", f"{allowed} by {by} ({plan.decision_id})"),
    ]


def _objection(plan: SearchPlan) -> PlanDenied | None:
    if not plan.allowed:
        return PlanDenied(
            f"policy would deny this search: {plan.reason}",
            f"secure-train policy explain {plan.decision_id}",
        )
    if plan.fits_budget:
        return None
    ways = f"{plan.fitting_trials} of the trials would fit"
    if plan.fitting_epsilon is not None:
        ways += f", or all of them with template.privacy.epsilon up to {plan.fitting_epsilon:g}"
    return PlanDenied(
        plan.shortage or "the search does not fit the budget",
        f"{ways}; secure-train data budget show {plan.dataset} tells who spent and holds it",
    )
