"""C2SP signed notes with Ed25519 keys (c2sp.org/signed-note v1.0.0)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secure_train.audit.errors import NoteError

MAX_SIGNATURES = 100
_ED25519 = b"\x01"
_SIGNATURE_PREFIX = "— "
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A named Ed25519 public key.

    Attributes:
        name: key name; for a log, its origin. No spaces, no '+'.
        public_key: 32 bytes as in RFC 8032.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public_key) != 32:
            raise NoteError(f"the Ed25519 public key of {self.name} has {len(self.public_key)} bytes, not 32")

    @classmethod
    def parse(cls, text: str) -> NoteVerifier:
        """Read a verifier key, `name+hexid+base64(0x01 || public key)`.

        Raises:
            NoteError: not such a key, or its id does not belong to it.
        """
        name, plus, rest = text.partition("+")
        key_id, second_plus, encoded = rest.partition("+")
        if not (plus and second_plus):
            raise NoteError("a verifier key reads name+keyid+base64; this text does not")
        key = decode_base64(encoded, "the verifier key")
        if key[:1] != _ED25519:
            raise NoteError("the verifier key is not of the Ed25519 type (0x01)")
        verifier = cls(name, key[1:])
        if verifier.key_id.hex() != key_id:
            raise NoteError(f"the id {key_id} does not belong to this verifier key; it was altered")
        return verifier

    @property
    def key_id(self) -> bytes:
        """First 4 bytes of SHA-256(name || 0x0A || 0x01 || public key)."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(_ED25519 + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A named Ed25519 private key; the name is the log's origin."""

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def verifier(self) -> NoteVerifier:
        """The public half, to be handed to auditors."""
        return NoteVerifier(self.name, self.private_key.public_key().public_bytes_raw())


def sign_note(text: str, signer: NoteSigner) -> str:
    """Text, blank line and one signature line.

    Raises:
        NoteError: `text` does not end in a newline or has control characters.
    """
    _check_text(text)
    blob = signer.verifier.key_id + signer.private_key.sign(text.encode())
    return f"{text}\n{_SIGNATURE_PREFIX}{signer.name} {base64.b64encode(blob).decode()}\n"


def open_note(note: str, verifiers: Sequence[NoteVerifier]) -> str:
    """Return the text of `note` once a key in `verifiers` has been found to sign it.

    Raises:
        NoteError: malformed; signed by none of the keys; or a signature by one of them is wrong.
    """
    text, signatures = split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified = False
    for name, blob in signatures:
        verifier = known.get((name, blob[:4]))
        if verifier is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(verifier.public_key).verify(blob[4:], text.encode())
        except InvalidSignature as error:
            raise NoteError(
                f"the signature by {name} does not fit the text: one of them was altered"
            ) from error
        verified = True
    if not verified:
        names = ", ".join(f"{name}+{blob[:4].hex()}" for name, blob in signatures)
        trusted = ", ".join(f"{verifier.name}+{verifier.key_id.hex()}" for verifier in verifiers)
        raise NoteError(f"signed by {names}, none of which is a trusted key ({trusted})")
    return text


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Separate text and signatures (key name, key id || signature), verifying nothing.

    Raises:
        NoteError: malformed.
    """
    text, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise NoteError("a signed note is text, a blank line, and signature lines that end in a newline")
    text += "\n"
    _check_text(text)
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"{len(lines)} signatures; at most {MAX_SIGNATURES} are read")
    signatures = []
    for line in lines:
        name, space, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
        if not line.startswith(_SIGNATURE_PREFIX) or not space or not _NAME.fullmatch(name):
            raise NoteError("a signature line reads '— name base64'; this one does not")
        blob = decode_base64(encoded, "the signature line")
        if len(blob) < 5:
            raise NoteError("a signature line holds a 4-byte key id and a signature; this one is too short")
        signatures.append((name, blob))
    return text, signatures


def decode_base64(text: str, what: str) -> bytes:
    """Decode RFC 4648 section 4 base64, refusing every second spelling of the same bytes.

    Raises:
        NoteError: not base64, or not its canonical form.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{what} is not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise NoteError(f"{what} is not canonical base64")
    return raw


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or _CONTROL.search(name):
        raise NoteError(f"the key name {name!r} must be non-empty, without spaces and without '+'")


def _check_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteError("the text of a note ends in a newline and has no control characters")
