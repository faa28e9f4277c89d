"""Everything that can go wrong with keys and envelopes."""

from __future__ import annotations


class VaultError(Exception):
    """Root of this package's errors."""


class WrongKey(VaultError):
    """The key, the secret or the context given is not the one that the data was sealed with."""


class Corrupted(VaultError):
    """Sealed bytes were altered, truncated or are in no format that we know.

    ``chunk`` is the index of the first chunk that did not verify; None where the header already is wrong.
    """

    def __init__(self, message: str, *, chunk: int | None = None) -> None:
        super().__init__(message)
        self.chunk = chunk


class InsecureKeyFile(VaultError):
    """A key file that somebody else could have read or replaced."""


class UnusableSecret(VaultError):
    """A key file or passphrase that cannot protect a vault: missing, malformed or too short."""


class UnknownKeyVersion(VaultError):
    """A data key was wrapped by a key-encryption key that this vault does not hold."""


class UnknownSigningKey(VaultError):
    """The vault holds no signing key of that name, and was not asked to create one."""


class VaultExists(VaultError):
    """Creating a vault or key file would overwrite one: the keys in it would be lost for good."""


class VaultMissing(VaultError):
    """There is no vault file at this path."""
