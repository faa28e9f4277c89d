"""Signed statements of how long the log was and what its root was (c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from secure_train.audit.errors import NoteError
from secure_train.audit.merkle import HASH_SIZE
from secure_train.audit.notes import NoteSigner, NoteVerifier, decode_base64, open_note, sign_note, split_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: the log's `origin`, its `size` in events, and the 32-byte `root` at that size."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a checkpoint note (no extension lines: this log writes none).

        Raises:
            NoteError: not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):
            raise NoteError("a checkpoint is three lines: origin, size, base64 root; this text is not")
        root = decode_base64(lines[2], "the root of the checkpoint")
        if len(root) != HASH_SIZE:
            raise NoteError(f"the root of the checkpoint has {len(root)} bytes, not {HASH_SIZE}")
        return cls(lines[0], int(lines[1]), root)

    @property
    def text(self) -> str:
        """The note text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signed note. What an auditor keeps, in a file, out of the platform's reach.

    `parse` alone proves nothing: the fields are to be trusted after `verify`.
    """

    checkpoint: Checkpoint
    note: str

    @classmethod
    def sign(cls, checkpoint: Checkpoint, signer: NoteSigner) -> SignedCheckpoint:
        """Sign `checkpoint` with the key of its log.

        Raises:
            NoteError: the key's name is not the checkpoint's origin.
        """
        if signer.name != checkpoint.origin:
            raise NoteError(f"the key {signer.name} cannot sign for the log {checkpoint.origin}")
        return cls(checkpoint, sign_note(checkpoint.text, signer))

    @classmethod
    def parse(cls, note: str) -> SignedCheckpoint:
        """Read a signed checkpoint without checking who signed it.

        Raises:
            NoteError: malformed.
        """
        return cls(Checkpoint.parse(split_note(note)[0]), note)

    def verify(self, verifiers: NoteVerifier | Sequence[NoteVerifier]) -> Checkpoint:
        """Return the checkpoint once a trusted key of its own log is found to have signed it.

        Raises:
            NoteError: no trusted key did, or the key belongs to another log.
        """
        trusted = [verifiers] if isinstance(verifiers, NoteVerifier) else list(verifiers)
        origin = self.checkpoint.origin
        own = [verifier for verifier in trusted if verifier.name == origin]
        if not own:
            names = ", ".join(sorted({verifier.name for verifier in trusted}))
            raise NoteError(f"the checkpoint is of the log {origin}; the trusted keys are of {names}")
        return Checkpoint.parse(open_note(self.note, own))

    @property
    def size(self) -> int:
        """Events covered."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """Root hash stated."""
        return self.checkpoint.root


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """When a new checkpoint is worth signing: after so many events, or so many seconds with at least one."""

    every_events: int
    every_seconds: float

    def __post_init__(self) -> None:
        if self.every_events < 1 or not self.every_seconds > 0:
            raise ValueError("every_events must be at least 1 and every_seconds positive")

    def due(self, *, size: int, last_size: int, seconds_since_last: float) -> bool:
        """Whether to sign now.

        Args:
            size: events in the log now.
            last_size: events covered by the newest checkpoint; 0 if there is none.
            seconds_since_last: seconds since the newest checkpoint, or since the first event.
        """
        unsigned = size - last_size
        return unsigned >= self.every_events or (unsigned > 0 and seconds_since_last >= self.every_seconds)
