"""``policy``: what the rules are, and why something was decided."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from secure_train.cli.context import connect
from secure_train.cli.output import Format, Output, note_more, rows, show

app = typer.Typer(help="Rules and decisions.", no_args_is_help=True)


@app.command("show")
def show_policy(output: Output = Format.TABLE) -> None:
    """Print the active policies in Cedar."""
    with connect() as client:
        active = client.policy()

    def text(to: Console) -> None:
        for name, source in active.policies.items():
            to.print(f"// {name}\n{source}", markup=False)

    show(active, output, text)


@app.command()
def decisions(
    result: Annotated[str | None, typer.Option(help="allow or deny.")] = None,
    principal: Annotated[str | None, typer.Option(help="Such as user:alice.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=999, help="Decisions to list at most.")] = 20,
    output: Output = Format.TABLE,
) -> None:
    """List decisions, newest first, and say if there are more."""
    with connect() as client:
        found = client.decisions(result=result, principal=principal, limit=limit + 1)
    columns = ("id", "at", "principal", "action", "resource", "result", "reason")
    lines = [
        (d.id, f"{d.at:%Y-%m-%d %H:%M:%S}", d.principal, d.action, d.resource, d.result, d.reason)
        for d in found[:limit]
    ]
    show(found[:limit], output, rows("Decisions", columns, lines, "no decision matches", lead=2))
    note_more(found, limit, "--limit lists more, --result and --principal fewer")


@app.command()
def explain(
    decision_id: Annotated[str, typer.Argument(help="Such as dec_….")], output: Output = Format.TABLE
) -> None:
    """Say why something was allowed or denied: the policies and the attributes they saw."""
    with connect() as client:
        decision = client.decision(decision_id)

    def text(to: Console) -> None:
        to.print(
            f"{decision.principal} asked for {decision.action} on {decision.resource}: {decision.result}"
        )
        if decision.policies:
            to.print(f"determined by: {', '.join(decision.policies)}")
        else:
            to.print("no policy permits this, and what no policy permits is denied")
        for error in decision.errors:
            to.print(f"a policy failed to evaluate, which denies: {error}", markup=False)
        for source in decision.sources:
            to.print(f"\n{source}", markup=False)
        to.print("\nwhat was evaluated:")
        to.print(json.dumps(decision.request, indent=2, ensure_ascii=False), markup=False)

    show(decision, output, text)
