"""The sampler runs what the accountant assumes, and continues where it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from secure_train.dp import InvalidParameterError, PoissonSampler
from secure_train.dp.keyed import Words, derive

KEY = bytes(range(32))
positions = st.integers(0, 2**40)


def test_words_are_aes_of_a_counter():
    key = derive(KEY, "test", rank=1)
    blocks = b"".join(counter.to_bytes(16, "big") for counter in range(5))
    expected = Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(blocks)  # noqa: S305 - the reference
    assert Words(key).take(10).astype("<u8").tobytes() == expected


def test_words_taken_in_parts_are_the_words_taken_at_once():
    whole, parts = Words(KEY).take(10), Words(KEY)
    assert np.array_equal(whole, np.concatenate([parts.take(3), parts.take(7)]))


def test_derived_keys_are_frozen():
    # A job resumed under a newer version must draw the same samples and noise: this value may never change.
    assert (
        derive(KEY, "sample", rank=0, rate=0.5).hex()
        == "0ee008c4a3f8afbd77174cb865e7b866a475520be0254045c0c45cc71a581900"
    )


def test_a_sample_is_frozen():
    assert PoissonSampler(60, 0.1, KEY, rank=1).sample(2, 3).tolist() == [4, 6, 14, 33, 45]


@given(epoch=positions, step=positions, others=st.lists(st.tuples(positions, positions), max_size=3))
def test_a_sample_depends_on_its_position_only(epoch, step, others):
    sampler = PoissonSampler(100, 0.3, KEY, rank=0)
    for other in others:
        sampler.sample(*other)
    restarted = PoissonSampler(100, 0.3, KEY, rank=0)
    assert torch.equal(sampler.sample(epoch, step), restarted.sample(epoch, step))


@given(step=st.integers(0, 10_000), rate=st.floats(1e-6, 1.0), records=st.integers(0, 300))
def test_samples_are_sorted_distinct_local_indices(step, rate, records):
    chosen = PoissonSampler(records, rate, KEY, rank=0).sample(0, step)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert all(0 <= index < records for index in chosen.tolist())


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5, 0.97])
def test_records_are_included_with_exactly_the_stated_probability(rate):
    sampler = PoissonSampler(50_000, rate, KEY, rank=0)
    counts = sum(len(sampler.sample(0, step)) for step in range(20))
    trials = 20 * 50_000
    assert abs(counts - trials * rate) < 5 * math.sqrt(trials * rate * (1 - rate))


def test_batch_sizes_vary_as_binomial_ones_do():
    # Fixed-size batches accounted for as Poisson would understate epsilon: the variance must be there.
    sampler = PoissonSampler(1000, 0.1, KEY, rank=0)
    sizes = torch.tensor([len(sampler.sample(0, step)) for step in range(2000)]).double()
    assert float(sizes.var()) == pytest.approx(90, rel=0.16)  # 5 standard errors


def _overlap(first: PoissonSampler, second: PoissonSampler, position: tuple[int, int]) -> float:
    """The correlation of inclusion over 100,000 records."""
    a = np.zeros(100_000)
    b = np.zeros(100_000)
    a[first.sample(0, 0)] = 1
    b[second.sample(*position)] = 1
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize(
    ("other", "position"),
    [
        (PoissonSampler(100_000, 0.3, KEY, rank=0), (0, 1)),
        (PoissonSampler(100_000, 0.3, KEY, rank=0), (1, 0)),
        (PoissonSampler(100_000, 0.3, KEY, rank=1), (0, 0)),
        (PoissonSampler(100_000, 0.3, bytes(32), rank=0), (0, 0)),
        (PoissonSampler(100_000, 0.31, KEY, rank=0), (0, 0)),
    ],
    ids=["step", "epoch", "rank", "key", "rate"],
)
def test_samples_at_different_positions_are_independent(other, position):
    first = PoissonSampler(100_000, 0.3, KEY, rank=0)
    assert abs(_overlap(first, other, position)) < 5 / math.sqrt(100_000)


def test_neighbouring_records_are_included_independently():
    sampler = PoissonSampler(100_000, 0.3, KEY, rank=0)
    included = np.zeros(100_000)
    included[sampler.sample(0, 0)] = 1
    assert abs(np.corrcoef(included[:-1], included[1:])[0, 1]) < 5 / math.sqrt(100_000)


def test_more_records_than_one_chunk_are_all_reachable():
    records = (1 << 20) + 1000
    chosen = PoissonSampler(records, 0.5, KEY, rank=0).sample(0, 0)
    tail = chosen[chosen >= 1 << 20]
    assert 400 < len(tail) < 600
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_rate_one_takes_everyone():
    assert PoissonSampler(5, 1.0, KEY, rank=0).sample(3, 4).tolist() == [0, 1, 2, 3, 4]


def test_the_largest_rate_below_one_does_not_take_everyone_for_granted():
    rate = math.nextafter(1.0, 0.0)
    assert len(PoissonSampler(1000, rate, KEY, rank=0).sample(0, 0)) == 1000


def test_empty_shards_and_empty_batches_are_normal():
    assert PoissonSampler(0, 0.5, KEY, rank=0).sample(0, 0).shape == (0,)
    assert PoissonSampler(3, 1e-12, KEY, rank=0).sample(0, 0).shape == (0,)


def test_the_key_is_never_shown():
    assert "key" not in repr(PoissonSampler(3, 0.5, KEY, rank=0))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rate": 0.0}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"rate": math.nan}, "rate"),
        ({"num_records": -1}, "num_records"),
        ({"rank": -1}, "rank"),
        ({"rank": True}, "rank"),
        ({"key": b"short"}, "key"),
        ({"key": "x" * 32}, "key"),
    ],
)
def test_meaningless_parameters_are_refused_by_name(change, field):
    with pytest.raises(InvalidParameterError, match=field):
        PoissonSampler(**({"num_records": 3, "rate": 0.5, "key": KEY, "rank": 0} | change))


def test_negative_positions_are_refused():
    with pytest.raises(InvalidParameterError, match="step"):
        PoissonSampler(3, 0.5, KEY, rank=0).sample(0, -1)


@given(step=st.integers(0, 10_000), limit=st.integers(1, 60))
def test_a_truncated_sample_is_a_subset_within_its_limit(step, limit):
    plain = PoissonSampler(100, 0.4, KEY, rank=0).sample(0, step).tolist()
    cut = PoissonSampler(100, 0.4, KEY, rank=0, limit=limit).sample(0, step).tolist()
    assert len(cut) == min(limit, len(plain))
    assert set(cut) <= set(plain)
    assert cut == sorted(cut)


def test_truncation_favours_no_record():
    steps, records, limit = 4000, 40, 8
    sampler = PoissonSampler(records, 0.5, KEY, rank=0, limit=limit)
    counts = np.bincount(
        np.concatenate([sampler.sample(0, step).numpy() for step in range(steps)]), minlength=records
    )
    expected = steps * limit / records
    # Draws of one step exclude each other, so the statistic is below a chi-square's: the test is safe.
    assert ((counts - expected) ** 2 / expected).sum() < 110


def test_a_limit_below_one_is_refused():
    with pytest.raises(InvalidParameterError, match="limit"):
        PoissonSampler(10, 0.5, KEY, rank=0, limit=0)
