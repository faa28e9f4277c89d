"""A vault, a key pair and an encryptor, made once: nothing here changes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secure_train.ckks import HomoEncryptor, Parameters, SealedKey, new_key
from secure_train.vault import KeyContext, KeyFile, SealedFileVault


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> SealedFileVault:
    home: Path = tmp_path_factory.mktemp("vault")
    return SealedFileVault.create(home / "vault.json", KeyFile.create(home / "vault.key"))


@pytest.fixture(scope="session")
def parameters() -> Parameters:
    return Parameters.of_bits(2048, 51)


@pytest.fixture(scope="session")
def key(vault: SealedFileVault, parameters: Parameters) -> SealedKey:
    return new_key(vault, KeyContext("acme", "patients@1", "ckks"), parameters)


@pytest.fixture(scope="session")
def encryptor(vault: SealedFileVault, key: SealedKey) -> HomoEncryptor:
    return HomoEncryptor(vault, key)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261123)
