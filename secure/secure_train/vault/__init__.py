"""Key vaults and envelope encryption: a data key per artifact, wrapped by a key that never leaves its vault.

>>> from pathlib import Path
>>> vault = SealedFileVault.create(Path("vault.json"), KeyFile.create(Path("vault.key")))  # doctest: +SKIP
>>> key, wrapped = vault.new_data_key(KeyContext("acme", "patients@1", "dataset"))  # doctest: +SKIP
"""

from .envelope import open_sealed, seal
from .errors import (
    Corrupted,
    InsecureKeyFile,
    UnknownKeyVersion,
    UnknownSigningKey,
    UnusableSecret,
    VaultError,
    VaultExists,
    VaultMissing,
    WrongKey,
)
from .keys import DataKey, KeyContext, WrappedKey
from .sealed_file import KeyInfo, SealedFileVault
from .unlock import KeyFile, Passphrase

__all__ = [
    "Corrupted",
    "DataKey",
    "InsecureKeyFile",
    "KeyContext",
    "KeyFile",
    "KeyInfo",
    "Passphrase",
    "SealedFileVault",
    "UnknownKeyVersion",
    "UnknownSigningKey",
    "UnusableSecret",
    "VaultError",
    "VaultExists",
    "VaultMissing",
    "WrappedKey",
    "WrongKey",
    "open_sealed",
    "seal",
]
