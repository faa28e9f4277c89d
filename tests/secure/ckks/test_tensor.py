"""Encrypted tensors travel whole or are refused, and never mix."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from secure_train.ckks import (
    CipherTensor,
    Corrupted,
    HomoEncryptor,
    InvalidInput,
    Mismatch,
    ScaleOverflow,
    SealedKey,
    SeededCipherTensor,
    WrongKey,
    new_key,
    read_tensor,
    total,
    write_tensor,
)
from secure_train.ckks.header import Header
from secure_train.vault import Corrupted as VaultCorrupted
from secure_train.vault import KeyContext, KeyFile, SealedFileVault
from secure_train.vault import WrongKey as WrongVault


@pytest.fixture
def numbers(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-5, 5, (30, 100))


def test_what_is_encrypted_decrypts_and_adds(encryptor: HomoEncryptor, numbers: np.ndarray) -> None:
    one, two = encryptor.encrypt(numbers), encryptor.encrypt(-3 * numbers)
    assert np.abs(encryptor.decrypt(one) - numbers).max() <= one.header.error
    assert np.abs(encryptor.decrypt(one + two) + 2 * numbers).max() <= (one + two).header.error
    assert encryptor.decrypt(total([one] * 5)).shape == (30, 100)
    assert encryptor.decrypt(encryptor.encrypt(np.empty((0, 3)))).shape == (0, 3)


def test_equal_numbers_encrypt_differently(encryptor: HomoEncryptor, numbers: np.ndarray) -> None:
    one, two = encryptor.encrypt(numbers), encryptor.encrypt(numbers)
    assert (one.residues == two.residues).float().mean() < 1e-6


def test_pickling_takes_no_copy_and_checks_what_it_reads(
    encryptor: HomoEncryptor, numbers: np.ndarray
) -> None:
    tensor = encryptor.encrypt(numbers)
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(tensor, protocol=5, buffer_callback=buffers.append)
    assert len(text) < 2000
    back = pickle.loads(text, buffers=[bytes(buffer.raw()) for buffer in buffers])  # noqa: S301
    assert torch.equal(back.residues, tensor.residues)
    assert back.header == tensor.header
    shared = pickle.loads(text, buffers=buffers)  # noqa: S301
    assert shared.residues.data_ptr() == tensor.residues.data_ptr()
    with pytest.raises(Corrupted, match="altered"):
        pickle.loads(text, buffers=[b"\xff" * len(buffer.raw()) for buffer in buffers])  # noqa: S301


def test_a_seeded_tensor_is_half_the_bytes_and_expands_to_the_same_numbers(
    encryptor: HomoEncryptor, rng: np.random.Generator, tmp_path: Path
) -> None:
    records = rng.uniform(-0.1, 0.1, (300, 20))
    seeded = encryptor.seeded_records(records, bound=1, samples_per_block=64)
    back = pickle.loads(pickle.dumps(seeded))  # noqa: S301
    full = back.expand()
    assert np.abs(encryptor.decrypt(full) - records).max() <= full.header.error
    write_tensor(tmp_path / "seeded", seeded)
    write_tensor(tmp_path / "full", full)
    assert (tmp_path / "seeded").stat().st_size < 0.51 * (tmp_path / "full").stat().st_size
    read = read_tensor(tmp_path / "seeded")
    assert isinstance(read, SeededCipherTensor)
    assert torch.equal(read.expand().residues, full.residues)
    errors = encryptor.seeded_errors(records, bound=1, samples_per_block=64).expand()
    assert np.abs(encryptor.decrypt(errors) - records).max() <= errors.header.error


def test_a_file_comes_back_as_it_was_or_is_refused(
    encryptor: HomoEncryptor, numbers: np.ndarray, tmp_path: Path
) -> None:
    tensor, path = encryptor.encrypt(numbers), tmp_path / "tensor"
    write_tensor(path, tensor)
    back = read_tensor(path)
    assert isinstance(back, CipherTensor)
    assert back.header == tensor.header
    assert torch.equal(back.residues, tensor.residues)
    whole = path.read_bytes()
    for damaged in (
        whole[:-100],
        whole[: len(whole) // 2],
        b"",
        whole.replace(b"cipher-tensor/1", b"cipher-tensor/9"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(Corrupted):
            read_tensor(path)


def test_a_header_survives_json_and_nothing_else_passes_for_one(encryptor: HomoEncryptor) -> None:
    import json

    header = encryptor.encrypt([0.1]).header
    plain = json.loads(header.to_json())
    assert Header.from_json(plain) == header
    for change in (
        {"key": "x"},
        {"scale_bits": 1000},
        {"bound": "nan"},
        {"content": "secret"},
        {"shape": [-1]},
    ):
        with pytest.raises((Corrupted, InvalidInput)):
            Header.from_json(plain | change)
    with pytest.raises(Corrupted):
        Header.from_json([])


def test_tensors_that_do_not_belong_together_are_refused_with_every_difference(
    encryptor: HomoEncryptor, vault: SealedFileVault, numbers: np.ndarray
) -> None:
    other = HomoEncryptor(vault, new_key(vault, KeyContext("acme", "b@1", "ckks"), encryptor.parameters))
    one = encryptor.encrypt(numbers)
    with pytest.raises(Mismatch, match=r"key: .*scale_bits: 18 and 10"):
        _ = one + other.encrypt(numbers, scale_bits=10)
    with pytest.raises(Mismatch, match="shape"):
        _ = one + encryptor.encrypt(numbers.T)
    with pytest.raises(Mismatch, match="key differ"):
        other.decrypt(one)
    with pytest.raises(InvalidInput):
        total([])


def test_residues_that_no_encryption_can_have_are_refused(encryptor: HomoEncryptor) -> None:
    tensor = encryptor.encrypt([1.0])
    for bad in (
        tensor.residues + encryptor.parameters.modulus,
        -tensor.residues - 1,
        tensor.residues[..., :-1],
        tensor.residues.double(),
    ):
        with pytest.raises(Corrupted):
            CipherTensor(tensor.header, bad)


def test_sums_that_may_overflow_are_refused(encryptor: HomoEncryptor) -> None:
    room = encryptor.parameters.modulus / 2 / 2**18
    big = encryptor.encrypt([1.0], bound=0.6 * room)
    with pytest.raises(ScaleOverflow):
        _ = big + big
    with pytest.raises(ScaleOverflow):
        encryptor.encrypt([1.0], bound=2 * room)
    with pytest.raises(InvalidInput, match=r"\(0,\)"):
        encryptor.encrypt([math.nan])
    with pytest.raises(InvalidInput, match="beyond the bound 2"):
        encryptor.encrypt([0, 3.0], bound=2)


def test_a_key_opens_only_with_its_vault_and_only_as_a_pair(
    vault: SealedFileVault, key: SealedKey, tmp_path: Path
) -> None:
    back = SealedKey.from_json(key.to_json())
    tensor = HomoEncryptor(vault, key).encrypt([2.5])
    assert HomoEncryptor(vault, back).decrypt(tensor)[0] == pytest.approx(2.5, abs=1e-3)
    other_vault = SealedFileVault.create(tmp_path / "v.json", KeyFile.create(tmp_path / "v.key"))
    with pytest.raises(WrongVault):
        HomoEncryptor(other_vault, key)
    stranger = new_key(vault, key.context, key.public.parameters)
    with pytest.raises((VaultCorrupted, WrongVault, WrongKey)):
        HomoEncryptor(vault, replace(key, public=stranger.public))
    with pytest.raises(Corrupted):
        SealedKey.from_json(b"{}")


def test_an_encryptor_shows_nothing_and_is_not_copied(encryptor: HomoEncryptor, key: SealedKey) -> None:
    assert repr(encryptor) == f"HomoEncryptor({encryptor.public.fingerprint})"
    assert "secret" not in repr(key)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(encryptor)


def test_fresh_errors_have_the_bound_and_the_variance_that_plans_rest_on(encryptor: HomoEncryptor) -> None:
    from secure_train.ckks import EncryptedBy, PublicEncryptor

    for by, who in (
        (EncryptedBy.SECRET_KEY, encryptor),
        (EncryptedBy.PUBLIC_KEY, PublicEncryptor(encryptor.public)),
    ):
        errors = encryptor.decrypt_integers(who.encrypt(np.zeros(60 * 2048)))
        assert np.abs(errors).max() <= by.noise_bound(2048)
        assert errors.var() == pytest.approx(by.noise_variance(2048), rel=0.05)
