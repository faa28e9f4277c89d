"""``models``: what jobs have published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secure_train.cli.context import connect
from secure_train.cli.errors import UsageError
from secure_train.cli.output import Format, Output, console, note, rows, show
from secure_train.client import Client
from secure_train.wire.models import ModelVersionView

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
    """Show a version: metrics, lineage and the DP statement."""
    with connect() as client:
        _, version = _version(client, model)

    def text(to: Console) -> None:
        to.print(
            f"{version.project}/{version.model}@{version.version}  {version.stage}  digest {version.digest}"
        )
        for title, values in (
            ("metrics", version.metrics),
            ("lineage", version.lineage),
            ("DP statement", version.statement),
        ):
            to.print(f"\n[bold]{title}[/]")
            for name, value in values.items():
                to.print(f"  {name}: {value}", markup=False)

    show(version, output, text)


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
    output: Output = Format.TABLE,
) -> None:
    """Apply a model to rows of your own."""
    with connect() as client:
        name, version = _version(client, model)
        prediction = client.predict(name, version.version, input_file)
    labels = prediction.labels or [""] * len(prediction.rows)
    lines = [
        (index, *(f"{value:.4f}" for value in values), label)
        for index, (values, label) in enumerate(zip(prediction.rows, labels, strict=True), start=1)
    ]
    show(
        prediction,
        output,
        rows("Predictions", ("row", *prediction.columns, "label"), lines, "the file has no rows"),
    )


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
