"""What is recorded: an `Event` as the caller states it, a `Record` as the log keeps it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from secure_train.audit.canonical import JsonValue, encode_plain, parse_canonical, plain
from secure_train.audit.errors import InvalidEventError

RECORD_VERSION = 1
MAX_BODY_BYTES = 1 << 20
MAX_TYPE, MAX_NAME = 128, 512

_TYPE = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)+")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_FIELDS = frozenset({"v", "seq", "time", "type", "actor", "subject", "project", "data", "idempotency_key"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, to be appended to the log.

    Attributes:
        type: dotted lower-case name, e.g. "job.submitted".
        actor: principal id, e.g. "user:alice", "job:job_01…", "system".
        subject: what it happened to, e.g. "job:job_01…".
        data: JSON details. Never secrets nor records of the data set: the log is exported.
        idempotency_key: unique to this occurrence; the same key with the same content is recorded once.
        project: project the event belongs to, if any.
        occurred_at: aware datetime; the moment of the append unless given.

    Raises:
        InvalidEventError: a field cannot be recorded; the message names it.
    """

    type: str
    actor: str
    subject: str
    data: Mapping[str, JsonValue]
    idempotency_key: str
    project: str | None = None
    occurred_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_name("type", self.type, MAX_TYPE)
        if not _TYPE.fullmatch(self.type):
            raise InvalidEventError(
                f'type: "{self.type}" is not a dotted lower-case name such as job.submitted'
            )
        _check_name("actor", self.actor, MAX_NAME)
        _check_name("subject", self.subject, MAX_NAME)
        _check_name("idempotency_key", self.idempotency_key, MAX_NAME)
        if self.project is not None:
            _check_name("project", self.project, MAX_NAME)
        if self.occurred_at is not None:
            rfc3339(self.occurred_at, "occurred_at")
        if not isinstance(self.data, Mapping):
            raise InvalidEventError(f"data: a JSON object is needed, not {type(self.data).__name__}")
        # A private copy: the caller may go on changing what it passed.
        object.__setattr__(self, "data", plain(self.data, "data"))


@dataclass(frozen=True, slots=True)
class Record:
    """An event in its place in the log. `body` is its canonical form, and what the Merkle leaf hashes."""

    seq: int
    time: str
    type: str
    actor: str
    subject: str
    project: str | None
    data: Mapping[str, JsonValue]
    idempotency_key: str

    @classmethod
    def of(cls, event: Event, seq: int, time: str) -> Record:
        """Give `event` its sequence number and time (as `rfc3339` writes it)."""
        return cls(
            seq,
            time,
            event.type,
            event.actor,
            event.subject,
            event.project,
            event.data,
            event.idempotency_key,
        )

    @classmethod
    def parse(cls, body: bytes) -> Record:
        """Read a canonical body.

        Raises:
            ValueError: not canonical JSON, or not the fields and types of a version 1 record.
        """
        value: Any = parse_canonical(body)
        if not isinstance(value, dict) or value.keys() != _FIELDS:
            raise ValueError(f"a record has exactly the fields {', '.join(sorted(_FIELDS))}")
        if value.pop("v") != RECORD_VERSION:
            raise ValueError(f"not a version {RECORD_VERSION} record")
        record = cls(**value)
        texts = [record.time, record.type, record.actor, record.subject, record.idempotency_key]
        texts += [] if record.project is None else [record.project]
        if type(record.seq) is not int or record.seq < 0 or not all(isinstance(text, str) for text in texts):
            raise ValueError("a field of the record has the wrong type")
        if not isinstance(record.data, dict):
            raise ValueError("the data of the record are not an object")
        if not _TIME.fullmatch(record.time):
            raise ValueError("the time is not RFC 3339 in UTC with microseconds")
        return record

    @property
    def body(self) -> bytes:
        """RFC 8785 canonical JSON of the record."""
        value = {
            "v": RECORD_VERSION,
            "seq": self.seq,
            "time": self.time,
            "type": self.type,
            "actor": self.actor,
            "subject": self.subject,
            "project": self.project,
            "data": self.data,
            "idempotency_key": self.idempotency_key,
        }
        return encode_plain(value, "event")

    @property
    def occurred_at(self) -> datetime:
        """The recorded time as an aware datetime (UTC)."""
        return datetime.fromisoformat(self.time)


def rfc3339(moment: datetime, name: str) -> str:
    """Write an aware datetime as UTC with microseconds and 'Z': 27 characters that sort by time.

    Raises:
        InvalidEventError: `moment` has no time zone.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidEventError(f"{name}: a time zone is needed; use datetime.now(UTC)")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _check_name(field: str, value: object, limit: int) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidEventError(f"{field}: a non-empty string is needed")
    if len(value) > limit:
        raise InvalidEventError(f"{field}: {len(value)} characters; at most {limit} are kept")
    if _UNPRINTABLE.search(value):
        raise InvalidEventError(f"{field}: control characters and lone surrogates are not allowed")
