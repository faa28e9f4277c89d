"""Epsilon by several accountants, and noise from epsilon."""

from __future__ import annotations

import math
from dataclasses import replace

import dp_accounting
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from opacus.accountants.utils import get_noise_multiplier

from secure_train.dp import (
    AccountingDisagreement,
    InvalidParameterError,
    Mechanism,
    accounting,
    calibrate,
    cross_check,
    epsilon,
    epsilon_replace_one,
)
from secure_train.dp.accounting import Truncation

DELTA = 1e-5


# (σ, q, T, PLD on a ten times finer grid, upper bound by Opacus' PRV with error 0.01).
@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "pld", "prv"),
    [
        (1.0, 0.01, 1000, 1.8282436, 1.8383716),
        (0.6, 0.02, 3000, 25.030699, 25.041913),
        (4.0, 0.2, 1000, 7.7180208, 7.7283978),
        (1.0, 0.001, 100_000, 1.6380286, 1.6472825),
    ],
)
def test_epsilon_matches_golden_numbers_of_two_accountants(sigma, rate, steps, pld, prv):
    ours = epsilon(Mechanism(sigma, rate, steps), DELTA)
    assert ours == pytest.approx(pld, rel=0.005)
    assert ours == pytest.approx(prv, rel=0.015)


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (5.0, 16), (50.0, 1000)])
def test_without_sampling_epsilon_is_the_exact_gaussian_one(sigma, steps):
    exact = dp_accounting.get_epsilon_gaussian(sigma / math.sqrt(steps), DELTA)
    ours = epsilon(Mechanism(sigma, 1.0, steps), DELTA)
    assert exact <= ours <= exact * 1.005


def test_replace_one_without_sampling_is_a_gaussian_of_twice_the_sensitivity():
    exact = dp_accounting.get_epsilon_gaussian(3.0 / 2, DELTA)
    assert epsilon_replace_one(Mechanism(3.0, 1.0, 1), DELTA) == pytest.approx(exact, rel=0.005)


def test_replace_one_lies_between_add_or_remove_one_and_group_privacy():
    mechanism = Mechanism(1.0, 0.01, 1000)
    single = epsilon(mechanism, DELTA)
    # Group privacy for two records: delta grows by 1 + e^epsilon.
    group = 2 * epsilon(mechanism, DELTA / (1 + math.exp(single)))
    assert single < epsilon_replace_one(mechanism, DELTA) < group


def test_no_steps_cost_nothing():
    assert epsilon(Mechanism(1.0, 0.01, 0), DELTA) == 0
    assert cross_check(Mechanism(1.0, 0.01, 0), DELTA).pld == 0


@settings(max_examples=4, deadline=None)
@given(
    sigma=st.floats(1.5, 8.0),
    rate=st.floats(0.002, 0.2),
    steps=st.integers(1, 400),
    delta=st.floats(1e-8, 1e-3),
)
def test_more_noise_less_sampling_and_fewer_steps_never_cost_more(sigma, rate, steps, delta):
    base = epsilon(Mechanism(sigma, rate, steps), delta)
    # 1 % of room: grids differ between mechanisms.
    assert epsilon(Mechanism(sigma * 1.2, rate, steps), delta) <= base * 1.01
    assert epsilon(Mechanism(sigma, rate / 2, steps), delta) <= base * 1.01
    assert epsilon(Mechanism(sigma, rate, steps // 2), delta) <= base * 1.01


@pytest.mark.parametrize(
    ("target", "rate", "steps"), [(3.0, 0.01, 1000), (0.1, 0.01, 100), (2.0, 1.0, 10), (60.0, 0.2, 100)]
)
def test_calibrated_noise_is_sufficient_and_smallest(target, rate, steps):
    sigma = calibrate(target, DELTA, rate, steps)
    assert epsilon(Mechanism(sigma, rate, steps), DELTA) <= target
    assert epsilon(Mechanism(sigma / 1.002, rate, steps), DELTA) > target


def test_calibration_matches_golden_numbers_and_opacus():
    sigma = calibrate(1.0, DELTA, 0.01, 1000)
    assert sigma == pytest.approx(1.4150, rel=0.002)
    opacus = get_noise_multiplier(
        target_epsilon=1.0, target_delta=DELTA, sample_rate=0.01, steps=1000, accountant="prv"
    )
    assert sigma == pytest.approx(opacus, rel=0.02)


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_three_accountants_agree(rate):
    checked = cross_check(Mechanism(2.0, rate, 50), DELTA)
    assert checked.prv == pytest.approx(checked.pld, rel=0.02, abs=0.005)
    assert checked.rdp >= checked.pld


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_an_accountant_that_is_off_by_a_fifth_is_noticed(monkeypatch, factor):
    honest = accounting.epsilon
    monkeypatch.setattr(accounting, "epsilon", lambda mechanism, delta: factor * honest(mechanism, delta))
    with pytest.raises(AccountingDisagreement, match="Report none"):
        cross_check(Mechanism(1.0, 0.01, 1000), DELTA)


def test_an_accountant_that_breaks_down_means_no_epsilon(monkeypatch):
    def fail(self, delta, **options):
        raise RuntimeError("did not converge")

    monkeypatch.setattr(PRVAccountant, "get_epsilon", fail)
    with pytest.raises(AccountingDisagreement, match="did not converge"):
        cross_check(Mechanism(1.0, 0.01, 10), DELTA)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0.0, 0.1, 1), "noise_multiplier"),
        ((math.nan, 0.1, 1), "noise_multiplier"),
        ((math.inf, 0.1, 1), "noise_multiplier"),
        ((1.0, 0.0, 1), "sampling_rate"),
        ((1.0, 1.1, 1), "sampling_rate"),
        ((1.0, math.nan, 1), "sampling_rate"),
        ((1.0, 0.1, -1), "steps"),
        ((1.0, 0.1, 1.5), "steps"),
    ],
)
def test_meaningless_mechanisms_are_refused_by_field(arguments, field):
    with pytest.raises(InvalidParameterError, match=field):
        Mechanism(*arguments)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_outside_the_unit_interval_is_refused(delta):
    with pytest.raises(InvalidParameterError, match="delta"):
        epsilon(Mechanism(1.0, 0.1, 1), delta)
    with pytest.raises(InvalidParameterError, match="delta"):
        calibrate(1.0, delta, 0.1, 1)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_an_epsilon_that_is_no_privacy_target_is_refused(target):
    with pytest.raises(InvalidParameterError, match="epsilon"):
        calibrate(target, DELTA, 0.1, 10)


def test_cutting_samples_short_costs_privacy():
    plain = Mechanism(1.0, 0.01, 20)
    cut = replace(plain, truncation=Truncation(records=10_000, limit=100))
    assert epsilon(cut, 1e-5) > 1.02 * epsilon(plain, 1e-5)


def test_a_rarely_truncated_sampler_is_confirmed_by_the_other_accountants():
    mechanism = Mechanism(1.0, 0.01, 20, Truncation(records=10_000, limit=190))
    checked = cross_check(mechanism, 1e-5)
    assert checked.pld == pytest.approx(checked.prv, rel=0.05)


def test_a_limit_that_cuts_often_cannot_be_confirmed_and_is_refused():
    with pytest.raises(AccountingDisagreement, match="raise the limit"):
        cross_check(Mechanism(1.0, 0.01, 20, Truncation(records=10_000, limit=100)), 1e-5)
