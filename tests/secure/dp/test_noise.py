"""The workers' shares add up to the noise that is accounted for, and are never used twice."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from secure_train.dp import GaussianNoise, InvalidParameterError

KEY = bytes(range(32))
SIZE = 200_000


def draw(noise: GaussianNoise, *, std: float = 1.0, epoch: int = 0, step: int = 0) -> torch.Tensor:
    return noise.like([torch.empty(SIZE, dtype=torch.float64)], std, epoch, step)[0]


def test_noise_is_frozen():
    # A step re-run under a newer version must meet the same noise: these values may never change.
    noise = GaussianNoise(KEY, rank=1, world_size=4)
    values = noise.like([torch.empty(2, 2, dtype=torch.float64)], 2.0, 3, 4)[0]
    assert values.flatten().tolist() == pytest.approx(
        [-0.9485128047402089, 0.3276022560304044, 0.8790374251575456, -0.449948882147867], rel=1e-12
    )


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


def test_tensors_of_one_step_get_different_noise():
    first, second = GaussianNoise(KEY, 0, 1).like([torch.empty(50), torch.empty(50)], 1.0, 0, 0)
    assert not torch.equal(first, second)


def test_shares_match_shape_dtype_and_order():
    named = {"w": torch.empty(3, 5), "b": torch.empty(7, dtype=torch.float64), "s": torch.empty(())}
    shares = GaussianNoise(KEY, 0, 1).like(named, 1.0, 0, 0)
    assert [(s.shape, s.dtype) for s in shares] == [(t.shape, t.dtype) for t in named.values()]
    assert all(bool((s != 0).all()) for s in shares)


def test_model_seeds_differ_by_position_and_rank():
    noise = GaussianNoise(KEY, 0, 2)
    seeds = {noise.model_seed(e, s) for e in range(3) for s in range(3)}
    assert len(seeds) == 9
    assert GaussianNoise(KEY, 1, 2).model_seed(0, 0) not in seeds
    assert noise.model_seed(1, 2) == GaussianNoise(KEY, 0, 2).model_seed(1, 2)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_no_deviation_means_no_noise_and_is_refused(std):
    with pytest.raises(InvalidParameterError, match="std_total"):
        GaussianNoise(KEY, 0, 1).like([torch.empty(3)], std, 0, 0)


def test_integer_tensors_are_refused():
    with pytest.raises(InvalidParameterError, match="floating"):
        GaussianNoise(KEY, 0, 1).like([torch.zeros(3, dtype=torch.int64)], 1.0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "field"), [((KEY, 2, 2), "rank"), ((KEY, -1, 2), "rank"), ((b"", 0, 1), "key")]
)
def test_meaningless_parameters_are_refused_by_name(arguments, field):
    with pytest.raises(InvalidParameterError, match=field):
        GaussianNoise(*arguments)


def test_the_key_is_never_shown():
    assert "key" not in repr(GaussianNoise(KEY, 0, 1))
