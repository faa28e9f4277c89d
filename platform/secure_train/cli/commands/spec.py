"""``spec``: the files to submit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from secure_train.cli.output import note
from secure_train.spec import json_schema, load_submittable, search_json_schema

app = typer.Typer(help="The job file's format.", no_args_is_help=True)


@app.command()
def schema(search: Annotated[bool, typer.Option("--search", help="Of search.yaml.")] = False) -> None:
    """Print the JSON Schema of job.yaml, or of search.yaml."""
    made = search_json_schema() if search else json_schema()
    sys.stdout.write(json.dumps(made, indent=2) + "\n")


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A job.yaml or search.yaml.", exists=True, dir_okay=False)],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a.b=c, as in submit.")] = None,
) -> None:
    """Check a job or search file, without a control plane; every error at once."""
    job = load_submittable(file, overrides=overrides or [])
    note(f"{file} is a valid {job.kind}")
