"""``login`` and ``context``: which control plane, and as whom."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from secure_train.cli import context as contexts
from secure_train.cli.address import control_plane_url
from secure_train.cli.errors import UsageError
from secure_train.cli.output import Format, Output, note, rows, show
from secure_train.client import Client

app = typer.Typer(help="The control planes you are logged in to.", no_args_is_help=True)


def login(
    url: Annotated[
        str, typer.Option(help="URL of the control plane; HOST:PORT is enough for one on this machine.")
    ],
    name: Annotated[str, typer.Option(help="Name of the context.")] = "default",
    output: Output = Format.TABLE,
) -> None:
    """Log in with an API token, read from a hidden prompt or from stdin."""
    url = control_plane_url(url, "--url")
    token = (
        typer.prompt("token", hide_input=True, err=True)
        if sys.stdin.isatty()
        else sys.stdin.readline().strip()
    )
    if not token:
        raise UsageError("no token was given", "`secure-train people token user:NAME` issues one")
    with Client(url, token) as client:
        principal = client.login()
    contexts.save(contexts.Context(name, url, token, principal.id))
    show(principal, output, lambda to: to.print(f"logged in to {url} as {principal.id}"))


@app.command("list")
def list_contexts(output: Output = Format.TABLE) -> None:
    """List the contexts; tokens are not shown."""
    current, found = contexts.load()
    data = [
        {"name": c.name, "user": c.user, "url": c.url, "current": c.name == current} for c in found.values()
    ]
    lines = [("*" if one["current"] else "", one["name"], one["user"], one["url"]) for one in data]
    empty = "none; `secure-train up` starts a local stack, `secure-train login --url …` uses another"
    show(data, output, rows("Contexts", ("", "name", "user", "url"), lines, empty, lead=2))


@app.command()
def use(name: Annotated[str, typer.Argument(help="Name of the context.")]) -> None:
    """Make a context the current one."""
    context = contexts.use(name)
    note(f"now {context.user} at {context.url} (context {name})")
