"""A plan is secure, cannot overflow, and says what to change where it must refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from secure_train.ckks import (
    CKKSError,
    EncryptedBy,
    HomoEncryptor,
    InsecureParameters,
    InvalidInput,
    Parameters,
    ScaleOverflow,
    forward,
    gradient,
    new_key,
)
from secure_train.ckks.parameters import MOST_MODULUS_BITS, is_prime
from secure_train.ckks.plan import Limits, plan
from secure_train.vault import KeyContext, SealedFileVault

OWN = EncryptedBy.SECRET_KEY
POOLED = EncryptedBy.PUBLIC_KEY


def test_parameters_below_128_bits_of_security_are_refused() -> None:
    for degree, bits in MOST_MODULUS_BITS.items():
        if bits < 60:
            with pytest.raises(InsecureParameters, match=f"at most {bits} bits, or a larger N"):
                Parameters.of_bits(degree, bits + 1)
    with pytest.raises(InsecureParameters):
        Parameters(1024, Parameters.of_bits(2048, 54).modulus)
    with pytest.raises(InsecureParameters):
        plan(784, 10, 4096, 1.0, OWN, ring_degree=1024, modulus_bits=51)


def test_only_suitable_primes_make_a_ring() -> None:
    ring = Parameters.of_bits(2048, 51)
    assert ring.modulus % 4096 == 1
    assert is_prime(ring.modulus)
    for wrong in (ring.modulus - 1, ring.modulus - 4096, 2**50):
        with pytest.raises(InvalidInput):
            Parameters(2048, wrong)
    with pytest.raises(InvalidInput):
        Parameters.of_bits(1000, 20)
    assert ring.id != Parameters.of_bits(2048, 54).id


def test_primes_are_told_from_strong_pseudoprimes() -> None:
    assert [n for n in range(60) if is_prime(n)] == [
        n for n in range(60) if n > 1 and all(n % d for d in range(2, n))
    ]
    for composite in (3215031751, 3825123056546413051, 341550071728321):
        assert not is_prime(composite)


def test_a_plan_holds_when_it_is_carried_out(vault: SealedFileVault) -> None:
    made = plan(40, 3, 300, 0.5, OWN)
    key = new_key(vault, KeyContext("acme", "planned@1", "ckks"), made.parameters)
    encryptor = HomoEncryptor(vault, key)
    rng = np.random.default_rng(1)
    records, errors = rng.normal(size=(300, 40)), rng.normal(size=(300, 3))
    records /= np.linalg.norm(records, axis=1, keepdims=True)
    errors *= 1 / np.linalg.norm(errors, axis=1, keepdims=True)
    weights = rng.normal(size=(40, 3))
    block = made.packing.samples
    x = encryptor.encrypt_records(
        records, bound=1, samples_per_block=block, scale_bits=made.record_scale_bits
    )
    d = encryptor.encrypt_errors(
        errors, bound=math.sqrt(2), samples_per_block=block, scale_bits=made.scale_bits
    )
    z, g = forward(x, weights, scale_bits=made.scale_bits), gradient(x, d, clip=1)
    assert np.abs(encryptor.decrypt(z) - records @ weights).max() <= made.output_error
    assert np.abs(encryptor.decrypt(g) - records.T @ errors).max() <= made.gradient_error
    assert g.header.error <= made.worst_gradient_error * (1 + 1e-9)
    assert x.header.grid == (made.packing.sample_blocks(300), made.packing.feature_blocks(40))
    assert made.step.ciphertext_plain == math.prod(x.header.grid) * 3
    assert made.expected_batch == 150


def test_a_scale_that_could_overflow_is_refused_and_the_message_says_what_to_change() -> None:
    with pytest.raises(ScaleOverflow, match="lower the scale or the bound"):
        plan(784, 10, 4096, 1.0, OWN, scale_bits=22)
    with pytest.raises(ScaleOverflow, match="clipping norm"):
        plan(784, 10, 1 << 30, 1.0, OWN)
    assert plan(784, 10, 4096, 1.0, OWN).headroom_bits > 0


def test_more_noise_needs_a_wider_modulus() -> None:
    assert plan(784, 10, 4096, 1.0, OWN).parameters.modulus_bits == 51
    assert plan(784, 10, 4096, 1.0, POOLED).parameters.modulus_bits == 54


def test_the_tolerance_is_kept_or_named() -> None:
    strict = Limits(tolerance=1e-9)
    with pytest.raises(ScaleOverflow, match="beyond the tolerance 1e-09"):
        plan(10, 1, 100, 1.0, OWN, limits=strict)


def test_the_quickest_packing_is_chosen() -> None:
    chosen = plan(30, 1, 30000, 1.0, OWN)
    others = [
        plan(30, 1, 30000, 1.0, OWN, samples_per_block=1 << power, limits=Limits(tolerance=1))
        for power in range(12)
    ]
    total = min(other.step.seconds + other.step.setup_seconds / 100 for other in others)
    assert chosen.step.seconds + chosen.step.setup_seconds / 100 <= total * 1.001


def test_the_flooding_margin_adds_up_over_releases_and_falls_with_noise() -> None:
    made = plan(784, 10, 4096, 1.0, OWN)
    one = made.flooding_margin(10.0, 1)
    assert one == pytest.approx(784 * 10 * made.worst_gradient_error**2 / 200)
    assert made.flooding_margin(10.0, 50) == pytest.approx(50 * one)
    assert made.flooding_margin(20.0, 1) == pytest.approx(one / 4)


@pytest.mark.parametrize("wrong", [(0, 1, 1, 1.0), (1, 1, 1, 0.0), (1, 1, 1, 1.5), (1, 1, 1, math.nan)])
def test_what_is_no_layer_is_refused(wrong: tuple[int, int, int, float]) -> None:
    with pytest.raises(CKKSError):
        plan(*wrong, OWN)
