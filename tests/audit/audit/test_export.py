"""Exports: what an auditor can find with nothing but the file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, update
from sqlalchemy.orm import Session

from secure_train.audit import (
    AuditLog,
    Checkpoint,
    Event,
    EventFilter,
    KeySource,
    NoteError,
    NoteSigner,
    Record,
    SignedCheckpoint,
    TamperEvidence,
    export_format,
    export_jsonl,
    export_lines,
    merkle,
    store,
    verify_export,
)
from secure_train.audit.notes import sign_note
from secure_train.audit.tables import events, metadata

Make = Callable[..., Event]
START = datetime(2025, 1, 1, tzinfo=UTC)
BY_BOB = EventFilter(actor="user:bob", since=START + timedelta(hours=1), until=START + timedelta(hours=9))


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, log: AuditLog, event: Make, signer: NoteSigner
) -> Iterator[Engine]:
    """A log of 11 events, an hour apart, with stored checkpoints at 4 and 7. Read only."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('export')}/log.db")
    metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for number in range(11):
            log.append(session, event(number, occurred_at=START + timedelta(hours=number)))
            if number in (3, 6):
                log.checkpoint(session, signer)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def complete(exported: Engine, signer: NoteSigner) -> list[bytes]:
    with Session(exported) as session:
        return list(export_lines(session, signer))


@pytest.fixture(scope="module")
def selected(exported: Engine, signer: NoteSigner) -> list[bytes]:
    with Session(exported) as session:
        return list(export_lines(session, signer, where=BY_BOB))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "export.jsonl"


@pytest.fixture
def kept(exported: Engine, log: AuditLog, signer: NoteSigner) -> Callable[[int], SignedCheckpoint]:
    def at(size: int) -> SignedCheckpoint:
        with Session(exported) as session:
            return SignedCheckpoint.sign(Checkpoint(signer.name, size, log.root(session, size)), signer)

    return at


def resigned(lines: list[bytes], signer: NoteSigner, count: int | None = None) -> list[bytes]:
    """The lines with a fresh trailer: what the operator of the log could forge, holding its key."""
    number = len(lines) - 2 if count is None else count
    digest = sha256(b"".join(lines[:-1])).digest()
    note = sign_note(export_format.trailer_text(signer.name, number, digest), signer)
    return [*lines[:-1], export_format.Trailer(number, note).line()]


def test_an_export_verifies_on_every_database(
    engine: Engine,
    log: AuditLog,
    event: Make,
    signer: NoteSigner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "PAGE", 3)
    with Session(engine) as session, session.begin():
        log.append_many(session, [event(number) for number in range(10)])
        for where, count in [
            (None, 10),
            (EventFilter(type="job.failed"), 4),
            (EventFilter(actor="nobody"), 0),
        ]:
            with (tmp_path / "export").open("wb") as fp:
                assert export_jsonl(session, fp, signer, where=where) == count
            report = verify_export(tmp_path / "export", verifier=signer.verifier)
            assert (report.events, report.complete) == (count, where is None)
            assert report.checkpoint.root == log.root(session)


def test_an_empty_log_can_be_exported(engine: Engine, signer: NoteSigner, scratch: Path) -> None:
    with Session(engine) as session:
        scratch.write_bytes(b"".join(export_lines(session, signer)))
    report = verify_export(scratch)
    assert (report.events, report.complete, report.checkpoint.root) == (0, True, merkle.EMPTY_ROOT)


def test_the_report_says_whose_key_was_used(complete: list[bytes], signer: NoteSigner, scratch: Path) -> None:
    scratch.write_bytes(b"".join(complete))
    assert verify_export(scratch).key_source is KeySource.FILE
    report = verify_export(scratch, verifier=str(signer.verifier))
    assert (report.key_source, report.key, report.origin) == ("given", str(signer.verifier), signer.name)
    stranger = NoteSigner(signer.name, Ed25519PrivateKey.generate())
    with pytest.raises(TamperEvidence, match="not with the given key") as found:
        verify_export(scratch, verifier=stranger.verifier)
    assert found.value.line == 1
    with pytest.raises(NoteError):
        verify_export(scratch, verifier="not a key")


def test_the_report_says_what_was_asked_for(selected: list[bytes], scratch: Path) -> None:
    scratch.write_bytes(b"".join(selected))
    report = verify_export(scratch)
    assert (report.events, report.complete) == (4, False)
    assert report.filter == {
        "actor": "user:bob",
        "since": "2025-01-01T01:00:00.000000Z",
        "until": "2025-01-01T09:00:00.000000Z",
    }


KINDS = pytest.mark.parametrize("kind", ["complete", "selected"])


@KINDS
def test_one_changed_byte_anywhere_is_found(kind: str, request: pytest.FixtureRequest, scratch: Path) -> None:
    raw = b"".join(request.getfixturevalue(kind))
    scratch.write_bytes(raw)
    verify_export(scratch)

    @settings(max_examples=400, deadline=None)
    @given(at=st.integers(0, len(raw) - 1), mask=st.integers(1, 255))
    @example(at=len(raw) - 1, mask=1)
    @example(at=0, mask=1)
    def changed(at: int, mask: int) -> None:
        scratch.write_bytes(raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :])
        with pytest.raises(TamperEvidence) as found:
            verify_export(scratch)
        assert found.value.line is not None
        # The reader notices in the line itself, or where a broken line end joins two lines.
        assert raw[:at].count(b"\n") + 1 <= found.value.line <= len(raw.splitlines())

    changed()


@KINDS
def test_a_file_cut_off_anywhere_is_found(kind: str, request: pytest.FixtureRequest, scratch: Path) -> None:
    raw = b"".join(request.getfixturevalue(kind))
    for length in range(0, len(raw), 7):
        scratch.write_bytes(raw[:length])
        with pytest.raises(TamperEvidence) as found:
            verify_export(scratch)
        assert found.value.line == raw[:length].count(b"\n") + 1


@KINDS
def test_an_edited_removed_reordered_or_added_line_is_found_and_named(
    kind: str, request: pytest.FixtureRequest, scratch: Path, signer: NoteSigner
) -> None:
    lines: list[bytes] = request.getfixturevalue(kind)
    edited = lines[3].replace(b'"actor":"user:', b'"actor":"user;')
    tampered = [
        (4, [*lines[:3], edited, *lines[4:]]),
        (4, [*lines[:3], *lines[4:]]),
        (3, [*lines[:2], lines[3], lines[2], *lines[4:]]),
        (4, [*lines[:3], lines[2], *lines[3:]]),
        (2, [lines[0], *lines[2:]]),
        (len(lines) + 1, [*lines, lines[-1]]),
        (len(lines), [*lines[:-1], b'{"count":1}\n']),
    ]
    for line, changed in tampered:
        # With or without the log's key to sign the changed bytes.
        for version in [changed, resigned(changed, signer)] if line <= 4 else [changed]:
            scratch.write_bytes(b"".join(version))
            with pytest.raises(TamperEvidence) as found:
                verify_export(scratch, verifier=signer.verifier)
            assert found.value.line == line


def test_a_rewritten_event_is_found_though_its_leaf_hash_was_rewritten_too(
    complete: list[bytes], scratch: Path, signer: NoteSigner, kept: Callable[[int], SignedCheckpoint]
) -> None:
    body, _ = export_format.split_complete(complete[6])
    forged = body.replace(b"user:alice", b"user:eve__").replace(b"user:bob", b"user:eve")
    assert Record.parse(forged).seq == 5
    line = export_format.complete_line(forged, merkle.leaf_hash(forged))
    scratch.write_bytes(b"".join(resigned([*complete[:6], line, *complete[7:]], signer)))
    with pytest.raises(TamperEvidence, match="not those that the checkpoint was signed for") as found:
        verify_export(scratch)
    assert found.value.index == 0
    with pytest.raises(TamperEvidence, match="not those that the checkpoint") as found:
        verify_export(scratch, kept=kept(4))
    assert found.value.index == 4
    with pytest.raises(TamperEvidence, match="not those of the kept checkpoint") as found:
        verify_export(scratch, kept=kept(7))
    assert found.value.line == 8


def test_a_complete_export_with_its_end_taken_away_is_found_though_signed_again(
    complete: list[bytes], scratch: Path, signer: NoteSigner
) -> None:
    scratch.write_bytes(b"".join(resigned([*complete[:-2], complete[-1]], signer)))
    with pytest.raises(TamperEvidence, match="11 events belong before this line; the file has 10") as found:
        verify_export(scratch)
    assert found.value.index == 10


def test_an_event_that_the_filter_does_not_ask_for_is_found(
    exported: Engine, selected: list[bytes], scratch: Path, signer: NoteSigner
) -> None:
    with Session(exported) as session:
        others = list(export_lines(session, signer, where=EventFilter(actor="user:alice")))
    for header in (selected[0], selected[0].replace(b'"actor":', b'"actot":')):
        scratch.write_bytes(b"".join(resigned([header, others[1], selected[-1]], signer)))
        with pytest.raises(TamperEvidence, match="filter") as found:
            verify_export(scratch)
        assert (found.value.line, found.value.index) == (2, 1)


@KINDS
@pytest.mark.parametrize("size", [0, 4, 7, 11])
def test_an_export_is_proven_to_extend_a_kept_checkpoint(
    kind: str,
    request: pytest.FixtureRequest,
    scratch: Path,
    kept: Callable[[int], SignedCheckpoint],
    size: int,
) -> None:
    scratch.write_bytes(b"".join(request.getfixturevalue(kind)))
    assert verify_export(scratch, kept=kept(size)).kept_size == size


@KINDS
def test_an_export_that_contradicts_a_kept_checkpoint_is_found(
    kind: str, request: pytest.FixtureRequest, scratch: Path, signer: NoteSigner
) -> None:
    scratch.write_bytes(b"".join(request.getfixturevalue(kind)))
    for size in (0, 4, 11, 12):
        contradiction = SignedCheckpoint.sign(Checkpoint(signer.name, size, bytes(32)), signer)
        with pytest.raises(TamperEvidence, match="kept checkpoint"):
            verify_export(scratch, kept=contradiction)
    stranger = NoteSigner(signer.name, Ed25519PrivateKey.generate())
    with pytest.raises(NoteError):
        verify_export(scratch, kept=SignedCheckpoint.sign(Checkpoint(signer.name, 4, bytes(32)), stranger))


def test_a_selection_without_a_proof_for_the_kept_checkpoint_is_refused(
    selected: list[bytes], scratch: Path, kept: Callable[[int], SignedCheckpoint]
) -> None:
    scratch.write_bytes(b"".join(selected))
    with pytest.raises(TamperEvidence, match="ask for a complete export"):
        verify_export(scratch, kept=kept(5))


@pytest.mark.parametrize("where", [None, EventFilter(project="fraud")])
def test_a_damaged_log_yields_no_valid_export(
    engine: Engine, log: AuditLog, event: Make, signer: NoteSigner, where: EventFilter | None
) -> None:
    with Session(engine) as session, session.begin():
        log.append_many(session, [event(number) for number in range(6)])
    damages = [
        update(events).where(events.c.seq == 3).values(body=b"{}"),
        delete(events).where(events.c.seq == 3),
    ]
    for damage in damages[: 2 if where is None else 1]:
        with engine.connect() as connection:
            connection.execute(damage)
            fp = io.BytesIO()
            with pytest.raises(TamperEvidence) as found:
                export_jsonl(connection, fp, signer, where=where)
            assert found.value.index == 3
            assert b'"count"' not in fp.getvalue()


def test_a_line_without_end_does_not_fill_the_memory(scratch: Path) -> None:
    scratch.write_bytes(b"{" * (export_format.MAX_LINE_BYTES + 2))
    with pytest.raises(TamperEvidence, match="longer than"):
        verify_export(scratch)


@pytest.mark.parametrize(
    "change", [(b"audit/1", b"audit/2"), (b'"filter":{', b'"filter":{"x":1,'), (b'"filter"', b'"fi"')]
)
def test_a_header_of_another_kind_is_refused(
    complete: list[bytes], scratch: Path, change: tuple[bytes, bytes]
) -> None:
    scratch.write_bytes(b"".join([complete[0].replace(*change), *complete[1:]]))
    with pytest.raises(TamperEvidence, match="header") as found:
        verify_export(scratch)
    assert found.value.line == 1
