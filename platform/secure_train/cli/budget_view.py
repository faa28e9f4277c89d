"""A dataset's budget, drawn for a person."""

from __future__ import annotations

from rich.console import Console

from secure_train.cli.output import rows
from secure_train.wire.data import BudgetView, DpEventView, FitView

WIDTH = 50
RULES = {
    "rdp-filter": "jobs add up by a Rényi filter: a few of them come to less than the sum of their ε",
    "basic": "jobs add up plainly: ε and δ are summed",
}


def print_budget(found: BudgetView, to: Console) -> None:
    """Print bars, parts of projects, jobs, what would fit, and changes."""
    to.print(f"[bold]{found.project}/{found.name}[/]  {RULES[found.composition]}")
    to.print()
    _bar(to, "ε", found.spent_epsilon, found.reserved_epsilon, found.available_epsilon, found.epsilon)
    if found.composition == "basic":
        _bar(to, "δ", found.spent_delta, found.reserved_delta, found.available_delta, found.delta)
    else:
        to.print(f"  at δ {found.delta:g}, for one record added or removed", markup=False)
    to.print(f"  spent where one record is replaced: ε {found.spent_epsilon_replace_one:.4g}", markup=False)
    to.print()
    _fit(to, found.fit)
    _parts(to, found)
    _jobs(to, found)
    _changes(to, found)


def _bar(to: Console, name: str, spent: float, held: float, left: float, whole: float) -> None:
    full = min(WIDTH, round(WIDTH * spent / whole))
    # What is there at all is seen, however little it is.
    full = max(full, 1) if spent > 0 else 0
    half = min(WIDTH - full, max(round(WIDTH * held / whole), 1 if held > 0 else 0))
    bar = "█" * full + "▒" * half + "·" * (WIDTH - full - half)
    to.print(f"{name} {bar} {whole:g}", markup=False)
    to.print(f"  █ {spent:.4g} spent   ▒ {held:.4g} held   · {left:.4g} left", markup=False)


def _fit(to: Console, fit: FitView | None) -> None:
    if fit is None:
        return
    aside = f", ε {fit.evaluation_epsilon:g} of it for evaluation" if fit.evaluation_epsilon else ""
    shape = f"q={fit.sampling_rate:.4g}, T={fit.steps}, δ={fit.delta:g}{aside}"
    if fit.epsilon is None:
        to.print(f"no ε would fit one more job of {fit.project} with {shape}", markup=False)
    else:
        to.print(f"one more job of {fit.project} with {shape} could have ε ≤ {fit.epsilon:g}", markup=False)
    to.print()


def _parts(to: Console, found: BudgetView) -> None:
    if not found.allocations:
        return
    lines = [
        (
            part.project,
            f"{part.epsilon:g}",
            f"{part.spent_epsilon:.4g}",
            f"{part.reserved_epsilon:.4g}",
            f"{part.available_epsilon:.4g}",
        )
        for part in found.allocations
    ]
    rows("Parts of projects", ("project", "ε", "spent", "held", "left"), lines, "")(to)
    to.print()


def _jobs(to: Console, found: BudgetView) -> None:
    columns = ("job", "project", "by", "for", "state", "released", "ε alone", "δ alone", "on")
    lines = [
        (
            f"{line.job_name} {line.job_id}",
            line.project,
            line.submitted_by,
            line.purpose,
            line.state,
            "; ".join(_event(event) for event in line.spent_events) or "nothing",
            f"{line.spent_epsilon:.4g} of {line.epsilon:g}",
            f"{line.spent_delta:g}",
            f"{line.created_at:%Y-%m-%d}",
        )
        for line in found.lines
    ]
    rows("Jobs", columns, lines, "no job has spent or holds anything that you may see")(to)
    if found.hidden_lines:
        to.print(f"not shown, since you may not see them: {found.hidden_lines}", markup=False)
    to.print()


def _event(event: DpEventView) -> str:
    if event.kind == "pure":
        return f"{event.releases} x pure ε {event.epsilon:.3g}"
    return f"{event.steps} steps at σ {event.noise_multiplier:.4g}, q {event.sampling_rate:.3g}"


def _changes(to: Console, found: BudgetView) -> None:
    lines = [
        (
            f"{change.at:%Y-%m-%d %H:%M}",
            change.by,
            "whole budget" if change.project is None else f"part of {change.project}",
            "none" if change.epsilon_before is None else f"{change.epsilon_before:g}",
            f"{change.epsilon_after:g}",
            change.reason,
        )
        for change in found.changes
    ]
    rows("Changes", ("at", "by", "what", "from ε", "to ε", "why"), lines, "")(to)
