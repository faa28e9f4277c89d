"""The stack on this machine: ``up``, ``down``, ``status``, ``doctor``, and the process itself, ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from secure_train.cli import context as contexts
from secure_train.cli.errors import CliError, StackError
from secure_train.cli.output import Format, Output, note, rows, show

if TYPE_CHECKING:
    from secure_train.api.settings import Settings
    from secure_train.db import Database

HomePath = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Directory of the stack; else $SECURE_TRAIN_HOME, else ~/.local/share/secure-train."
    ),
]
database = typer.Typer(help="The control plane's database.", no_args_is_help=True)


def _settings(home: Path | None) -> Settings:
    from secure_train.api.errors import ConfigurationError
    from secure_train.api.settings import Settings
    from secure_train.cli.stack import Home

    try:
        return Settings.load(Home.at(home).path)
    except ConfigurationError as error:
        raise StackError(str(error)) from error


def up(
    home: HomePath = None,
    context: Annotated[str, typer.Option(help="Name of the context that is written.")] = "local",
    output: Output = Format.TABLE,
) -> None:
    """Start the stack on this machine: a control plane and a local Ray cluster.

    The first start creates user:admin, prints the token this once, and logs you in with it.
    """
    from secure_train.cli import stack

    place = stack.Home.at(home)
    _settings(home)
    running = stack.up(place, lambda url, token: _log_in(context, url, token), note)
    _follow_move(context, running.url)
    data = {
        "home": str(place.path),
        "url": running.url,
        "pid": running.pid,
        "ray": running.ray,
        "admin_token": running.admin_token,
    }

    def text(to: Console) -> None:
        to.print(f"{'url':<12} {running.url}", markup=False)
        to.print(f"{'home':<12} {place.path}", markup=False)
        if running.admin_token is not None:
            to.print(f"{'user:admin':<12} {running.admin_token}", markup=False, soft_wrap=True)

    show(data, output, text)
    if running.admin_token is not None:
        note(f"The token is not shown again. You are logged in as user:admin (context {context}).")
        note("next: secure-train projects create NAME, secure-train people create user:YOU --role engineer …")
    elif context not in contexts.load()[1]:
        note(f"log in with: secure-train login --url {running.url}")


def _log_in(name: str, url: str, token: str) -> None:
    from secure_train.identity.people import FIRST_ADMIN

    new = contexts.Context(name, url, token, FIRST_ADMIN)
    contexts.forget_checkpoint(new)
    contexts.save(new)


def _follow_move(name: str, url: str) -> None:
    """Correct the context's URL if the stack came up on another port."""
    from secure_train.cli.stack.control_plane import answers

    current, known = contexts.load()
    kept = known.get(name)
    if kept is None or kept.url == url or answers(kept.url):
        return
    moved = contexts.Context(name, url, kept.token, kept.user)
    checkpoint = contexts.kept_checkpoint(kept)
    if checkpoint is not None:
        contexts.keep_checkpoint(moved, checkpoint)
    contexts.save(moved)
    if current is not None:
        contexts.use(current)
    note(f"context {name}: {kept.url} is now {url}")


def down(home: HomePath = None) -> None:
    """Stop the stack on this machine.

    Jobs that run are taken up again at the next start.
    """
    from secure_train.cli import stack

    ran = stack.down(stack.Home.at(home), note)
    note("stopped" if ran else "nothing was running")


class NotRunning(CliError):
    """A part of the stack does not run."""

    code = "not_running"


def status(home: HomePath = None, output: Output = Format.TABLE) -> None:
    """Say what runs on this machine.

    The exit status is 1 unless all of it does.
    """
    from secure_train.cli import stack

    place = stack.Home.at(home)
    _settings(home)
    state = stack.look(place)
    data = {
        "home": str(place.path),
        "control_plane": {"url": state.url, "pid": state.pid, "answers": state.answers},
        "ray": {"address": state.ray},
    }
    plane = "stopped" if state.pid is None else "running" if state.answers else "does not answer"
    lines = [
        ("control plane", plane, state.url, state.pid),
        ("ray", "stopped" if state.ray is None else "running", state.ray, ""),
    ]
    failure = None
    if not state.runs:
        stopped = state.pid is None and state.ray is None
        failure = NotRunning(
            "nothing runs" if stopped else "not all of it runs", "secure-train up starts what does not run"
        )
    table = rows(f"Stack in {place.path}", ("part", "state", "address", "pid"), lines, "")
    show(data, output, table, failure=failure)


def doctor(home: HomePath = None, output: Output = Format.TABLE) -> None:
    """Check everything the stack needs, and say what to do about what fails."""
    from secure_train.cli.doctor import examine
    from secure_train.cli.stack import Home

    found = examine(Home.at(home))
    failed = [check for check in found if check.ok is False]
    lines = [
        ({True: "ok", False: "FAILS", None: "-"}[c.ok], c.name, c.finding, c.remedy if c.ok is False else "")
        for c in found
    ]
    data = {"checks": [check.to_json() for check in found]}
    failure = None
    if failed:
        names = ", ".join(check.name for check in failed)
        failure = CliError(f"{len(failed)} of {len(found)} checks fail: {names}", failed[0].remedy)
    show(data, output, rows("", ("", "check", "found", "what to do"), lines, "", lead=2), failure=failure)


def serve(
    home: HomePath = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    migrate: Annotated[bool, typer.Option("--migrate", help="Bring the database up to date first.")] = False,
    record: Annotated[
        Path | None, typer.Option(hidden=True, help="Where to write which process this is.")
    ] = None,
) -> None:
    """Run a control plane in the foreground."""
    from secure_train.api.errors import ConfigurationError
    from secure_train.api.serve import listen
    from secure_train.api.serve import serve as run
    from secure_train.cli.stack import Home
    from secure_train.cli.stack.control_plane import record_this_process
    from secure_train.cli.stack.ray import with_embedded_ray

    place = Home.at(home)
    place.create()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = with_embedded_ray(place, _settings(home).model_copy(update=given))
    try:
        with listen(settings) as listening:
            # Recorded only now: who is recorded holds the port, so whoever answers there is this process.
            if record is not None:
                record_this_process(record, settings.url)
            run(settings, listening, migrate=migrate)
    except ConfigurationError as error:
        raise StackError(str(error)) from error


def _open(home: Path | None) -> Database:
    from secure_train.cli.stack import Home
    from secure_train.db import Database

    Home.at(home).create()
    return Database(_settings(home).database_url)


@database.command()
def upgrade(home: HomePath = None) -> None:
    """Bring the database's schema to the one this version needs."""
    from secure_train.db import migrate

    opened = _open(home)
    try:
        before = migrate.current(opened)
        migrate.upgrade(opened)
        after = migrate.current(opened)
    finally:
        opened.close()
    note(f"at {after} already" if before == after else f"migrated from {before or 'nothing'} to {after}")


@database.command("first-admin")
def create_first_admin(home: HomePath = None, output: Output = Format.TABLE) -> None:
    """Create user:admin in a new database and print the token, this once. `up` does it by itself."""
    from secure_train.cli.stack.bootstrap import first_admin

    def tell(token: str) -> None:
        # Said before it is committed: a token that was never said would lock everybody out.
        data = {"principal": "user:admin", "token": token}
        show(data, output, lambda to: to.print(token, markup=False, soft_wrap=True))

    if first_admin(_settings(home), tell) is None:
        raise StackError("this database has principals already", "ask one of its administrators for a token")
