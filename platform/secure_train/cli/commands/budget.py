"""``data budget``: what of a dataset's budget is spent, held and left, and who decided so."""

from __future__ import annotations

from typing import Annotated

import typer

from secure_train.cli.budget_view import print_budget
from secure_train.cli.context import connect
from secure_train.cli.output import Format, Output, note, show

budget = typer.Typer(help="What jobs on a dataset may spend.", no_args_is_help=True)
Reference = Annotated[str, typer.Argument(help="PROJECT/NAME, or an id.")]
Epsilon = Annotated[float, typer.Option(help="ε, at the δ that the dataset was registered with.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the decision for good.")]


@budget.command("show")
def show_budget(
    dataset: Reference,
    project: Annotated[
        str | None, typer.Option(help="What would fit for a job of this project; else the dataset's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="What would fit for a job of this shape; else as the last one.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Its steps.")] = None,
    delta: Annotated[float | None, typer.Option(help="Its own δ.")] = None,
    evaluation_epsilon: Annotated[float | None, typer.Option(help="Its ε for evaluation.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what is spent, held and left, by whom and on what, which ε would fit, and who changed it."""
    with connect() as client:
        found = client.budget(
            dataset,
            project=project,
            batch_size=batch_size,
            steps=steps,
            delta=delta,
            evaluation_epsilon=evaluation_epsilon,
        )
    show(found, output, lambda to: print_budget(found, to))


@budget.command("set")
def set_budget(dataset: Reference, epsilon: Epsilon, reason: Reason, output: Output = Format.TABLE) -> None:
    """Raise or lower a dataset's budget; whoever submits jobs on it cannot raise it."""
    with connect() as client:
        found = client.set_budget(dataset, epsilon, reason)
    note(f"the budget of {dataset} is ε {found.epsilon:g} now")
    show(found, output, lambda to: print_budget(found, to))


@budget.command("allocate")
def allocate_budget(
    dataset: Reference,
    project: Annotated[str, typer.Option(help="Project whose jobs have to stay within it.")],
    epsilon: Epsilon,
    reason: Reason,
    output: Output = Format.TABLE,
) -> None:
    """Give a project a part of a dataset's budget; another project may use the dataset from then on."""
    with connect() as client:
        found = client.allocate_budget(dataset, project, epsilon, reason)
    note(f"the part of {project} in the budget of {dataset} is ε {epsilon:g} now")
    show(found, output, lambda to: print_budget(found, to))
