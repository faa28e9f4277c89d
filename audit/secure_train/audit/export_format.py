"""The lines of an export, byte by byte (docs/audit-format.md): `export` writes them, `offline` reads them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secure_train.audit.canonical import encode_plain, parse_canonical
from secure_train.audit.errors import NoteError
from secure_train.audit.notes import decode_base64

FORMAT = "secure-train-audit/1"
MAX_LINE_BYTES = 4 << 20
_BODY = b'{"body":'
_LEAF = b',"leaf":'
_ORDINAL = b',"n":'
_TRAILER = b'{"count":'


@dataclass(frozen=True, slots=True)
class Header:
    """Line 1.

    Attributes:
        verifier: the log's verifier key, in C2SP form.
        checkpoint: signed note of the tree that the export was taken from.
        exported_at: UTC time of the export.
        filter: which events were asked for; empty means all of them.
        consistency: RFC 9162 proofs from older checkpoint sizes to this one; a complete export needs none.
    """

    verifier: str
    checkpoint: str
    exported_at: str
    filter: Mapping[str, str]
    consistency: Mapping[int, Sequence[bytes]]

    def line(self) -> bytes:
        """Canonical JSON and a newline."""
        proofs = [
            {"size": size, "proof": [_b64(digest) for digest in proof]}
            for size, proof in self.consistency.items()
        ]
        value = {
            "format": FORMAT,
            "verifier": self.verifier,
            "checkpoint": self.checkpoint,
            "exported_at": self.exported_at,
            "filter": dict(self.filter),
            "consistency": proofs,
        }
        return encode_plain(value, "header") + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Header:
        """Read line 1.

        Raises:
            ValueError: not the header of a version 1 export.
        """
        value = _object(line, {"format", "verifier", "checkpoint", "exported_at", "filter", "consistency"})
        if value.pop("format") != FORMAT:
            raise ValueError(f"not a {FORMAT} file")
        texts = (value["verifier"], value["checkpoint"], value["exported_at"])
        chosen, proofs = value["filter"], value["consistency"]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("verifier, checkpoint and exported_at are strings")
        if not isinstance(chosen, dict) or not all(isinstance(text, str) for text in chosen.values()):
            raise ValueError("filter is an object of strings")
        if not isinstance(proofs, list) or not all(
            isinstance(item, dict) and item.keys() == {"size", "proof"} and type(item["size"]) is int
            for item in proofs
        ):
            raise ValueError("consistency is a list of {size, proof}")
        consistency = {item["size"]: _hashes(item["proof"]) for item in proofs}
        return cls(*texts, filter=chosen, consistency=consistency)


@dataclass(frozen=True, slots=True)
class Trailer:
    """Last line: how many events, and the log's signature over every byte before this line."""

    count: int
    note: str

    def line(self) -> bytes:
        """Canonical JSON and a newline."""
        return encode_plain({"count": self.count, "note": self.note}, "trailer") + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Trailer:
        """Read the last line.

        Raises:
            ValueError: not a trailer.
        """
        value = _object(line, {"count", "note"})
        if type(value["count"]) is not int or not isinstance(value["note"], str):
            raise ValueError("count is a number and note a string")
        return cls(value["count"], value["note"])


def trailer_text(origin: str, count: int, digest: bytes) -> str:
    """What the trailer's note signs. Its first line has a space, so it is never the checkpoint of any log."""
    return f"{FORMAT} export\n{origin}\n{count}\n{_b64(digest)}\n"


def is_trailer(line: bytes) -> bool:
    """Whether the line claims to be the last."""
    return line.startswith(_TRAILER)


def complete_line(body: bytes, leaf: bytes) -> bytes:
    """An event of a complete export: its body and its leaf hash."""
    return _BODY + body + _LEAF + encode_plain(_b64(leaf), "leaf") + b"}\n"


def selected_line(body: bytes, ordinal: int, proof: Sequence[bytes]) -> bytes:
    """An event of a filtered export: its body, its number among those selected, and its inclusion proof."""
    proof_json = encode_plain([_b64(digest) for digest in proof], "proof")
    return _BODY + body + _ORDINAL + str(ordinal).encode() + b',"proof":' + proof_json + b"}\n"


def split_complete(line: bytes) -> tuple[bytes, bytes]:
    """Body and leaf hash of a line of a complete export.

    Raises:
        ValueError: not such a line.
    """
    body, value = _split(line, _LEAF, {"leaf"})
    return body, _hashes([value["leaf"]])[0]


def split_selected(line: bytes) -> tuple[bytes, int, list[bytes]]:
    """Body, ordinal and inclusion proof of a line of a filtered export.

    Raises:
        ValueError: not such a line.
    """
    body, value = _split(line, _ORDINAL, {"n", "proof"})
    if type(value["n"]) is not int:
        raise ValueError("n is not a number")
    return body, value["n"], _hashes(value["proof"])


def _split(line: bytes, marker: bytes, fields: set[str]) -> tuple[bytes, dict[str, Any]]:
    # What follows the body holds only numbers and base64, so the last marker is the real one.
    at = line.rfind(marker)
    if not line.startswith(_BODY) or at < 0:
        raise ValueError(f"an event line has the fields body, {', '.join(sorted(fields))}")
    return line[len(_BODY) : at], _object(b"{" + line[at + 1 :], fields)


def _object(line: bytes, fields: set[str]) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ValueError("the line is cut off")
    value = parse_canonical(line[:-1])
    if not isinstance(value, dict) or value.keys() != fields:
        raise ValueError(f"the line has exactly the fields {', '.join(sorted(fields))}")
    return value


def _hashes(value: object) -> list[bytes]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a proof is a list of base64 strings")
    try:
        return [decode_base64(item, "a hash") for item in value]
    except NoteError as error:
        raise ValueError(str(error)) from error


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
