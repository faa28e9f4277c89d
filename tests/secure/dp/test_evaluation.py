"""Released metrics: their noise, their sensitivity, their price."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import opendp.prelude as opendp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secure_train.dp import (
    EvaluationPlan,
    InvalidParameterError,
    bounded_sum,
    evaluate_private,
    evaluation,
    noisy_count,
)

# Noise here is the operating system's: thresholds are set where an honest run fails once in 10^9.
P_FLAKE = 1e-9


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_count_noise_is_discrete_laplace_of_scale_one_over_epsilon(epsilon):
    draws = np.array([noisy_count(100, epsilon) for _ in range(4000)]) - 100
    decay = math.exp(-epsilon)
    edges = range(-3, 4)
    observed = [int((draws == k).sum()) for k in edges]
    expected = [4000 * (1 - decay) / (1 + decay) * decay ** abs(k) for k in edges]
    observed += [int((draws < -3).sum()), int((draws > 3).sum())]
    expected += [4000 * decay**4 / (1 + decay)] * 2
    kept = [i for i, e in enumerate(expected) if e >= 5]
    rest = 4000 - sum(expected[i] for i in kept)
    counts = [observed[i] for i in kept]
    probabilities = [expected[i] for i in kept]
    if rest > 1e-6:
        counts.append(4000 - sum(counts))
        probabilities.append(rest)
    assert stats.chisquare(counts, probabilities, sum_check=False).pvalue > P_FLAKE


def test_each_evaluation_draws_fresh_noise():
    assert len({noisy_count(0, 0.01) for _ in range(10)}) > 5


def test_loss_noise_covers_the_loss_bound():
    # Mean absolute deviation of Laplace noise is its scale: bound / (rows * epsilon / 2).
    releases = [evaluate_private(500, 500.0, 1.0, rows=1000, loss_bound=4.0) for _ in range(1500)]
    scale = 4.0 / (1000 * 0.5)
    deviations = np.array([abs(r.loss - 0.5) for r in releases])
    assert deviations.mean() == pytest.approx(scale, rel=6.2 / math.sqrt(1500))
    assert releases[0].loss_scale == pytest.approx(scale, rel=1e-4)
    deviations = np.array([abs(r.accuracy - 0.5) for r in releases])
    assert deviations.mean() == pytest.approx(1 / 500, rel=0.03 + 6.2 / math.sqrt(1500))
    assert releases[0].accuracy_scale == pytest.approx(1 / 500)


def test_half_of_epsilon_goes_to_each_metric_and_all_of_it_to_a_lone_one():
    both = evaluate_private(5, 5.0, 1.0, rows=10, loss_bound=1.0)
    alone = evaluate_private(None, 5.0, 1.0, rows=10, loss_bound=1.0)
    assert both.accuracy_scale == pytest.approx(2 / 10)
    assert both.loss_scale == pytest.approx(2 * alone.loss_scale)
    assert alone.accuracy is None
    assert alone.accuracy_scale is None
    assert both.epsilon == alone.epsilon == 1.0


@given(
    losses=st.lists(st.floats(-5, 20), max_size=60),
    extra=st.floats(allow_nan=True, allow_infinity=True),
    bound=st.floats(1e-3, 1e3),
)
def test_one_record_never_moves_the_rounded_sum_beyond_its_sensitivity(losses, extra, bound):
    cell = bound / evaluation._LEVELS
    without = round(bounded_sum(torch.tensor(losses, dtype=torch.float64), bound) / cell)
    with_it = round(bounded_sum(torch.tensor([*losses, extra], dtype=torch.float64), bound) / cell)
    assert abs(with_it - without) <= evaluation._LOSS_SENSITIVITY


@given(value=st.floats(allow_nan=True, allow_infinity=True), bound=st.floats(1e-3, 1e3))
def test_a_record_counts_at_most_its_bound(value, bound):
    assert 0 <= bounded_sum(torch.tensor([value], dtype=torch.float64), bound) <= bound


@pytest.mark.parametrize(("correct", "loss_sum"), [(0, 0.0), (10, 10.0)])
def test_released_metrics_lie_in_their_ranges(correct, loss_sum):
    for _ in range(50):
        released = evaluate_private(correct, loss_sum, 0.05, rows=10, loss_bound=1.0)
        assert 0 <= released.accuracy <= 1
        assert 0 <= released.loss <= 1


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1 / 3, 0.7, 3.3])
def test_the_mechanism_really_run_costs_no_more_than_epsilon(monkeypatch, epsilon):
    costs = []
    make = opendp.m.make_laplace

    def recording(*arguments, **options):
        mechanism = make(*arguments, **options)
        costs.append((mechanism, options["scale"]))
        return mechanism

    monkeypatch.setattr(opendp.m, "make_laplace", recording)
    evaluate_private(5, 5.0, epsilon, rows=10, loss_bound=1.0)
    noisy_count(5, epsilon)
    spent = {scale: mechanism for mechanism, scale in costs}
    assert any(mechanism.map(1) <= epsilon for mechanism in spent.values())
    assert any(mechanism.map(evaluation._LEVELS + 2) <= epsilon / 2 for mechanism in spent.values())


@given(total=st.floats(1e-9, 1e3), points=st.integers(0, 1000))
def test_a_plan_never_exceeds_its_total_and_wastes_nothing(total, points):
    plan = EvaluationPlan(total, points)
    spent = points * Fraction(plan.intermediate) + Fraction(plan.final)
    assert spent <= Fraction(total)
    assert float(spent) == pytest.approx(total, rel=1e-12)
    if points:
        assert plan.final == pytest.approx(total / 2, rel=1e-9)
    else:
        assert plan.final == total


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"rows": 0}, "rows"),
        ({"loss_bound": 0.0}, "loss_bound"),
        ({"loss_bound": math.inf}, "loss_bound"),
        ({"correct": 11}, "correct"),
        ({"correct": -1}, "correct"),
        ({"loss_sum": 10.5}, "loss_sum"),
        ({"loss_sum": -0.1}, "loss_sum"),
        ({"loss_sum": math.nan}, "loss_sum"),
    ],
)
def test_values_outside_their_public_bounds_are_refused_without_being_shown(changes, field):
    arguments = {"correct": 5, "loss_sum": 5.0, "epsilon": 1.0, "rows": 10, "loss_bound": 1.0} | changes
    with pytest.raises(InvalidParameterError, match=field) as refused:
        evaluate_private(**arguments)
    if field in ("correct", "loss_sum"):
        assert str(changes[field]) not in str(refused.value)


@pytest.mark.parametrize(("total", "points"), [(0.0, 1), (-1.0, 0), (math.nan, 0), (1.0, -1)])
def test_a_meaningless_plan_is_refused(total, points):
    with pytest.raises(InvalidParameterError):
        EvaluationPlan(total, points)
