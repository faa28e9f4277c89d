"""The sealed-file vault: keys survive crashes and sharing, and open for the right secret and context only."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from secure_train.vault import (
    Corrupted,
    KeyContext,
    KeyFile,
    Passphrase,
    SealedFileVault,
    UnknownKeyVersion,
    UnknownSigningKey,
    VaultExists,
    VaultMissing,
    WrappedKey,
    WrongKey,
)

PASSPHRASE = Passphrase(b"correct horse battery staple")


def test_a_wrapped_data_key_is_unwrapped_by_a_vault_opened_later(
    vault: SealedFileVault, vault_path: Path, key_file: KeyFile, context: KeyContext
) -> None:
    data_key, wrapped = vault.new_data_key(context)
    reopened = SealedFileVault.open(vault_path, key_file)
    assert reopened.unwrap(WrappedKey.from_bytes(wrapped.to_bytes()), context) == data_key


@pytest.mark.parametrize("field", ["tenant", "artifact", "type"])
def test_a_data_key_does_not_unwrap_for_another_context(
    vault: SealedFileVault, context: KeyContext, field: str
) -> None:
    _, wrapped = vault.new_data_key(context)
    with pytest.raises(WrongKey):
        vault.unwrap(wrapped, replace(context, **{field: "other"}))


def test_an_altered_wrapped_key_does_not_unwrap(vault: SealedFileVault, context: KeyContext) -> None:
    _, wrapped = vault.new_data_key(context)
    for position in range(len(wrapped.secret)):
        altered = bytearray(wrapped.secret)
        altered[position] ^= 1
        with pytest.raises(WrongKey):
            vault.unwrap(WrappedKey(wrapped.kek_version, bytes(altered)), context)


def test_another_vault_does_not_unwrap(vault: SealedFileVault, context: KeyContext, tmp_path: Path) -> None:
    other = SealedFileVault.create(tmp_path / "other.json", KeyFile.create(tmp_path / "other.key"))
    with pytest.raises(WrongKey):
        other.unwrap(vault.new_data_key(context)[1], context)


def test_rotation_keeps_old_keys_readable_and_wraps_new_ones_anew(
    vault: SealedFileVault, vault_path: Path, key_file: KeyFile, context: KeyContext
) -> None:
    data_key, old = vault.new_data_key(context)
    opened_before = SealedFileVault.open(vault_path, key_file)
    assert vault.rotate_kek() == 2
    new = vault.rewrap(old, context)
    assert (old.kek_version, new.kek_version) == (1, 2)
    assert vault.unwrap(old, context) == vault.unwrap(new, context) == data_key
    assert opened_before.unwrap(new, context) == data_key, "a process that missed the rotation reloads"


def test_a_version_relabelled_on_the_wrapped_key_is_noticed(
    vault: SealedFileVault, context: KeyContext
) -> None:
    _, wrapped = vault.new_data_key(context)
    vault.rotate_kek()
    with pytest.raises(WrongKey):
        vault.unwrap(WrappedKey(2, wrapped.secret), context)


def test_an_unknown_version_says_which_are_held(vault: SealedFileVault, context: KeyContext) -> None:
    with pytest.raises(UnknownKeyVersion, match=r"key 9;.*\[1\]"):
        vault.unwrap(WrappedKey(9, bytes(60)), context)


def test_a_passphrase_opens_its_vault_and_no_other_secret_does(vault_path: Path, key_file: KeyFile) -> None:
    vault = SealedFileVault.create(vault_path, PASSPHRASE)
    public = vault.signing_key("audit").public_key()
    assert SealedFileVault.open(vault_path, PASSPHRASE).signing_key("audit").public_key() == public
    with pytest.raises(WrongKey):
        SealedFileVault.open(vault_path, Passphrase(b"correct horse battery stapler"))
    with pytest.raises(WrongKey, match="passphrase"):
        SealedFileVault.open(vault_path, key_file)


def test_another_key_file_does_not_open_the_vault(vault: SealedFileVault, tmp_path: Path) -> None:
    with pytest.raises(WrongKey):
        SealedFileVault.open(tmp_path / "vault.json", KeyFile.create(tmp_path / "other.key"))


def test_an_existing_vault_is_never_overwritten(
    vault: SealedFileVault, vault_path: Path, key_file: KeyFile
) -> None:
    before = vault_path.read_bytes()
    with pytest.raises(VaultExists):
        SealedFileVault.create(vault_path, key_file)
    assert vault_path.read_bytes() == before


def test_a_missing_vault_is_not_created_by_opening_it(tmp_path: Path, key_file: KeyFile) -> None:
    with pytest.raises(VaultMissing):
        SealedFileVault.open(tmp_path / "absent.json", key_file)
    assert not (tmp_path / "absent.json").exists()


def test_the_vault_file_is_private(vault: SealedFileVault, vault_path: Path) -> None:
    vault.rotate_kek()
    assert stat.S_IMODE(vault_path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "alter",
    [
        lambda file: file | {"format": "secure-train/sealed-vault/2"},
        lambda file: file | {"extra": 1},
        lambda file: file | {"sealed": file["sealed"][:-8]},
        lambda file: file | {"sealed": "not base64!"},
        lambda file: file | {"unlock": {"kind": "key-file", "hint": "x"}},
        lambda file: {"format": file["format"]},
    ],
)
def test_an_altered_vault_file_is_refused(
    vault: SealedFileVault, vault_path: Path, key_file: KeyFile, alter: object
) -> None:
    vault_path.write_text(json.dumps(alter(json.loads(vault_path.read_text()))))  # type: ignore[operator]
    with pytest.raises(Corrupted, match=r"vault\.json|envelope"):
        SealedFileVault.open(vault_path, key_file)


def test_weakened_passphrase_parameters_do_not_open_the_vault(vault_path: Path) -> None:
    SealedFileVault.create(vault_path, PASSPHRASE)
    file = json.loads(vault_path.read_text())
    for change in ({"memory_kib": 19 * 1024}, {"time_cost": 1}, {"salt": "0" * 32}):
        vault_path.write_text(json.dumps(file | {"unlock": file["unlock"] | change}))
        with pytest.raises(WrongKey):
            SealedFileVault.open(vault_path, PASSPHRASE)
    vault_path.write_text(json.dumps(file | {"unlock": file["unlock"] | {"memory_kib": 2**40}}))
    with pytest.raises(Corrupted, match="memory_kib"):
        SealedFileVault.open(vault_path, PASSPHRASE)


def test_signing_keys_are_created_once_and_only_when_asked(
    vault: SealedFileVault, vault_path: Path, key_file: KeyFile
) -> None:
    with pytest.raises(UnknownSigningKey, match="audit"):
        vault.signing_key("audit", create=False)
    key = vault.signing_key("audit")
    reopened = SealedFileVault.open(vault_path, key_file)
    reopened.signing_key("audit", create=False).public_key().verify(key.sign(b"entry"), b"entry")
    assert vault.signing_key("capability").public_key() != key.public_key()


def test_no_key_stands_in_the_file_or_in_a_repr(vault: SealedFileVault, vault_path: Path) -> None:
    secret = vault.signing_key("audit").private_bytes_raw()
    shown = vault_path.read_bytes() + repr(vault).encode() + repr(vars(vault)).encode()
    assert secret not in shown
    assert secret.hex().encode() not in shown


CREATE_KEY = """
import sys
from pathlib import Path
from secure_train.vault import KeyFile, SealedFileVault
vault = SealedFileVault.open(Path(sys.argv[1]), KeyFile(Path(sys.argv[2])))
sys.stdin.readline()
print(vault.signing_key("audit").public_key().public_bytes_raw().hex(), vault.rotate_kek())
"""


def test_processes_that_race_to_create_a_signing_key_agree_and_lose_no_rotation(
    vault: SealedFileVault, vault_path: Path, key_file: KeyFile
) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE_KEY, vault_path, key_file.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate()[0].split() for racer in racers]
    assert len({key for key, _ in answers}) == 1
    assert sorted(int(version) for _, version in answers) == [2, 3, 4, 5]


KILLED_BEFORE = """
import os, signal, sys
from pathlib import Path
from secure_train.vault import KeyFile, SealedFileVault
vault = SealedFileVault.open(Path(sys.argv[1]), KeyFile(Path(sys.argv[2])))
setattr(os, sys.argv[3], lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
vault.signing_key("audit")
"""


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_kill_while_the_vault_is_written_loses_no_key(
    vault: SealedFileVault, vault_path: Path, key_file: KeyFile, context: KeyContext, call: str
) -> None:
    data_key, wrapped = vault.new_data_key(context)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE, vault_path, key_file.path, call], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    reopened = SealedFileVault.open(vault_path, key_file)
    assert reopened.unwrap(wrapped, context) == data_key
    reopened.signing_key("audit")
    assert [name for name in os.listdir(vault_path.parent) if name.startswith(".tmp-")], (
        "the kill came in time"
    )
