"""C2SP signed notes and checkpoints, against the vectors of the reference implementation."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_train.audit import (
    Checkpoint,
    CheckpointPolicy,
    NoteError,
    NoteSigner,
    NoteVerifier,
    SignedCheckpoint,
)
from secure_train.audit.notes import open_note, sign_note

# Source: golang.org/x/mod/sumdb/note, note_test.go (the reference implementation of c2sp.org/signed-note).
VERIFIER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PRIVATE_KEY = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT + "\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# Source: c2sp.org/tlog-checkpoint, the example of the specification.
CHECKPOINT_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
CHECKPOINT_NOTE = (
    CHECKPOINT_TEXT + "\n— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)


@pytest.fixture
def peter() -> NoteVerifier:
    return NoteVerifier.parse(VERIFIER_KEY)


@pytest.fixture
def peter_signer() -> NoteSigner:
    seed = base64.b64decode(PRIVATE_KEY)[1:]
    return NoteSigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(seed))


def test_signing_gives_the_bytes_of_the_reference(peter_signer: NoteSigner) -> None:
    assert sign_note(TEXT, peter_signer) == NOTE
    assert str(peter_signer.verifier) == VERIFIER_KEY


def test_the_note_of_the_reference_opens(peter: NoteVerifier) -> None:
    assert open_note(NOTE, [peter]) == TEXT
    assert str(peter) == VERIFIER_KEY


def test_no_mangled_verifier_key_is_accepted() -> None:
    for start in range(len(VERIFIER_KEY)):
        for end in range(start, len(VERIFIER_KEY) + 1):
            if (start, end) != (0, len(VERIFIER_KEY)):
                with pytest.raises(NoteError):
                    NoteVerifier.parse(VERIFIER_KEY[start:end])
    for at, char in enumerate(VERIFIER_KEY):
        with pytest.raises(NoteError):
            NoteVerifier.parse(VERIFIER_KEY[:at] + chr(ord(char) + 1) + VERIFIER_KEY[at + 1 :])
    # Wrong length, and unknown algorithm, each with a fitting key id.
    for key in (
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ):
        with pytest.raises(NoteError):
            NoteVerifier.parse(key)


def test_an_altered_note_is_refused_whatever_was_altered(peter: NoteVerifier) -> None:
    for at, char in enumerate(NOTE):
        for other in (chr(ord(char) ^ 1), chr(ord(char) ^ 4), ""):
            with pytest.raises(NoteError):
                open_note(NOTE[:at] + other + NOTE[at + 1 :], [peter])


def test_signatures_of_unknown_keys_are_ignored_but_do_not_count(
    peter: NoteVerifier, signer: NoteSigner
) -> None:
    other_line = sign_note(TEXT, signer).removeprefix(TEXT + "\n")
    assert open_note(NOTE + other_line, [peter]) == TEXT
    with pytest.raises(NoteError, match="none of which is a trusted key"):
        open_note(TEXT + "\n" + other_line, [peter])


def test_a_wrong_signature_by_a_known_key_rejects_a_note_that_another_signed(
    peter: NoteVerifier, signer: NoteSigner
) -> None:
    wrong = sign_note("other\n", signer).removeprefix("other\n\n")
    with pytest.raises(NoteError, match="does not fit the text"):
        open_note(NOTE + wrong, [peter, signer.verifier])


def test_malformed_notes_are_refused(peter: NoteVerifier) -> None:
    many = NOTE + NOTE.removeprefix(TEXT + "\n") * 100
    for note in ("", "text\n", "text\n\n", TEXT, NOTE[:-1], NOTE.replace("—", "-"), "a\tb" + NOTE, many):
        with pytest.raises(NoteError):
            open_note(note, [peter])
    with pytest.raises(NoteError, match="ends in a newline"):
        sign_note("no newline", NoteSigner("a", Ed25519PrivateKey.generate()))


def test_a_private_key_is_not_in_the_repr_of_its_signer(signer: NoteSigner) -> None:
    assert "private" not in repr(signer)


def test_names_that_a_note_cannot_carry_are_refused() -> None:
    for name in ("", "with space", "with+plus", "line\nbreak", "bell\x07"):
        with pytest.raises(NoteError):
            NoteVerifier(name, bytes(32))
    with pytest.raises(NoteError, match="31 bytes"):
        NoteVerifier("short", bytes(31))


def test_the_checkpoint_of_the_specification_is_read_and_written() -> None:
    signed = SignedCheckpoint.parse(CHECKPOINT_NOTE)
    assert (signed.checkpoint.origin, signed.size) == ("example.com/behind-the-sofa", 20852163)
    assert signed.checkpoint.text == CHECKPOINT_TEXT


def test_a_checkpoint_verifies_with_the_key_of_its_own_log_only(
    signer: NoteSigner, peter: NoteVerifier
) -> None:
    signed = SignedCheckpoint.sign(Checkpoint(signer.name, 7, bytes(32)), signer)
    assert SignedCheckpoint.parse(signed.note).verify([peter, signer.verifier]) == signed.checkpoint
    impostor = NoteSigner(signer.name, Ed25519PrivateKey.generate())
    for verifier in (peter, impostor.verifier):
        with pytest.raises(NoteError):
            signed.verify(verifier)
    with pytest.raises(NoteError, match="cannot sign for the log"):
        SignedCheckpoint.sign(Checkpoint("another.example/log", 7, bytes(32)), signer)


def test_text_that_is_no_checkpoint_is_refused() -> None:
    origin, size, root, end = CHECKPOINT_TEXT.split("\n")
    for lines in (
        [origin, size, root],
        [origin, size, root, "extension", end],
        ["", size, root, end],
        [origin, "0" + size, root, end],
        [origin, "-1", root, end],
        [origin, size, root[4:], end],
        [origin, size, root[:-2] + "J=", end],
    ):
        with pytest.raises(NoteError):
            Checkpoint.parse("\n".join(lines))


def test_a_checkpoint_is_due_after_enough_events_or_enough_time_with_any() -> None:
    policy = CheckpointPolicy(every_events=100, every_seconds=60)
    assert not policy.due(size=199, last_size=100, seconds_since_last=59.9)
    assert policy.due(size=200, last_size=100, seconds_since_last=0)
    assert policy.due(size=101, last_size=100, seconds_since_last=60)
    assert not policy.due(size=100, last_size=100, seconds_since_last=1e9)
    for events, seconds in [(0, 1.0), (1, 0.0), (1, float("nan"))]:
        with pytest.raises(ValueError, match="every_events"):
            CheckpointPolicy(events, seconds)
