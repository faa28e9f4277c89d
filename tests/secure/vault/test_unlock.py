"""Key files and passphrases: only what can protect a vault is accepted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from secure_train.vault import InsecureKeyFile, KeyFile, Passphrase, UnusableSecret, VaultExists


def test_a_new_key_file_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        KeyFile.create(tmp_path / "key")
    finally:
        os.umask(previous)
    status = (tmp_path / "key").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()
    assert os.listdir(tmp_path) == ["key"]


def test_two_key_files_hold_different_keys(tmp_path: Path) -> None:
    assert KeyFile.create(tmp_path / "a").read() != KeyFile.create(tmp_path / "b").read()


def test_an_existing_key_file_is_never_overwritten(key_file: KeyFile) -> None:
    before = key_file.read()
    with pytest.raises(VaultExists):
        KeyFile.create(key_file.path)
    assert key_file.read() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o644, 0o700, 0o620])
def test_a_key_file_that_others_could_read_or_change_is_refused(key_file: KeyFile, mode: int) -> None:
    key_file.path.chmod(mode)
    with pytest.raises(InsecureKeyFile, match=f"{mode:04o}"):
        key_file.read()


def test_a_read_only_key_file_is_accepted(key_file: KeyFile) -> None:
    key_file.path.chmod(0o400)
    key_file.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_key_file_is_refused(key_file: KeyFile) -> None:
    os.chown(key_file.path, 65534, -1)
    with pytest.raises(InsecureKeyFile, match="65534"):
        key_file.read()


def test_a_symbolic_link_to_a_key_file_is_refused(key_file: KeyFile, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(key_file.path)
    with pytest.raises(UnusableSecret):
        KeyFile(tmp_path / "link").read()


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InsecureKeyFile, match="regular"):
        KeyFile(tmp_path / "pipe").read()


@pytest.mark.parametrize(
    "content", ["", "abc", "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n\n", "0 " * 32, "é" * 32]
)
def test_a_malformed_key_file_is_refused_without_quoting_it(key_file: KeyFile, content: str) -> None:
    key_file.path.write_text(content)
    with pytest.raises(UnusableSecret) as caught:
        key_file.read()
    assert not content.strip() or content.strip() not in str(caught.value)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableSecret, match="absent"):
        KeyFile(tmp_path / "absent").read()


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(UnusableSecret, match="12"):
        Passphrase(b"hunter2")


def test_a_passphrase_shows_nothing_of_itself() -> None:
    assert "staple" not in repr(Passphrase(b"correct horse battery staple"))
