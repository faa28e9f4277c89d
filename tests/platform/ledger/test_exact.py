from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from secure_train.ledger.charges import uncovered
from secure_train.ledger.exact import difference, exact, rounded_down, rounded_up, total

AMOUNTS = st.floats(min_value=0, allow_nan=False, allow_infinity=False, max_value=1e300)


def test_a_budget_is_filled_exactly_by_its_tenths() -> None:
    assert total([0.1] * 3) == exact(0.3)
    assert total([0.1] * 10) == exact(1.0)
    assert difference(exact(0.3), exact(0.1)) == Decimal("0.2")


@given(st.lists(AMOUNTS, max_size=8))
def test_sums_are_exact(values: list[float]) -> None:
    assert Fraction(total(values)) == sum((Fraction(repr(value)) for value in values), Fraction(0))


@given(st.lists(AMOUNTS, max_size=4))
def test_rounding_is_to_the_safe_side_and_by_less_than_a_step(values: list[float]) -> None:
    value = total(values)
    assert exact(rounded_down(value)) <= value <= exact(rounded_up(value))
    assert abs(rounded_up(value) - rounded_down(value)) <= abs(float(value)) * 2**-51 + 5e-324


@given(AMOUNTS)
def test_a_float_survives(value: float) -> None:
    assert rounded_down(exact(value)) == rounded_up(exact(value)) == value


INTERVALS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda p: (min(p), max(p))), max_size=6
)


@given(st.integers(0, 30), st.integers(0, 30), INTERVALS)
def test_what_is_uncovered_is_what_no_interval_covers(
    first: int, last: int, covered: list[tuple[int, int]]
) -> None:
    parts = uncovered(first, last, covered)
    found = [step for start, end in parts for step in range(start, end)]
    taken = {step for start, end in covered for step in range(start, end)}
    assert found == [step for step in range(first, last) if step not in taken]
    assert all(start < end for start, end in parts)
