"""What a vault tells about its keys."""

from __future__ import annotations

from secure_train.vault import SealedFileVault


def test_the_inventory_names_every_key_and_shows_no_secret(vault: SealedFileVault) -> None:
    signing = vault.signing_key("audit")
    vault.rotate_kek()
    listed = {key.name: key for key in vault.inventory()}
    assert [(name, key.kind, key.active) for name, key in listed.items()] == [
        ("kek-1", "key-encryption", False),
        ("kek-2", "key-encryption", True),
        ("audit", "signing", True),
    ]
    assert listed["audit"].public_key == signing.public_key().public_bytes_raw().hex()
    assert signing.private_bytes_raw().hex() not in repr(listed)
