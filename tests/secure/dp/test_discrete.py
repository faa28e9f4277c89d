"""Discrete Gaussian noise has exactly the stated distribution, on a public grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secure_train.dp.discrete import LARGEST_SCALE, _below, _exp_minus, discrete_gaussian
from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import Words
from secure_train.dp.noise import DiscreteGaussianNoise

KEY = bytes(range(32))
FROZEN = [-245, 308, 523, -182, 1670, -624]
ALARM = 1e-6
"""Probability at which a correct sampler is accused; keys are fixed, so the verdict never changes."""


@pytest.mark.parametrize("scale", [1, 2, 7, 40])
def test_every_integer_has_its_probability(scale):
    drawn = discrete_gaussian(Words(KEY), 200_000, scale)
    support = np.arange(-9 * scale, 9 * scale + 1)
    weights = np.exp(-(support.astype(float) ** 2) / (2 * scale**2))
    expected = weights / weights.sum() * len(drawn)
    observed = np.array([(drawn == value).sum() for value in support])
    common = expected > 10
    statistic = ((observed - expected)[common] ** 2 / expected[common]).sum()
    assert stats.chi2.sf(statistic, common.sum() - 1) > ALARM


def test_large_scales_look_gaussian_into_the_tails():
    drawn = discrete_gaussian(Words(KEY), 200_000, LARGEST_SCALE) / LARGEST_SCALE
    assert stats.kstest(drawn, "norm").pvalue > ALARM
    beyond = int((abs(drawn) > 3.5).sum())
    assert stats.binomtest(beyond, len(drawn), 2 * stats.norm.sf(3.5)).pvalue > ALARM


def test_the_sampler_is_frozen():
    assert discrete_gaussian(Words(KEY), 6, 1000).tolist() == FROZEN


@given(numerator=st.integers(0, 40), denominator=st.integers(1, 20))
@settings(max_examples=15, deadline=None)
def test_coins_fall_with_probability_exp_minus_gamma(numerator, denominator):
    heads = int(_exp_minus(Words(KEY), np.full(20_000, numerator), denominator).sum())
    assert stats.binomtest(heads, 20_000, math.exp(-numerator / denominator)).pvalue > ALARM


@pytest.mark.parametrize("bound", [1, 2, 3, 1000, 3 << 61])
def test_integers_below_a_bound_are_uniform(bound):
    # The last bound rejects a quarter of all words, which a plain remainder would not.
    drawn = _below(Words(KEY), 60_000, bound)
    assert drawn.min() >= 0
    assert drawn.max() < bound
    observed = np.bincount((drawn.astype(object) * 3 // bound).astype(int), minlength=3)
    edges = [-(-bound * k // 3) for k in range(4)]
    expected = np.diff(np.array(edges, dtype=object)).astype(float) / bound
    keep = expected > 0
    assert observed[~keep].sum() == 0
    assert bound == 1 or stats.chisquare(observed[keep], 60_000 * expected[keep]).pvalue > ALARM


@pytest.mark.parametrize("scale", [0, -1, LARGEST_SCALE + 1, 1.5, True])
def test_scales_that_cannot_be_exact_are_refused(scale):
    with pytest.raises(InvalidParameterError, match="scale"):
        discrete_gaussian(Words(KEY), 1, scale)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_released_is_a_whole_number_of_cells_for_every_sum_of_workers(workers):
    coordinates, std = 4000, 0.8
    shares = [DiscreteGaussianNoise(KEY, rank, workers, sensitivity=1.0) for rank in range(workers)]
    total, values = torch.zeros(coordinates, dtype=torch.float64), torch.randn(workers, coordinates)
    for noise, value in zip(shares, values.double(), strict=True):
        part = value.clone()
        noise.add_to(part, std, 0, 0)
        total += part
    cell, _ = shares[0].grid(std, coordinates)
    cells = total / cell
    assert torch.equal(cells, cells.round())
    noise_alone = total - values.double().sum(0)
    assert float(noise_alone.std()) == pytest.approx(std, rel=0.06)


@given(
    std=st.floats(1e-6, 1e6),
    workers=st.integers(1, 64),
    coordinates=st.integers(1, 10**8),
    sigma=st.floats(0.3, 10),
)
def test_rounding_is_paid_for_by_more_noise(std, workers, coordinates, sigma):
    sensitivity = std / sigma
    noise = DiscreteGaussianNoise(KEY, 0, workers, sensitivity=sensitivity)
    cell, scale = noise.grid(std, coordinates)
    after_rounding = sensitivity + cell * math.sqrt(coordinates)
    assert scale * cell * math.sqrt(workers) / after_rounding >= sigma * (1 - 1e-12)
    assert math.log2(cell) == round(math.log2(cell))
    assert scale <= LARGEST_SCALE


def test_single_precision_is_refused():
    with pytest.raises(InvalidParameterError, match="float64"):
        DiscreteGaussianNoise(KEY, 0, 1, sensitivity=1.0).add_to(torch.zeros(3), 1.0, 0, 0)
