"""Encrypted products are the plaintext ones within the error that their headers promise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from secure_train.ckks import (
    CipherTensor,
    Content,
    HomoEncryptor,
    InvalidInput,
    Mismatch,
    Parameters,
    PublicEncryptor,
    ScaleOverflow,
    forward,
    gradient,
    kernel,
    mask,
    new_key,
    total,
)
from secure_train.ckks.masking import uniform
from secure_train.vault import KeyContext, SealedFileVault


def rows(rng: np.random.Generator, count: int, width: int, length: float = 1.0) -> np.ndarray:
    found = rng.normal(size=(count, width))
    return length * found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


SHAPES = [(150, 40, 3, 64), (1, 1, 1, 2048), (70, 5, 2, 2048), (33, 70, 4, 16), (5, 2100, 1, 1)]


@pytest.mark.parametrize(("samples", "features", "outputs", "block"), SHAPES)
def test_outputs_and_gradients_are_right_within_the_promised_error(
    encryptor: HomoEncryptor, rng: np.random.Generator, samples: int, features: int, outputs: int, block: int
) -> None:
    records, weights = rows(rng, samples, features), rng.normal(size=(features, outputs))
    errors = rows(rng, samples, outputs)
    x = encryptor.encrypt_records(records, bound=1, samples_per_block=block)
    d = encryptor.encrypt_errors(errors, bound=1, samples_per_block=block)
    z, g = forward(x, weights, scale_bits=18), gradient(x, d)
    for found, expected in ((z, records @ weights), (g, records.T @ errors)):
        difference = np.abs(encryptor.decrypt(found) - expected).max()
        assert difference <= found.header.error
        # The bound is the worst case; what happens is far below it.
        assert difference < 0.02
    assert np.abs(encryptor.decrypt(x) - records).max() <= x.header.error
    assert np.abs(encryptor.decrypt(d) - errors).max() <= d.header.error


def everything(encryptor: HomoEncryptor, product: CipherTensor) -> np.ndarray:
    """Every coefficient of a product's plaintext, as whoever decrypts it could see them."""
    header = product.header
    degree = header.parameters.ring_degree
    disguised = replace(
        header, content=Content.ARRAY, shape=(math.prod(header.grid) * degree,), samples_per_block=degree
    )
    return encryptor.decrypt_integers(
        CipherTensor(disguised, product.residues.reshape(disguised.residues_shape))
    ).reshape(*header.grid, degree)


def test_masked_outputs_hold_the_results_and_otherwise_uniform_numbers(
    encryptor: HomoEncryptor, rng: np.random.Generator
) -> None:
    x = encryptor.encrypt_records(rows(rng, 640, 40), bound=1, samples_per_block=64)
    z = forward(x, rng.normal(size=(40, 4)), scale_bits=18)
    masked = mask(z, encryptor.public)
    difference = np.abs(encryptor.decrypt(masked) - encryptor.decrypt(z)).max()
    assert 0 < difference <= masked.header.error - z.header.error < 1e-5
    modulus = encryptor.parameters.modulus
    before, after = (everything(encryptor, product)[..., 64:] / modulus + 0.5 for product in (z, masked))
    assert np.abs(before - 0.5).max() < 0.01
    eighths = np.bincount((after * 8).astype(int).ravel(), minlength=8)
    assert np.abs(eighths - after.size / 8).max() < 6 * np.sqrt(after.size / 8)


@pytest.mark.parametrize("block", [64, 2048])
def test_a_masked_gradient_keeps_its_value_and_shows_no_factor(
    encryptor: HomoEncryptor, rng: np.random.Generator, block: int
) -> None:
    x = encryptor.encrypt_records(rows(rng, 60, 40), bound=1, samples_per_block=block)
    d = encryptor.encrypt_errors(rows(rng, 60, 2), bound=1, samples_per_block=block)
    product = gradient(x, d)
    masked = mask(product, encryptor.public)
    difference = np.abs(encryptor.decrypt(masked) - encryptor.decrypt(product)).max()
    assert difference <= masked.header.error - product.header.error
    # Both components that could be solved for the record's ciphertext are fresh.
    assert (masked.residues[..., :2, :] != product.residues[..., :2, :]).float().mean() > 0.999
    assert (masked.residues[..., 2, :] == product.residues[..., 2, :]).all()


def test_only_products_of_the_same_key_are_masked(
    encryptor: HomoEncryptor, rng: np.random.Generator, vault: SealedFileVault
) -> None:
    x = encryptor.encrypt_records(rows(rng, 10, 4), bound=1, samples_per_block=64)
    with pytest.raises(Mismatch, match="no product"):
        mask(x, encryptor.public)
    other = new_key(vault, KeyContext("acme", "other@1", "ckks"), encryptor.parameters)
    with pytest.raises(Mismatch, match="cannot be masked"):
        mask(forward(x, np.ones((4, 1)), scale_bits=18), other.public)


def test_uniform_numbers_cover_the_ring_evenly(parameters: Parameters) -> None:
    drawn = uniform((200, 2048), parameters)
    assert drawn.min() >= 0
    assert drawn.max() < parameters.modulus
    eighths = np.bincount((drawn / parameters.modulus * 8).astype(int).ravel(), minlength=8)
    assert np.abs(eighths - drawn.size / 8).max() < 6 * np.sqrt(drawn.size / 8)


def test_workers_partial_gradients_sum_to_the_whole(
    encryptor: HomoEncryptor, rng: np.random.Generator
) -> None:
    records, errors = rows(rng, 256, 40), rows(rng, 256, 3)
    parts = [
        gradient(
            encryptor.encrypt_records(records[at], bound=1, samples_per_block=64),
            encryptor.encrypt_errors(errors[at], bound=1, samples_per_block=64),
        )
        for at in (slice(0, 128), slice(128, 256))
    ]
    whole = total(parts)
    assert whole.header.bound == 256
    assert np.abs(encryptor.decrypt(whole) - records.T @ errors).max() <= whole.header.error


def test_owners_encrypt_under_the_public_key_and_only_the_custodian_decrypts(
    encryptor: HomoEncryptor, rng: np.random.Generator
) -> None:
    records, weights = rows(rng, 64, 30), rng.normal(size=(30, 2))
    pooled = PublicEncryptor(encryptor.public)
    z = forward(pooled.encrypt_records(records, bound=1, samples_per_block=64), weights, scale_bits=18)
    assert np.abs(encryptor.decrypt(z) - records @ weights).max() < 0.05
    assert not hasattr(pooled, "decrypt")


def test_zero_weights_give_zero(encryptor: HomoEncryptor, rng: np.random.Generator) -> None:
    x = encryptor.encrypt_records(rows(rng, 10, 4), bound=1, samples_per_block=64)
    for name in ("seal", "torch", "fused"):
        assert not encryptor.decrypt(forward(x, np.zeros((4, 2)), scale_bits=18, kernel=kernel(name))).any()


def test_a_sum_that_could_wrap_around_is_refused_before_it_is_computed(
    encryptor: HomoEncryptor, rng: np.random.Generator
) -> None:
    records, errors = rows(rng, 64, 4), rows(rng, 64, 2)
    x = encryptor.encrypt_records(records, bound=1, samples_per_block=64, scale_bits=22)
    d = encryptor.encrypt_errors(errors, bound=1, samples_per_block=64, scale_bits=22)
    with pytest.raises(ScaleOverflow, match="lower the scale"):
        gradient(x, d)
    assert gradient(x, d, clip=0.5).header.bound == 32
    with pytest.raises(ScaleOverflow):
        forward(x, np.full((4, 1), 1e6), scale_bits=22)


def test_what_does_not_belong_together_is_named(encryptor: HomoEncryptor, rng: np.random.Generator) -> None:
    x = encryptor.encrypt_records(rows(rng, 64, 4), bound=1, samples_per_block=64)
    d = encryptor.encrypt_errors(rows(rng, 64, 2), bound=1, samples_per_block=128)
    with pytest.raises(Mismatch, match="samples_per_block: 64 and 128"):
        gradient(x, d)
    with pytest.raises(Mismatch, match="records"):
        forward(d, np.ones((2, 1)), scale_bits=18)
    with pytest.raises(InvalidInput, match="weights"):
        forward(x, np.full((4, 1), np.nan), scale_bits=18)
    with pytest.raises(Mismatch, match="64 records and error signals of 63"):
        gradient(x, encryptor.encrypt_errors(rows(rng, 63, 2), bound=1, samples_per_block=64))


def test_records_that_are_not_finite_or_too_long_are_refused_by_row(encryptor: HomoEncryptor) -> None:
    bad = np.zeros((3, 2))
    bad[1, 0] = np.nan
    with pytest.raises(InvalidInput, match="row 1 is not finite"):
        encryptor.encrypt_records(bad, bound=1, samples_per_block=64)
    with pytest.raises(InvalidInput, match="row 2 is longer") as refusal:
        encryptor.encrypt_records([[0, 0], [0, 1], [9.75, 0]], bound=1, samples_per_block=64)
    assert "9.75" not in str(refusal.value)
