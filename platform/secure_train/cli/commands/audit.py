"""``audit``: the trail, its proofs, and exports that verify without us."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secure_train.cli import context as contexts
from secure_train.cli.context import connect
from secure_train.cli.errors import CliError, UsageError
from secure_train.cli.output import Format, Output, console, note, note_more, rows, show
from secure_train.client import ApiError

app = typer.Typer(help="The audit trail.", no_args_is_help=True)
Type = Annotated[str | None, typer.Option("--type", help="Such as job.submitted.")]
Actor = Annotated[str | None, typer.Option(help="Such as user:alice.")]
Subject = Annotated[str | None, typer.Option(help="Such as job:job_….")]
Project = Annotated[str | None, typer.Option(help="Name of a project.")]


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise typer.BadParameter(
            "write 2026-01-31 or 2026-01-31T08:00, with +01:00 or Z if not local"
        ) from error


Since = Annotated[
    datetime | None,
    typer.Option(parser=_time, metavar="TIME", help="From this ISO 8601 time on; local without an offset."),
]
Until = Annotated[datetime | None, typer.Option(parser=_time, metavar="TIME", help="Before this time.")]


class Tampered(CliError):
    """The trail or the export is not what was signed."""

    code = "tampered"


def _filters(
    kind: str | None,
    actor: str | None,
    subject: str | None,
    project: str | None,
    since: datetime | None,
    until: datetime | None,
) -> dict[str, str | None]:
    return {
        "type": kind,
        "actor": actor,
        "subject": subject,
        "project": project,
        "since": None if since is None else since.isoformat(),
        "until": None if until is None else until.isoformat(),
    }


@app.command("list")
def list_events(
    kind: Type = None,
    actor: Actor = None,
    subject: Subject = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    after: Annotated[int | None, typer.Option(help="Continue behind this event.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=999, help="Events to list at most.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """List events in order, oldest first, and say if there are more."""
    with connect() as client:
        found = client.audit_events(
            **_filters(kind, actor, subject, project, since, until), after=after, limit=limit + 1
        )
    listed = found[:limit]
    lines = [(e.seq, f"{e.time:%Y-%m-%d %H:%M:%S}", e.type, e.actor, e.subject) for e in listed]
    show(
        listed,
        output,
        rows("Audit events", ("seq", "time", "type", "actor", "subject"), lines, "no event matches", lead=3),
    )
    last = listed[-1].seq if listed else 0
    how = f"--after {last} goes on from there, --limit lists more at once, --since and --type fewer"
    note_more(found, limit, how)


@app.command()
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(help="An export; without one, the control plane's own trail.", exists=True),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Verifier key to trust, name+id+base64; else the export's own.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Verify an export offline, or the control plane's own trail against the checkpoint you kept."""
    if file is not None:
        _verify_file(file, key, output)
        return
    context = contexts.current()
    kept = contexts.kept_checkpoint(context)
    with connect() as client:
        try:
            result = client.verify_audit(kept)
        except ApiError as error:
            # Nothing but the kept checkpoint can be invalid: it is signed, but not by this trail's key.
            if error.body.code == "conflict" or (kept is not None and error.body.code == "invalid"):
                raise Tampered(
                    error.body.message, "keep the database as it is and call your security team"
                ) from error
            raise
        checkpoint = client.audit_checkpoint()
    _check_signature(checkpoint.note, checkpoint.verifier_key)
    path = contexts.keep_checkpoint(context, checkpoint.note)

    def text(to: Console) -> None:
        to.print(f"verified {result.events} events, root {result.root}")

    show(result, output, text)
    note(f"the checkpoint is kept in {path}; the next verification is held against it")


def _check_signature(note_text: str, verifier_key: str) -> None:
    from secure_train.audit import AuditError, NoteVerifier, SignedCheckpoint

    try:
        SignedCheckpoint.parse(note_text).verify(NoteVerifier.parse(verifier_key))
    except AuditError as error:
        raise Tampered(f"the checkpoint's signature is not valid: {error}") from error


def _verify_file(file: Path, key: str | None, output: Format) -> None:
    from secure_train.audit import AuditError, verify_export

    try:
        report = verify_export(file, verifier=key)
    except AuditError as error:
        raise Tampered(f"{file}: {error}", "ask for a new export, and keep this one as evidence") from error
    data = {
        "events": report.events,
        "root": report.checkpoint.root.hex(),
        "complete": report.complete,
        "key_source": str(report.key_source),
        "verified": True,
    }

    def text(to: Console) -> None:
        to.print(f"verified {report.events} events, root {report.checkpoint.root.hex()}")

    show(data, output, text)
    if key is None:
        note("the key is the one in the file: compare it with the one your control plane published (--key)")


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("audit.jsonl"),
    form: Annotated[str, typer.Option("--format", help="jsonl.")] = "jsonl",
    kind: Type = None,
    actor: Actor = None,
    subject: Subject = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write an export with checkpoint and proofs, and print where; `audit verify FILE` checks it offline."""
    if form != "jsonl":
        raise UsageError(f"--format {form}: not a format of exports", "use jsonl")
    partial = to.with_name(to.name + ".part")
    with connect() as client, partial.open("wb") as file:
        size = client.export_audit(file, **_filters(kind, actor, subject, project, since, until))
    partial.replace(to)
    console().print(str(to), markup=False)
    note(f"{size} bytes; check it with `secure-train audit verify {to}`")


@app.command()
def prove(
    seq: Annotated[int, typer.Argument(help="Sequence number of the event.")], output: Output = Format.TABLE
) -> None:
    """Prove that an event is in the signed trail."""
    with connect() as client:
        proof = client.prove(seq)

    def text(to: Console) -> None:
        to.print(proof.leaf, markup=False)
        to.print(f"inclusion proof in the tree of {proof.checkpoint.size} events:")
        for value in proof.hashes:
            to.print(f"  {value}")
        to.print(proof.checkpoint.note, markup=False)

    show(proof, output, text)
