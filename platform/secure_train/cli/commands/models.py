"""``models``: what jobs have published."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from secure_train.cli.context import connect
from secure_train.cli.errors import UsageError
from secure_train.cli.model_card import print_card
from secure_train.cli.output import Format, Output, console, facts, note, rows, show
from secure_train.client import Client
from secure_train.wire.models import ModelVersionView, Prediction

TABLE_ROWS = 40
"""More predictions than these are CSV on a terminal too."""
app = typer.Typer(help="Published models.", no_args_is_help=True)
Reference = Annotated[
    str, typer.Argument(help="PROJECT/NAME, or PROJECT/NAME@VERSION; without a version, the newest.")
]


def _version(client: Client, reference: str) -> tuple[str, ModelVersionView]:
    name, _, given = reference.partition("@")
    versions = client.model(name).versions
    if not given:
        return name, versions[-1]
    for version in versions:
        if str(version.version) == given:
            return name, version
    known = ", ".join(str(version.version) for version in versions)
    raise UsageError(f"{name} has no version {given!r}", f"its versions: {known}")


def _guarantee(version: ModelVersionView) -> tuple[str, str]:
    guarantee = version.statement["guarantee"]
    return f"{guarantee['total_epsilon']:.4g}", f"{guarantee['delta']:g}"


@app.command("list")
def list_models(output: Output = Format.TABLE) -> None:
    """List the models that you may read."""
    with connect() as client:
        found = client.models()
    lines = [
        (f"{m.project}/{m.name}@{v.version}", v.stage, *_guarantee(v), v.job_id)
        for m in found
        for v in m.versions
    ]
    show(
        found,
        output,
        rows("Models", ("model", "stage", "ε", "δ", "job"), lines, "none yet; `secure-train submit`"),
    )


@app.command("show")
def show_model(model: Reference, output: Output = Format.TABLE) -> None:
    """Show a version: metrics, privacy and lineage; `-o json` has the whole DP statement."""
    with connect() as client:
        _, version = _version(client, model)
    show(version, output, lambda to: print_card(version, to))


@app.command()
def statement(
    model: Reference,
    audit: Annotated[
        Path | None,
        typer.Option(help="What `privacy audit -o json` printed.", exists=True, dir_okay=False),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page to this file.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show a version's DP statement, with what its dataset has spent in all and with an audit of yours."""
    from secure_train.api.report.statement_page import render_statement, sections
    from secure_train.cli.statement import current_statement

    with connect() as client:
        name, version = _version(client, model)
        found = current_statement(client, version, audit)
    reference = f"{name}@{version.version}"
    if html is not None:
        html.write_text(render_statement(reference, found), encoding="utf-8")
        note(f"page: {html}")

    def text(to: Console) -> None:
        to.print(f"DP statement of {reference}", markup=False)
        for section in sections(found):
            to.print(f"\n[bold]{section.title}[/]")
            facts([(item, value) for item, value, _ in section.rows], to)

    show(found, output, text)


@app.command()
def download(
    model: Reference,
    to: Annotated[Path | None, typer.Option("--to", help="File to write; default NAME-VERSION.zip.")] = None,
) -> None:
    """Download weights (safetensors) with lineage and DP statement as one zip, and print where it is."""
    with connect() as client:
        name, version = _version(client, model)
        content = client.download_model(name, version.version)
    target = to or Path(f"{version.model}-{version.version}.zip")
    target.write_bytes(content)
    console().print(str(target), markup=False)
    note(f"{len(content)} bytes")


@app.command()
def predict(
    model: Reference,
    input_file: Annotated[
        Path, typer.Option("--input", exists=True, dir_okay=False, help="CSV with the schema's columns.")
    ],
    target: Annotated[Path | None, typer.Option("--to", help="CSV file to write; else stdout.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Apply a model to rows of your own: CSV with a line for each row, in their order.

    A few rows on a terminal become a table.
    """
    with connect() as client:
        name, version = _version(client, model)
        prediction = client.predict(name, version.version, input_file)
    if target is not None:
        with target.open("w", encoding="utf-8", newline="") as file:
            _write_csv(prediction, file)
        note(f"{len(prediction.rows)} predictions are in {target}")
        return

    def text(to: Console) -> None:
        if to.is_terminal and len(prediction.rows) <= TABLE_ROWS:
            rows("Predictions", _header(prediction), list(_lines(prediction)), "the file has no rows")(to)
        else:
            _write_csv(prediction, sys.stdout)

    show(prediction, output, text)


def _header(prediction: Prediction) -> list[str]:
    return ["row", *prediction.columns, *([] if prediction.labels is None else ["label"])]


def _lines(prediction: Prediction) -> Iterator[list[object]]:
    labels = (
        [[]] * len(prediction.rows) if prediction.labels is None else [[one] for one in prediction.labels]
    )
    for index, (values, label) in enumerate(zip(prediction.rows, labels, strict=True), start=1):
        yield [index, *(f"{value:.4f}" for value in values), *label]


def _write_csv(prediction: Prediction, file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_header(prediction))
    writer.writerows(_lines(prediction))


@app.command()
def promote(model: Reference, comment: Annotated[str, typer.Option(help="Why.")] = "") -> None:
    """Promote a version to production; whoever submitted its job may not."""
    with connect() as client:
        name, version = _version(client, model)
        promoted = client.promote(name, version.version, comment)
    note(f"{name}@{promoted.version} is in {promoted.stage}, promoted by {promoted.promoted_by}")


@app.command()
def delete(model: Reference, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Retire a version and destroy its sealed weights."""
    with connect() as client:
        name, version = _version(client, model)
        if not yes:
            typer.confirm(f"destroy the weights of {name}@{version.version}?", abort=True, err=True)
        client.delete_model(name, version.version)
    note(f"{name}@{version.version} is destroyed")
