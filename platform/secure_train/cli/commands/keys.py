"""``keys``: the vault's keys, without their secrets."""

from __future__ import annotations

import typer

from secure_train.cli.context import connect
from secure_train.cli.output import Format, Output, rows, show

app = typer.Typer(help="Keys of the vault.", no_args_is_help=True)


@app.command("list")
def list_keys(output: Output = Format.TABLE) -> None:
    """List the keys: kind, whether it is in use, and the public half where there is one."""
    with connect() as client:
        found = client.keys()
    columns = ("name", "kind", "active", "public key")
    lines = [(k.name, k.kind, "yes" if k.active else "no", k.public_key) for k in found]
    show(found, output, rows("Keys", columns, lines, "the vault is empty"))
