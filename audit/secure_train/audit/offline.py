"""Verification of an export with nothing but the file: no database, no network, no trust in the platform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import IO

from secure_train.audit import export_format, merkle
from secure_train.audit.checkpoint import SignedCheckpoint
from secure_train.audit.errors import NoteError, ProofError, TamperEvidence
from secure_train.audit.event import Record
from secure_train.audit.export_format import Header, Trailer
from secure_train.audit.notes import NoteVerifier, open_note


class KeySource(StrEnum):
    """Where the key came from that the signatures were checked with."""

    GIVEN = "given"
    """The caller's own copy: the export is from the log that it says."""
    FILE = "file"
    """The export's header: trust on first use. Proves that the file is whole, not who made it."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What a verified export is.

    Attributes:
        origin: the log that it says it is from.
        events: number of events in the file.
        checkpoint: signed head of the log at the time of the export; worth keeping.
        complete: True if it holds every event of the log up to the checkpoint. If False, each event in it
            is proven to be in the log, but that none was left out rests on the log's signature.
        filter: what was asked for; empty if complete.
        key: verifier key used, in C2SP form.
        key_source: whether that key is the caller's or only the file's own.
        kept_size: size of the kept checkpoint that the export was proven to extend; None if none was given.
    """

    origin: str
    events: int
    checkpoint: SignedCheckpoint
    complete: bool
    filter: dict[str, str]
    key: str
    key_source: KeySource
    kept_size: int | None


def verify_export(
    path: str | Path, *, verifier: str | NoteVerifier | None = None, kept: SignedCheckpoint | None = None
) -> ExportReport:
    """Verify an export written by `export_jsonl`. Memory stays flat.

    Args:
        path: the file.
        verifier: the log's verifier key, obtained from elsewhere than the file. Without it the key in the
            file is used and `ExportReport.key_source` says so.
        kept: a checkpoint kept from earlier, which the export must extend.

    Raises:
        TamperEvidence: the file is not what the log exported; names the line and, if there is one, the event.
        NoteError: `verifier` is malformed, or `kept` is not signed by the key in use.
        OSError: the file cannot be read.
    """
    given = NoteVerifier.parse(verifier) if isinstance(verifier, str) else verifier
    with Path(path).open("rb") as fp:
        return _Export(fp, given, kept).verify()


class _Export:
    """One pass over the lines of a file."""

    def __init__(self, fp: IO[bytes], given: NoteVerifier | None, kept: SignedCheckpoint | None) -> None:
        self._fp = fp
        self._kept = kept
        self._line = 0
        self._index: int | None = None
        self._confirmed = 0  # events covered by a kept checkpoint that has been confirmed
        self._digest = sha256()
        first = self._read()
        try:
            self._header = Header.parse(first)
            named = NoteVerifier.parse(self._header.verifier)
            self._key = given or named
            self._source = KeySource.FILE if given is None else KeySource.GIVEN
            if named != self._key:
                raise NoteError(f"the file is signed with {named}, not with the given key {self._key}")
            self._head = SignedCheckpoint.parse(self._header.checkpoint)
            self._head.verify(self._key)
        except (ValueError, NoteError) as error:
            raise self._tampered(f"header: {error}") from error
        self._digest.update(first)
        if kept is not None:
            kept.verify(self._key)

    def verify(self) -> ExportReport:
        """Read to the end and report."""
        kept_size = None if self._kept is None else self._kept.size
        if kept_size is not None and kept_size > self._head.size:
            self._index = self._head.size
            raise self._tampered(
                f"the export ends at {self._head.size} events, the kept checkpoint covers {kept_size}: "
                "this is an older export, or the log was cut back"
            )
        complete = not self._header.filter
        count = self._check_complete() if complete else self._check_selected()
        return ExportReport(
            origin=self._key.name,
            events=count,
            checkpoint=self._head,
            complete=complete,
            filter=dict(self._header.filter),
            key=str(self._key),
            key_source=self._source,
            kept_size=kept_size,
        )

    def _check_complete(self) -> int:
        tree = merkle.Frontier()
        self._compare_kept(tree)
        for line in self._events(expected=self._head.size):
            self._index = tree.size
            try:
                body, leaf = export_format.split_complete(line)
                if merkle.leaf_hash(body) != leaf:
                    raise ValueError("the event does not have its leaf hash: it was edited")
                record = Record.parse(body)
            except ValueError as error:
                raise self._tampered(str(error)) from error
            if record.seq != tree.size:
                raise self._tampered(f"event {tree.size} is missing here; the line holds event {record.seq}")
            tree.push(leaf)
            self._compare_kept(tree)
        if tree.root() != self._head.root:
            self._index = self._confirmed
            raise self._tampered("the events are not those that the checkpoint was signed for")
        return tree.size

    def _compare_kept(self, tree: merkle.Frontier) -> None:
        if self._kept is None or self._kept.size != tree.size:
            return
        if self._kept.root != tree.root():
            self._index = 0
            raise self._tampered(
                f"the first {tree.size} events are not those of the kept checkpoint: history was rewritten"
            )
        self._confirmed = tree.size

    def _check_selected(self) -> int:
        self._check_kept_by_proof()
        head, count, last = self._head, 0, -1
        for line in self._events(expected=None):
            self._index = None
            try:
                body, ordinal, proof = export_format.split_selected(line)
                record = Record.parse(body)
                self._index = record.seq
                merkle.verify_inclusion(merkle.leaf_hash(body), record.seq, head.size, proof, head.root)
            except (ValueError, ProofError) as error:
                raise self._tampered(str(error)) from error
            if ordinal != count or record.seq <= last:
                raise self._tampered(f"selected event {count} is missing or out of order here")
            self._check_matches(record)
            count, last = count + 1, record.seq
        return count

    def _check_matches(self, record: Record) -> None:
        for name, value in self._header.filter.items():
            if name == "since":
                fits = record.time >= value
            elif name == "until":
                fits = record.time < value
            elif name in ("type", "actor", "subject", "project"):
                fits = getattr(record, name) == value
            else:
                raise self._tampered(f"the header has an unknown filter, {name}")
            if not fits:
                raise self._tampered(f"the event does not match the filter {name}={value}")

    def _check_kept_by_proof(self) -> None:
        kept, head = self._kept, self._head
        if kept is None:
            return
        proof = () if kept.size in (0, head.size) else self._header.consistency.get(kept.size)
        if proof is None:
            raise self._tampered(
                f"the export has no proof that it extends the kept checkpoint of {kept.size} events; "
                "ask for a complete export"
            )
        try:
            merkle.verify_consistency(kept.size, head.size, proof, kept.root, head.root)
        except ProofError as error:
            self._index = 0
            raise self._tampered(f"kept checkpoint: {error}: history was rewritten") from error

    def _events(self, expected: int | None) -> Iterator[bytes]:
        """The event lines; then the trailer is checked, and with it that nothing follows."""
        count = 0
        while not export_format.is_trailer(line := self._read()):
            if count == expected:
                raise self._tampered(f"the checkpoint covers {expected} events: the last line belongs here")
            self._digest.update(line)
            yield line
            count += 1
        self._index = count if expected is not None else None
        try:
            trailer = Trailer.parse(line)
            for stated in (trailer.count, expected):
                if stated is not None and stated != count:
                    raise ValueError(f"{stated} events belong before this line; the file has {count}")
            text = open_note(trailer.note, [self._key])
            if text != export_format.trailer_text(self._key.name, count, self._digest.digest()):
                raise ValueError("the signature is over other bytes: a line was edited, added or removed")
        except (ValueError, NoteError) as error:
            raise self._tampered(f"last line: {error}") from error
        if self._fp.read(1):
            self._line += 1
            raise self._tampered("there is more after the signed end of the export")

    def _read(self) -> bytes:
        line = self._fp.readline(export_format.MAX_LINE_BYTES + 1)
        self._line += 1
        if not line:
            raise self._tampered("the file ends without its signed last line: it was cut off")
        if len(line) > export_format.MAX_LINE_BYTES:
            raise self._tampered(
                f"longer than the {export_format.MAX_LINE_BYTES} bytes of any line of an export"
            )
        return line

    def _tampered(self, reason: str) -> TamperEvidence:
        return TamperEvidence(index=self._index, line=self._line, reason=reason)
