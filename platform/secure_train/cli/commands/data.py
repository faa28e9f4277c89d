"""``data``: datasets, on the owner's side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console

from secure_train.cli.commands.budget import budget
from secure_train.cli.context import connect
from secure_train.cli.errors import UsageError
from secure_train.cli.output import Format, Output, diagnostics, facts, note, rows, show
from secure_train.spec import DatasetSchema, load_schema
from secure_train.wire.data import Composition, DatasetView, NewDataset

if TYPE_CHECKING:
    from secure_train.registry.infer import Draft

app = typer.Typer(help="Datasets and their privacy budgets.", no_args_is_help=True)
app.add_typer(budget, name="budget")
Reference = Annotated[str, typer.Argument(help="PROJECT/NAME, or an id.")]
RowsFile = Annotated[Path, typer.Argument(help="CSV or Parquet.", exists=True, dir_okay=False)]
COMPOSITIONS = get_args(Composition)
CLASSES = ("public", "internal", "confidential", "restricted")


def _detail(dataset: DatasetView, to: Console) -> None:
    newest = dataset.versions[-1]
    described = (
        ("dataset", f"{dataset.project}/{dataset.name}@{newest.version} ({dataset.id})"),
        ("owner", dataset.owner),
        ("class", CLASSES[dataset.classification]),
        ("purposes", ", ".join(dataset.purposes)),
        ("rows", f"{newest.training_rows} for training, {newest.holdout_rows} held out"),
        ("task", dataset.task),
        ("features", newest.features),
        ("digest", newest.digest),
    )
    facts(described, to)


def _schema_table(schema: DatasetSchema) -> None:
    lines: list[tuple[str, str, str]] = []
    for column in schema.columns:
        if column.kind == "numeric":
            lines.append((column.name, column.kind, f"{column.lower:g} … {column.upper:g}, clipped to it"))
        elif column.kind == "categorical":
            lines.append((column.name, column.kind, ", ".join(column.categories)))
        else:
            lines.append((column.name, column.kind, "not used"))
    lines.append((schema.target.name, f"target, {schema.target.task}", ""))
    rows("Schema (public: it tells nothing that is in the rows)", ("column", "kind", "bounds"), lines, "")(
        diagnostics()
    )


def _format(file: Path) -> str:
    return "parquet" if file.suffix.lower() in {".parquet", ".pq"} else "csv"


def _draft(file: Path, target: str) -> Draft:
    """Draft a schema on this machine; nothing is sent anywhere."""
    from secure_train.registry import RegistryError
    from secure_train.registry.infer import draft_schema
    from secure_train.registry.tables import Format as RowFormat

    try:
        with file.open("rb") as opened:
            return draft_schema(opened, RowFormat(_format(file)), target)
    except RegistryError as error:
        raise UsageError(f"{file}: {error}") from error


def _confirmed(file: Path, target: str | None, yes: bool) -> DatasetSchema:
    """Draft a schema, show it, and have it confirmed."""
    if target is None:
        raise UsageError("which column is to be predicted?", "give --target COLUMN, or a whole --schema FILE")
    draft = _draft(file, target)
    if draft.empty_cells:
        listed = ", ".join(f"{name} ({count} cells)" for name, count in draft.empty_cells.items())
        raise UsageError(
            f"{file}: numeric columns with empty or infinite cells: {listed}", "fill or drop them"
        )
    schema = load_schema(draft.text)
    _schema_table(schema)
    learnt = ", ".join(f"{item.what} of {item.column}" for item in draft.from_rows)
    note(
        f"Read from the rows: {learnt}. A schema is public, so confirming it releases them without noise. "
        f"To avoid that: secure-train data draft {file} --target {target} > schema.yaml, put public bounds "
        "into it, and give --schema schema.yaml."
    )
    if yes:
        return schema
    if not sys.stdin.isatty():
        raise UsageError(
            "the schema must be confirmed, and this is no terminal", "give --schema FILE, or --yes"
        )
    typer.confirm("register with this schema?", abort=True, err=True)
    return schema


@app.command()
def draft(
    file: RowsFile,
    target: Annotated[str, typer.Option(help="Column to predict.")],
) -> None:
    """Print a draft of a schema for these rows, to be corrected and given to `register --schema`.

    It is made on this machine; nothing is sent anywhere.
    """
    made = _draft(file, target)
    sys.stdout.write(made.text)
    for name, count in made.empty_cells.items():
        note(f"{name} has {count} empty or infinite cells: fill or drop them before you register")


@app.command()
def register(
    file: RowsFile,
    name: Annotated[str, typer.Option(help="Name of the dataset.")],
    project: Annotated[str, typer.Option(help="Project that it belongs to.")],
    purpose: Annotated[
        list[str], typer.Option(help="A purpose that jobs may state; may be given several times.")
    ],
    budget_epsilon: Annotated[float, typer.Option(help="ε that all jobs together may come to.")],
    budget_delta: Annotated[float, typer.Option(help="δ at which they may; it can never be changed.")],
    composition: Annotated[
        str, typer.Option(help=f"How jobs add up, for good: {' | '.join(COMPOSITIONS)}.")
    ] = "rdp-filter",
    classification: Annotated[str, typer.Option(help=" | ".join(CLASSES))] = "confidential",
    unit: Annotated[str, typer.Option(help="Unit of privacy: record.")] = "record",
    schema: Annotated[
        Path | None, typer.Option(help="Schema file (YAML).", exists=True, dir_okay=False)
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column to predict, when the schema is inferred.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the inferred schema.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Register a dataset: its rows are checked, sealed, and given a privacy budget."""
    if unit != "record":
        raise UsageError(
            f"--unit {unit}: only `record` is supported", "each row must stand for one person or thing"
        )
    if composition not in COMPOSITIONS:
        raise UsageError(f"--composition {composition}: not a rule", f"one of {', '.join(COMPOSITIONS)}")
    if classification not in CLASSES:
        raise UsageError(f"--classification {classification}: not a class", f"one of {', '.join(CLASSES)}")
    given = load_schema(schema) if schema is not None else _confirmed(file, target, yes)
    if target is not None and given.target.name != target:
        raise UsageError(
            f"--target {target}, but the schema's target is {given.target.name}", "give one of them"
        )
    new = NewDataset.model_validate(
        {
            "name": name,
            "project": project,
            "purposes": purpose,
            "classification": CLASSES.index(classification),
            "budget_epsilon": budget_epsilon,
            "budget_delta": budget_delta,
            "composition": composition,
            "data_schema": given.model_dump(mode="json", by_alias=True, exclude_none=True),
            "format": _format(file),
        }
    )
    with connect() as client, file.open("rb") as opened:
        dataset = client.register_dataset(new, opened)
    show(dataset, output, lambda to: _detail(dataset, to))


@app.command("list")
def list_datasets(output: Output = Format.TABLE) -> None:
    """List the datasets that you may read."""
    with connect() as client:
        found = client.datasets()
    columns = ("dataset", "version", "rows", "class", "owner", "purposes")
    lines = [
        (
            f"{d.project}/{d.name}",
            d.versions[-1].version,
            d.versions[-1].training_rows,
            CLASSES[d.classification],
            d.owner,
            ", ".join(d.purposes),
        )
        for d in found
    ]
    show(found, output, rows("Datasets", columns, lines, "none yet; `secure-train data register FILE …`"))


@app.command("show")
def show_dataset(dataset: Reference, output: Output = Format.TABLE) -> None:
    """Show a dataset."""
    with connect() as client:
        found = client.dataset(dataset)
    show(found, output, lambda to: _detail(found, to))
