"""Many mechanisms as one: against exact arithmetic, other accountants, and a simulated adversary."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import mpmath
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_train import dp
from secure_train.dp.composition import (
    ORDERS,
    WEIGHTS,
    DpEvent,
    PoissonGaussian,
    Pure,
    epsilon_of_curve,
    merged,
    renyi_curve,
    total_epsilon,
)

MECHANISMS = [(0.4, 0.5), (0.7, 0.01), (1.0, 1e-5), (1.1, 0.2), (2.0, 0.1), (30.0, 0.001), (1.3, 1.0)]
EVENTS = st.one_of(
    st.builds(
        PoissonGaussian,
        st.sampled_from([0.7, 1.0, 4.0]),
        st.sampled_from([0.01, 0.3, 1.0]),
        st.integers(0, 500),
    ),
    st.builds(Pure, st.sampled_from([0.0, 0.01, 0.5, 3.0]), st.integers(0, 9)),
)


def _exact_gaussian(sigma: float, rate: float, order: int) -> mpmath.mpf:
    with mpmath.workdps(60):
        q, variance = mpmath.mpf(rate), mpmath.mpf(sigma) ** 2
        terms = (
            mpmath.binomial(order, k)
            * q**k
            * (1 - q) ** (order - k)
            * mpmath.exp(k * (k - 1) / (2 * variance))
            for k in range(order + 1)
        )
        return mpmath.log(mpmath.fsum(terms)) / (order - 1)


@pytest.mark.parametrize(("sigma", "rate"), MECHANISMS)
def test_a_step_costs_what_exact_arithmetic_says_rounded_up_a_hair(sigma: float, rate: float) -> None:
    for order, rho in zip(ORDERS, renyi_curve([PoissonGaussian(sigma, rate, 1)]), strict=True):
        exact = _exact_gaussian(sigma, rate, order)
        assert exact < rho < exact * (1 + mpmath.mpf(2e-9))


@pytest.mark.parametrize(("sigma", "rate"), MECHANISMS)
def test_a_step_costs_what_google_s_accountant_says(sigma: float, rate: float) -> None:
    for order, rho in zip(ORDERS, renyi_curve([PoissonGaussian(sigma, rate, 1)]), strict=True):
        accountant = rdp.RdpAccountant([order])
        accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)))
        theirs = accountant.get_epsilon(1e-5)
        mine = rho + math.log1p(-1 / order) - math.log(1e-5 * order) / (order - 1)
        assert max(mine, 0.0) == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 1.0, 5.0, 40.0])
def test_a_pure_release_costs_what_randomised_response_does_and_never_more_than_its_epsilon(
    epsilon: float,
) -> None:
    for order, rho in zip(ORDERS, renyi_curve([Pure(epsilon)]), strict=True):
        with mpmath.workdps(60):
            truth = 1 / (1 + mpmath.exp(-mpmath.mpf(epsilon)))
            moment = truth**order * (1 - truth) ** (1 - order) + (1 - truth) ** order * truth ** (1 - order)
            exact = mpmath.log(moment) / (order - 1)
        assert exact <= rho <= min(epsilon, order * epsilon**2 / 2) * (1 + 2e-9)
        assert rho <= exact * (1 + mpmath.mpf(1e-7))


@pytest.mark.parametrize(("sigma", "rate"), [(0.7, 0.01), (1.1, 0.2), (2.0, 0.1), (1.3, 1.0)])
def test_replacing_a_record_costs_what_quadrature_says_and_more_than_removing_it(
    sigma: float, rate: float
) -> None:
    removed = renyi_curve([PoissonGaussian(sigma, rate, 1)])
    replaced = renyi_curve([PoissonGaussian(sigma, rate, 1)], dp.Adjacency.REPLACE_ONE)
    for order, less, rho in zip(ORDERS, removed, replaced, strict=True):
        assert less < rho
        if order not in {2, 5}:
            continue
        with mpmath.workdps(30):

            def integrand(x: mpmath.mpf, order: int = order) -> mpmath.mpf:
                def density(at: int) -> mpmath.mpf:
                    return (1 - rate) * mpmath.npdf(x, 0, sigma) + rate * mpmath.npdf(x, at, sigma)

                return density(1) ** order * density(-1) ** (1 - order)

            edges = [-30 * sigma, 0, order, 2 * order, 2 * order + 30 * sigma]
            exact = mpmath.log(mpmath.quad(integrand, edges)) / (order - 1)
        assert rho == pytest.approx(float(exact), rel=1e-6)


def test_the_shares_of_delta_make_a_whole_exactly() -> None:
    assert 1 - 1e-11 < sum(map(Fraction, WEIGHTS)) <= 1


def test_orders_and_weights_are_those_that_datasets_were_registered_under() -> None:
    """Another set would break the guarantee of budgets in use: it needs another name."""
    assert ORDERS == (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256, 512)
    assert WEIGHTS[0] == pytest.approx(0.31707, abs=1e-5)
    assert WEIGHTS[0] / WEIGHTS[-1] == pytest.approx(511)


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENTS, max_size=6), EVENTS, st.randoms(use_true_random=False))
def test_more_never_costs_less_and_order_does_not_matter(
    events: list[DpEvent], more: DpEvent, rng: random.Random
) -> None:
    curve = renyi_curve(events)
    shuffled = rng.sample(events, len(events))
    assert renyi_curve(shuffled) == renyi_curve(merged(shuffled)) == curve
    assert all(after >= before for after, before in zip(renyi_curve([*events, more]), curve, strict=True))
    assert total_epsilon([*events, more], 1e-5) >= total_epsilon(events, 1e-5)


def test_nothing_costs_nothing_and_like_events_add_up() -> None:
    assert total_epsilon([], 1e-5) == total_epsilon([PoissonGaussian(1.0, 0.1, 0), Pure(0.0)], 1e-5) == 0.0
    steps = [PoissonGaussian(1.0, 0.1, 3), Pure(0.1), PoissonGaussian(1.0, 0.1, 4), Pure(0.1)]
    assert merged(steps) == (PoissonGaussian(1.0, 0.1, 7), Pure(0.1, 2))


@pytest.mark.parametrize(("sigma", "rate", "steps"), [(0.7, 0.01, 300), (1.1, 0.02, 2000), (4.0, 0.2, 100)])
def test_the_price_of_adaptivity_is_bounded_and_never_negative(sigma: float, rate: float, steps: int) -> None:
    """For mechanisms that were fixed beforehand PLD is exact: the filter's ε lies above, by less than 3/4."""
    fixed = dp.epsilon(dp.Mechanism(sigma, rate, steps), 1e-5)
    adaptive = total_epsilon([PoissonGaussian(sigma, rate, steps)], 1e-5)
    assert fixed < adaptive < 1.75 * fixed


def test_an_adversary_who_stops_at_the_worst_time_exceeds_the_bound_no_more_often_than_delta() -> None:
    """Full-batch Gaussian steps, whose loss is Gaussian; σ of each step is chosen by the loss so far.

    The adversary sees the loss itself, more than any real one, and looks at every time for ε(t) exceeded.
    """
    rng, delta, runs, exceeded = random.Random(7), 0.05, 1500, 0
    curves = {sigma: renyi_curve([PoissonGaussian(sigma, 1.0, 1)]) for sigma in (1.0, 2.0, 5.0)}
    for _ in range(runs):
        loss, curve = 0.0, (0.0,) * len(ORDERS)
        for _ in range(30):
            sigma = 1.0 if loss > 2 else 2.0 if loss > 0.5 else 5.0
            loss += rng.gauss(1 / (2 * sigma**2), 1 / sigma)
            curve = tuple(a + b for a, b in zip(curve, curves[sigma], strict=True))
            if loss > epsilon_of_curve(curve, delta):
                exceeded += 1
                break
    # Not vacuous: it does happen. Four standard deviations of the estimate are allowed for.
    assert 0 < exceeded / runs <= delta + 4 * math.sqrt(delta / runs)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(dp.InvalidParameterError, match="delta"):
        total_epsilon([Pure(1.0)], delta)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: PoissonGaussian(0.0, 0.1, 1), "noise_multiplier"),
        (lambda: PoissonGaussian(1.0, 1.1, 1), "sampling_rate"),
        (lambda: PoissonGaussian(1.0, 0.1, -1), "steps"),
        (lambda: Pure(-0.1), "epsilon"),
        (lambda: Pure(math.inf), "epsilon"),
        (lambda: Pure(0.1, -1), "releases"),
    ],
)
def test_an_event_out_of_range_is_refused(make: object, named: str) -> None:
    with pytest.raises(dp.InvalidParameterError, match=named):
        make()  # type: ignore[operator]
