"""The workers' shares add up to the noise that is accounted for, and are never used twice."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from secure_train.dp import GaussianNoise, InvalidParameterError
from secure_train.dp.gaussian import _add_pairs

KEY = bytes(range(32))
SIZE = 200_000
FROZEN = [0.5346570358237845, -0.9485128045540564, 0.5136613223018606, 0.8790374252992296]


def draw(
    noise: GaussianNoise, *, std: float = 1.0, epoch: int = 0, step: int = 0, dtype=torch.float64, size=SIZE
) -> torch.Tensor:
    total = torch.zeros(size, dtype=dtype)
    noise.add_to(total, std, epoch, step)
    return total


def test_noise_is_frozen():
    # A step re-run under a newer version should meet the same noise: these values may never change.
    values = draw(GaussianNoise(KEY, rank=1, world_size=4), std=2.0, epoch=3, step=4, size=4)
    assert values.tolist() == pytest.approx(FROZEN, rel=1e-12)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_sum_over_workers_has_the_total_deviation(workers):
    total = sum(draw(GaussianNoise(KEY, rank, workers), std=2.5) for rank in range(workers))
    # Standard error 0.16 %; dividing by the root of the workers twice, or never, is off by 29 % or more.
    assert float(total.std()) == pytest.approx(2.5, rel=0.008)
    assert abs(float(total.mean())) < 5 * 2.5 / math.sqrt(SIZE)


@pytest.mark.parametrize("workers", [2, 8])
def test_each_share_has_its_part_of_the_variance(workers):
    for rank in range(workers):
        share = draw(GaussianNoise(KEY, rank, workers), std=2.5)
        assert float(share.std()) == pytest.approx(2.5 / math.sqrt(workers), rel=0.008)


def test_noise_is_gaussian_into_its_tails():
    values = draw(GaussianNoise(KEY, 0, 1)).numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    beyond = (abs(values) > 3).mean()
    assert beyond == pytest.approx(2 * stats.norm.sf(3), rel=0.25)


def test_both_halves_of_box_muller_are_independent():
    values = draw(GaussianNoise(KEY, 0, 1))
    first, second = values[: SIZE // 2], values[SIZE // 2 :]
    for a, b in ((first, second), (first.square(), second.square())):
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 5 / math.sqrt(SIZE / 2)


@pytest.mark.parametrize(
    ("noise", "position"),
    [
        (GaussianNoise(KEY, 0, 2), {"step": 1}),
        (GaussianNoise(KEY, 0, 2), {"epoch": 1}),
        (GaussianNoise(KEY, 1, 2), {}),
        (GaussianNoise(bytes(32), 0, 2), {}),
        (GaussianNoise(KEY, 0, 3), {}),
        (GaussianNoise(KEY, 0, 2), {"std": 1.5}),
    ],
    ids=["step", "epoch", "rank", "key", "world size", "deviation"],
)
def test_noise_at_different_positions_is_independent(noise, position):
    pair = torch.stack([draw(GaussianNoise(KEY, 0, 2)), draw(noise, **position)])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(SIZE)


def test_noise_again_is_the_same_bits():
    noise = GaussianNoise(KEY, 0, 2)
    draw(noise, step=9)
    assert torch.equal(draw(noise, step=5), draw(GaussianNoise(KEY, 0, 2), step=5))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 131071, 131072, 131073, 300_001])
def test_every_coordinate_gets_its_own_noise(size):
    total = draw(GaussianNoise(KEY, 0, 1), dtype=torch.float32, size=size)
    assert bool((total != 0).all())
    assert len(total.unique()) >= 0.98 * size


def test_noise_is_added_to_what_is_there():
    noise, size = GaussianNoise(KEY, 0, 1), 1000
    total = torch.full((size,), 5.0, dtype=torch.float64)
    noise.add_to(total, 1.0, 0, 0)
    assert torch.allclose(total - 5, draw(noise, size=size))


def test_single_precision_draws_the_same_variates_as_double():
    noise = GaussianNoise(KEY, 0, 1)
    single, double = draw(noise, dtype=torch.float32), draw(noise, dtype=torch.float64)
    assert torch.allclose(single.double(), double, rtol=0, atol=2e-3)
    assert float((single.double() - double).abs().mean()) < 1e-6


def test_large_radii_come_from_words_near_zero():
    # The radius of (high, low) = (0, 0) is the largest: 9.5 deviations, where 32 bits alone would end at 6.7.
    words = torch.zeros(1, dtype=torch.uint32)
    part = torch.zeros(2)
    _add_pairs(part, words, words, words, std=1.0)
    assert part.tolist() == pytest.approx([math.sqrt(2 * 65 * math.log(2)), 0.0])
    part.zero_()
    _add_pairs(part, *(torch.full((1,), 2**32 - 1, dtype=torch.uint32) for _ in range(3)), std=1.0)
    assert bool(part.isfinite().all())


def test_model_seeds_differ_by_position_and_rank():
    noise = GaussianNoise(KEY, 0, 2)
    seeds = {noise.model_seed(e, s) for e in range(3) for s in range(3)}
    assert len(seeds) == 9
    assert GaussianNoise(KEY, 1, 2).model_seed(0, 0) not in seeds
    assert noise.model_seed(1, 2) == GaussianNoise(KEY, 0, 2).model_seed(1, 2)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_no_deviation_means_no_noise_and_is_refused(std):
    with pytest.raises(InvalidParameterError, match="std_total"):
        GaussianNoise(KEY, 0, 1).add_to(torch.zeros(3), std, 0, 0)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), "float32 or float64"),
        (torch.zeros(3, dtype=torch.bfloat16), "float32 or float64"),
        (torch.zeros(3, 2), "flat"),
        (torch.zeros(6)[::2], "contiguous"),
    ],
    ids=["integers", "reduced precision", "matrix", "strided"],
)
def test_tensors_that_noise_cannot_be_added_to_are_refused(tensor, message):
    with pytest.raises(InvalidParameterError, match=message):
        GaussianNoise(KEY, 0, 1).add_to(tensor, 1.0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "field"), [((KEY, 2, 2), "rank"), ((KEY, -1, 2), "rank"), ((b"", 0, 1), "key")]
)
def test_meaningless_parameters_are_refused_by_name(arguments, field):
    with pytest.raises(InvalidParameterError, match=field):
        GaussianNoise(*arguments)


def test_the_key_is_never_shown():
    assert "key" not in repr(GaussianNoise(KEY, 0, 1))
