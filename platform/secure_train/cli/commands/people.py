"""``people`` and ``projects``: who may do what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from secure_train.cli.context import connect
from secure_train.cli.output import Format, Output, note, rows, show
from secure_train.wire.people import (
    NewPrincipal,
    NewProject,
    NewToken,
    PrincipalChange,
    PrincipalView,
    ProjectView,
)

app = typer.Typer(help="People, services and their tokens.", no_args_is_help=True)
projects = typer.Typer(help="Projects.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="Such as user:alice or service:ci.")]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role", help="admin, engineer, data-owner, auditor or operator; may be given several times."
    ),
]
Projects = Annotated[list[str] | None, typer.Option("--project", help="May be given several times.")]
Department = Annotated[str | None, typer.Option(help="Department, an attribute that policies may read.")]
Clearance = Annotated[
    int | None, typer.Option(min=0, max=3, help="0 public, 1 internal, 2 confidential, 3 restricted.")
]


def _principals(found: list[PrincipalView], output: Format) -> None:
    columns = ("id", "roles", "projects", "department", "clearance", "active")
    lines = [
        (
            p.id,
            ", ".join(p.roles),
            ", ".join(p.projects),
            p.department,
            p.clearance,
            "yes" if p.active else "no",
        )
        for p in found
    ]
    show(found, output, rows("People and services", columns, lines, "nobody that you may see"))


@app.command("list")
def list_people(output: Output = Format.TABLE) -> None:
    """List the people and services that you may see."""
    with connect() as client:
        _principals(client.principals(), output)


@app.command()
def create(
    identity: Identity,
    role: Roles = None,
    project: Projects = None,
    department: Department = None,
    clearance: Clearance = None,
    output: Output = Format.TABLE,
) -> None:
    """Create a person or a service."""
    new = NewPrincipal.model_validate(
        {
            "id": identity,
            "roles": role or [],
            "projects": project or [],
            "department": department or "",
            "clearance": clearance or 0,
        }
    )
    with connect() as client:
        _principals([client.create_principal(new)], output)
    note(f"next: secure-train people token {identity}")


@app.command()
def change(
    identity: Identity,
    role: Roles = None,
    project: Projects = None,
    department: Department = None,
    clearance: Clearance = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Inactive ones are refused at once.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Change attributes; roles and projects that are given replace the old ones."""
    wanted = PrincipalChange.model_validate(
        {
            "roles": role,
            "projects": project,
            "department": department,
            "clearance": clearance,
            "active": active,
        }
    )
    with connect() as client:
        _principals([client.change_principal(identity, wanted)], output)


@app.command()
def token(
    identity: Identity,
    days: Annotated[int, typer.Option(min=1, max=366, help="Days until it expires.")] = 90,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Issue a token. It is shown this once."""
    with connect() as client:
        issued = client.issue_token(identity, NewToken(label=label, days=days))
    show(issued, output, lambda to: to.print(issued.secret, soft_wrap=True))
    note(
        f"{issued.token.id} of {identity}, valid until {issued.token.expires_at:%Y-%m-%d}; "
        "it is not shown again"
    )


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


@app.command()
def tokens(identity: Identity, output: Output = Format.TABLE) -> None:
    """List tokens, without their secrets."""
    with connect() as client:
        found = client.tokens(identity)
    columns = ("id", "label", "created", "expires", "revoked")
    lines = [(t.id, t.label, *map(_day, (t.created_at, t.expires_at, t.revoked_at))) for t in found]
    show(
        found,
        output,
        rows(f"Tokens of {identity}", columns, lines, f"none; secure-train people token {identity}"),
    )


@app.command()
def revoke(identity: Identity, token_id: Annotated[str, typer.Argument(help="Such as tok_….")]) -> None:
    """Revoke a token; the next request with it is refused."""
    with connect() as client:
        client.revoke_token(identity, token_id)
    note(f"{token_id} is revoked")


def _projects(found: list[ProjectView], output: Format) -> None:
    lines = [(p.id, p.max_running_jobs, ", ".join(p.members)) for p in found]
    show(
        found,
        output,
        rows("Projects", ("id", "jobs at once", "members"), lines, "no project that you may see"),
    )


@projects.command("list")
def list_projects(output: Output = Format.TABLE) -> None:
    """List the projects that you may see."""
    with connect() as client:
        _projects(client.projects(), output)


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    max_running_jobs: Annotated[int, typer.Option(min=1, max=1000, help="Jobs that may run at once.")] = 1,
    output: Output = Format.TABLE,
) -> None:
    """Create a project."""
    with connect() as client:
        _projects([client.create_project(NewProject(id=name, max_running_jobs=max_running_jobs))], output)
