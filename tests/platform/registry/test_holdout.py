"""The held-out split."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_train.registry import RowErrors
from secure_train.registry.holdout import holdout_mask

KEY = bytes(range(32))


@given(st.integers(2, 3000), st.floats(0.01, 0.5), st.binary(min_size=32, max_size=32))
def test_the_split_has_exactly_the_public_size(rows: int, fraction: float, key: bytes) -> None:
    count = round(rows * fraction)
    if count == 0:
        with pytest.raises(RowErrors, match="too few rows"):
            holdout_mask(rows, fraction, key)
    else:
        assert int(holdout_mask(rows, fraction, key).sum()) == count


def test_the_split_depends_on_the_key_and_on_nothing_else() -> None:
    first, again = holdout_mask(1000, 0.2, KEY), holdout_mask(1000, 0.2, KEY)
    other = holdout_mask(1000, 0.2, bytes(32))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_split_is_the_one_it_has_always_been() -> None:
    held_out = torch.nonzero(holdout_mask(40, 0.2, KEY)).flatten().tolist()
    assert held_out == [3, 6, 8, 9, 14, 21, 28, 34]


def test_every_row_is_held_out_equally_often() -> None:
    rows, draws = 50, 2000
    counts = torch.zeros(rows)
    for draw in range(draws):
        counts += holdout_mask(rows, 0.2, draw.to_bytes(32, "big"))
    # Binomial(2000, 0.2): mean 400, deviation 17.9. The keys are fixed, so this never flakes.
    assert (counts - 400).abs().max() < 5 * 17.9


def test_nothing_is_held_out_where_the_owner_wants_none() -> None:
    assert not holdout_mask(7, 0.0, KEY).any()
