"""What opens a sealed vault: a key file or a passphrase."""

from __future__ import annotations

import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from argon2.low_level import Type, hash_secret_raw
from pydantic import BaseModel, ConfigDict, Field

from .durable import create_file
from .errors import InsecureKeyFile, UnusableSecret, VaultExists, WrongKey
from .keys import KEY_BYTES, DataKey

MINIMUM_PASSPHRASE_BYTES = 12
_HEXADECIMAL = re.compile(rb"[0-9a-f]{64}\n?")


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file with 32 random bytes in hexadecimal, readable by its owner only."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> KeyFile:
        """Write a new key file (mode 0600); raises VaultExists rather than overwrite one."""
        try:
            create_file(path, secrets.token_hex(KEY_BYTES).encode() + b"\n")
        except FileExistsError:
            raise VaultExists(f"{path} exists: move it away, or use it as it is") from None
        except OSError as error:
            raise UnusableSecret(f"cannot write the key file {path}: {error.strerror}") from error
        return cls(path)

    def read(self) -> DataKey:
        """Return the key; raises InsecureKeyFile unless it is ours alone, UnusableSecret if malformed."""
        try:
            # Checked on the open descriptor, so that the file checked is the file read.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise UnusableSecret(f"cannot open the key file {self.path}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            self._check(os.fstat(descriptor))
            text = file.read(2 * KEY_BYTES + 2)
        if not _HEXADECIMAL.fullmatch(text):
            raise UnusableSecret(
                f"{self.path} does not hold {2 * KEY_BYTES} hexadecimal digits: restore it from its backup"
            )
        return DataKey(bytes.fromhex(text.decode("ascii")))

    def _check(self, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            raise InsecureKeyFile(f"{self.path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise InsecureKeyFile(
                f"{self.path} belongs to user {status.st_uid}, we are user {os.geteuid()}: change its owner"
            )
        if mode & 0o177:
            raise InsecureKeyFile(
                f"{self.path} has mode {mode:04o}, so others may read or change it: chmod 600, "
                "and replace the key if they could have"
            )


class Passphrase:
    """A passphrase, stretched by argon2id before use."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MINIMUM_PASSPHRASE_BYTES:
            raise UnusableSecret(
                f"the passphrase is too short: use at least {MINIMUM_PASSPHRASE_BYTES} bytes"
            )
        self._secret = secret

    def stretch(self, params: PassphraseUnlock) -> DataKey:
        """Return the key for these parameters (argon2id, RFC 9106)."""
        return DataKey(
            hash_secret_raw(
                self._secret,
                bytes.fromhex(params.salt),
                time_cost=params.time_cost,
                memory_cost=params.memory_kib,
                parallelism=params.lanes,
                hash_len=KEY_BYTES,
                type=Type.ID,
            )
        )

    def __repr__(self) -> str:
        return "Passphrase(<hidden>)"


class KeyFileUnlock(BaseModel):
    """The vault's header says: a key file opens it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    kind: Literal["key-file"] = "key-file"


class PassphraseUnlock(BaseModel):
    """The vault's header says: a passphrase opens it, stretched like this.

    The defaults are RFC 9106's second recommended option. The bounds keep an altered header from exhausting
    memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    kind: Literal["passphrase"] = "passphrase"
    kdf: Literal["argon2id"] = "argon2id"
    salt: str = Field(pattern="^[0-9a-f]{32}$")
    time_cost: int = Field(default=3, ge=1, le=64)
    memory_kib: int = Field(default=64 * 1024, ge=19 * 1024, le=4 * 1024 * 1024)
    lanes: int = Field(default=4, ge=1, le=64)


def new_unlock(secret: KeyFile | Passphrase) -> KeyFileUnlock | PassphraseUnlock:
    """Return fresh header parameters for a vault that ``secret`` is to open."""
    return KeyFileUnlock() if isinstance(secret, KeyFile) else PassphraseUnlock(salt=secrets.token_hex(16))


def sealing_key(secret: KeyFile | Passphrase, unlock: KeyFileUnlock | PassphraseUnlock) -> DataKey:
    """Return the key that seals the vault; raises WrongKey if it takes the other kind of secret."""
    match secret, unlock:
        case KeyFile(), KeyFileUnlock():
            return secret.read()
        case Passphrase(), PassphraseUnlock():
            return secret.stretch(unlock)
        case _:
            raise WrongKey(f"this vault is opened by a {unlock.kind}, not by a {type(secret).__name__}")
