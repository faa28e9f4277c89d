"""A key vault in one sealed file: for a single machine, or where no hardware module is at hand.

The file is JSON: ``{format, unlock, sealed}``. ``unlock`` says how the secret becomes the sealing key,
``sealed`` is an envelope (base64) around the keys, with ``format`` and ``unlock`` authenticated. Whoever can
write the file can put back an older copy of it: that loses newer keys and reveals none. Keep it where only
the control plane writes.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .durable import create_file, exclusive, replace_file
from .envelope import open_sealed, seal
from .errors import Corrupted, UnknownKeyVersion, UnknownSigningKey, VaultError, VaultExists, VaultMissing
from .kek import KeyEncryptionKey
from .keys import KEY_BYTES, DataKey, KeyContext, WrappedKey, wrapped_key_header
from .unlock import KeyFile, KeyFileUnlock, Passphrase, PassphraseUnlock, new_unlock, sealing_key

_FORMAT: Literal["secure-train/sealed-vault/1"] = "secure-train/sealed-vault/1"
_HexKey = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Version = Annotated[str, Field(pattern="^[1-9][0-9]{0,8}$")]
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class _File(BaseModel):
    """What stands on the disk."""

    model_config = _STRICT
    format: Literal["secure-train/sealed-vault/1"] = _FORMAT
    unlock: Annotated[KeyFileUnlock | PassphraseUnlock, Field(discriminator="kind")]
    sealed: str

    def aad(self) -> bytes:
        return rfc8785.dumps({"format": self.format, "unlock": self.unlock.model_dump()})


class _Contents(BaseModel):
    """What is sealed in it: private keys in hexadecimal. Alive only while the file is read or written."""

    model_config = _STRICT
    active: int = Field(ge=1)
    keks: dict[_Version, _HexKey]
    signing: dict[str, _HexKey]


@dataclass(frozen=True, slots=True)
class _Keys:
    """The contents as objects that do their work and do not show themselves."""

    active: int
    keks: dict[int, KeyEncryptionKey]
    signing: dict[str, Ed25519PrivateKey]

    @classmethod
    def of(cls, contents: _Contents) -> _Keys:
        keks = {int(version): bytes.fromhex(key) for version, key in contents.keks.items()}
        signing = {name: bytes.fromhex(key) for name, key in contents.signing.items()}
        return cls(
            contents.active,
            {version: KeyEncryptionKey(version, key) for version, key in keks.items()},
            {name: Ed25519PrivateKey.from_private_bytes(key) for name, key in signing.items()},
        )


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key of the vault as anybody may see it.

    Attributes:
        active: whether new work uses it; older key-encryption keys only unwrap.
        public_key: raw Ed25519 public key in hexadecimal; None for a key that has none.
    """

    name: str
    kind: Literal["key-encryption", "signing"]
    active: bool
    public_key: str | None


class SealedFileVault:
    """Key-encryption keys and signing keys in one file. Threads and processes may have it open at once."""

    def __init__(self, path: Path, sealing: DataKey, keys: _Keys) -> None:
        """Take what ``create`` and ``open`` have checked; use those."""
        self._path = path
        self._sealing = sealing
        self._keys = keys

    @classmethod
    def create(cls, path: Path, secret: KeyFile | Passphrase) -> SealedFileVault:
        """Write a new vault with a first key-encryption key; raises VaultExists rather than overwrite one."""
        unlock = new_unlock(secret)
        sealing = sealing_key(secret, unlock)
        contents = _Contents(active=1, keks={"1": secrets.token_hex(KEY_BYTES)}, signing={})
        try:
            create_file(path, _encode(unlock, sealing, contents))
        except FileExistsError:
            raise VaultExists(f"{path} exists: open it, or move it away first") from None
        except OSError as error:
            raise VaultError(f"cannot write the vault {path}: {error.strerror}") from error
        return cls(path, sealing, _Keys.of(contents))

    @classmethod
    def open(cls, path: Path, secret: KeyFile | Passphrase) -> SealedFileVault:
        """Open the vault; raises VaultMissing, WrongKey for another vault's secret, Corrupted if altered."""
        file = _read(path)
        sealing = sealing_key(secret, file.unlock)
        return cls(path, sealing, _Keys.of(_unseal(path, file, sealing)))

    @property
    def kek_version(self) -> int:
        """The version of the key-encryption key that wraps new data keys."""
        return self._keys.active

    def new_data_key(self, context: KeyContext) -> tuple[DataKey, WrappedKey]:
        """Return a fresh data key, and the form of it to store."""
        data_key = DataKey.generate()
        return data_key, self._wrap(data_key, context)

    def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> DataKey:
        """Return the data key.

        Raises WrongKey unless it was wrapped by this vault for exactly this context, UnknownKeyVersion if the
        key-encryption key of that version is not here.
        """
        if wrapped.kek_version not in self._keys.keks:
            self._reload()  # another process may have rotated
        kek = self._keys.keks.get(wrapped.kek_version)
        if kek is None:
            raise UnknownKeyVersion(
                f"the data key of {context.type} {context.artifact} was wrapped by key-encryption "
                f"key {wrapped.kek_version}; {self._path} has {sorted(self._keys.keks)}: restore a newer copy"
            )
        return kek.unwrap(wrapped.secret, _aad(kek.version, context))

    def rewrap(self, wrapped: WrappedKey, context: KeyContext) -> WrappedKey:
        """Return the same data key wrapped by the active key-encryption key; what it encrypts stays."""
        return self._wrap(self.unwrap(wrapped, context), context)

    def rotate_kek(self) -> int:
        """Make a new key-encryption key the active one and return its version; older ones still unwrap."""

        def add(contents: _Contents) -> _Contents:
            version = max(int(known) for known in contents.keks) + 1
            keks = contents.keks | {str(version): secrets.token_hex(KEY_BYTES)}
            return contents.model_copy(update={"active": version, "keks": keks})

        self._update(add)
        return self.kek_version

    def signing_key(self, name: str, create: bool = True) -> Ed25519PrivateKey:
        """Return the Ed25519 key of that name, the same one in every process.

        A missing one is created, or raises UnknownSigningKey if ``create`` is False.
        """
        if name not in self._keys.signing:
            self._update(lambda contents: _with_signing_key(contents, name)) if create else self._reload()
        try:
            return self._keys.signing[name]
        except KeyError:
            raise UnknownSigningKey(f"{self._path} holds no signing key named {name!r}") from None

    def inventory(self) -> list[KeyInfo]:
        """List the keys without their secrets: key-encryption keys by version, then signing keys by name."""
        keys = self._keys
        wrapping = [
            KeyInfo(f"kek-{version}", "key-encryption", version == keys.active, None)
            for version in sorted(keys.keks)
        ]
        signing = [
            KeyInfo(name, "signing", True, key.public_key().public_bytes_raw().hex())
            for name, key in sorted(keys.signing.items())
        ]
        return wrapping + signing

    def _wrap(self, data_key: DataKey, context: KeyContext) -> WrappedKey:
        keys = self._keys
        kek = keys.keks[keys.active]
        return WrappedKey(kek.version, kek.wrap(data_key, _aad(kek.version, context)))

    def _reload(self) -> None:
        self._keys = _Keys.of(_unseal(self._path, _read(self._path), self._sealing))

    def _update(self, change: Callable[[_Contents], _Contents]) -> None:
        """Apply ``change`` to the newest contents, durably, one writer at a time."""
        try:
            with exclusive(self._path.with_name(f"{self._path.name}.lock")):
                file = _read(self._path)
                before = _unseal(self._path, file, self._sealing)
                after = change(before)
                if after != before:
                    replace_file(self._path, _encode(file.unlock, self._sealing, after))
        except OSError as error:
            raise VaultError(f"cannot write the vault {self._path}: {error.strerror}") from error
        self._keys = _Keys.of(after)

    def __repr__(self) -> str:
        return f"SealedFileVault({str(self._path)!r}, kek_version={self.kek_version})"


def _with_signing_key(contents: _Contents, name: str) -> _Contents:
    if name in contents.signing:
        return contents
    created = Ed25519PrivateKey.generate().private_bytes_raw().hex()
    return contents.model_copy(update={"signing": contents.signing | {name: created}})


def _aad(kek_version: int, context: KeyContext) -> bytes:
    return wrapped_key_header(kek_version) + context.to_bytes()


def _encode(unlock: KeyFileUnlock | PassphraseUnlock, sealing: DataKey, contents: _Contents) -> bytes:
    aad = _File(unlock=unlock, sealed="").aad()
    sealed = seal(sealing, rfc8785.dumps(contents.model_dump()), aad)
    file = _File(unlock=unlock, sealed=base64.b64encode(sealed).decode())
    return file.model_dump_json(indent=1).encode() + b"\n"


def _read(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise VaultMissing(f"there is no vault at {path}: create it, or restore it from its backup") from None
    except OSError as error:
        raise VaultError(f"cannot read the vault {path}: {error.strerror}") from error
    except ValidationError as error:
        raise Corrupted(f"{path} is not a sealed vault of format 1: {_reasons(error)}") from None


def _unseal(path: Path, file: _File, sealing: DataKey) -> _Contents:
    try:
        contents = _Contents.model_validate_json(
            open_sealed(sealing, base64.b64decode(file.sealed, validate=True), file.aad())
        )
    except (binascii.Error, ValidationError):
        # "from None": a validation message could quote a key.
        raise Corrupted(f"{path} was altered: restore it from its backup") from None
    if str(contents.active) not in contents.keks:
        raise Corrupted(
            f"{path} lacks its active key-encryption key {contents.active}: restore it from its backup"
        )
    return contents


def _reasons(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
