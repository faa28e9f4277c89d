"""What leaves the custodian has the noise and the sensitivity that it is accounted for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_train.ckks import HomoEncryptor, InvalidInput, ScaleOverflow, gradient
from secure_train.ckks.packing import Packing
from secure_train.ckks.release import Coefficients, on_grid, release, sensitivity


def test_noise_has_its_deviation_and_the_sum_is_its_mean() -> None:
    sums = np.full(20000, 5 << 36)
    found = release(sums, 36, 2.0)
    assert found.mean() == pytest.approx(5, abs=6 * 2 / math.sqrt(20000))
    assert found.std() == pytest.approx(2, rel=0.03)
    assert (np.ldexp(found, 20) == np.rint(np.ldexp(found, 20))).all()
    assert not np.array_equal(found, release(sums, 36, 2.0))
    assert release(np.zeros((3, 4), np.int64), 36, 1.0).shape == (3, 4)


@settings(max_examples=200)
@given(st.lists(st.integers(-(2**52), 2**52), min_size=1, max_size=8), st.integers(0, 36))
def test_rounding_to_the_grid_moves_neighbours_apart_by_at_most_a_cell(values: list[int], grid: int) -> None:
    integers = np.array(values)
    cell = 2.0 ** (36 - grid)
    assert np.abs(on_grid(integers, 36, grid) * cell - integers).max() <= cell / 2
    moved = on_grid(integers + 12345, 36, grid) - on_grid(integers, 36, grid)
    assert np.abs(moved * cell - 12345).max() <= cell


def test_one_record_moves_the_decrypted_sum_by_at_most_the_sensitivity(encryptor: HomoEncryptor) -> None:
    """Both sums are encrypted afresh: the same randomness cannot be had twice."""
    rng = np.random.default_rng(4)
    block, clip = 64, 1.0
    x = rng.normal(size=(64, 40))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    d = rng.normal(size=(64, 3))
    d *= clip / np.linalg.norm(d, axis=1, keepdims=True)
    less_x, less_d = x.copy(), d.copy()
    less_x[7], less_d[7] = 0, 0
    results = []
    for records, errors in ((x, d), (less_x, less_d)):
        a = encryptor.encrypt_records(records, bound=1, samples_per_block=block)
        b = encryptor.encrypt_errors(errors, bound=clip, samples_per_block=block)
        results.append(encryptor.decrypt(gradient(a, b)))
    layer = Coefficients(Packing(2048, block), 40, 3, 1.0, clip, a.header.error, b.header.error)
    bound = sensitivity(clip, [layer], 120)
    assert clip < bound < 1.02 * clip
    # Two encryptions differ by their errors too, which the bound need not cover; they are small here.
    assert np.linalg.norm(results[0] - results[1]) < bound + 0.02


def test_sensitivity_includes_rounding_and_grows_with_noise() -> None:
    layer = Coefficients(Packing(2048, 64), 784, 10, 1.0, math.sqrt(2), 8e-5, 8e-5)
    assert sensitivity(1.0, [], 7840, grid_bits=10) == pytest.approx(1 + math.sqrt(7840) / 1024)
    assert layer.excess() > Coefficients(Packing(2048, 64), 784, 10, 1.0, math.sqrt(2), 2e-5, 2e-5).excess()
    assert sensitivity(1.0, [layer, layer], 10) > sensitivity(1.0, [layer], 10) > 1.0


def test_what_cannot_be_noised_exactly_is_refused() -> None:
    sums = np.zeros(3, np.int64)
    for deviation in (0.0, -1.0, math.inf, math.nan, 1e-9):
        with pytest.raises(InvalidInput):
            release(sums, 36, deviation)
    with pytest.raises(InvalidInput, match="grid_bits"):
        release(sums, 10, 1.0, grid_bits=20)
    with pytest.raises(ScaleOverflow):
        release(sums, 36, 1e13)
