"""Audits never accuse a correct mechanism, and come near what can be shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from secure_train.dp import InvalidParameterError, Mechanism, Truncation, epsilon
from secure_train.dp.audit import (
    Guesses,
    Subject,
    Trained,
    Trial,
    audit_scores,
    epsilon_lower_bound,
    gradient_canary_audit,
    input_canary_audit,
    largest_move,
    model_canary_audit,
    neighbour_audit,
    p_value,
)
from secure_train.dp.audit.confidence import upper_rate
from secure_train.dp.audit.likelihood import evidence_of_inclusion
from secure_train.dp.audit.tradeoff import ErrorRates, excess
from secure_train.dp.audit.tradeoff import epsilon_lower_bound as tradeoff_bound

KEY = bytes(range(32))
DELTA = 1e-5


# Theorem 5.2 of Steinke, Nasr and Jagielski.


def theorem(m, r, v, eps, delta):
    """Written out term by term, over every i up to m."""

    def f(x):
        return stats.binom.sf(x - 1, r, math.exp(eps) / (1 + math.exp(eps)))

    return min(1, f(v) + 2 * m * delta * max((f(v - i) - f(v)) / i for i in range(1, m + 1)))


@given(st.data(), st.integers(1, 60), st.floats(0, 5), st.floats(0, 0.01))
@settings(max_examples=60, deadline=None)
def test_the_p_value_is_that_of_the_theorem(data, m, eps, delta):
    r = data.draw(st.integers(0, m))
    v = data.draw(st.integers(0, r))
    assert p_value(Guesses(m, r, v), eps, delta) == pytest.approx(theorem(m, r, v, eps, delta), abs=1e-9)


@given(st.integers(1, 300), st.floats(0, 6), st.floats(0, 6), st.sampled_from([0.0, 1e-6, 1e-3]))
@settings(max_examples=60, deadline=None)
def test_more_privacy_loss_explains_more_right_guesses(right, one, other, delta):
    guesses = Guesses(400, 300, right)
    low, high = sorted((one, other))
    assert p_value(guesses, low, delta) <= p_value(guesses, high, delta) + 1e-12


@pytest.mark.parametrize("true_epsilon", [0.0, 0.5, 2.0])
def test_randomised_response_is_accused_no_more_often_than_stated(true_epsilon):
    """It attains the bound: every canary's coin is told, rightly with probability e^ε/(1+e^ε)."""
    generator = np.random.default_rng(1)
    rate, failure, trials = 1 / (1 + math.exp(-true_epsilon)), 0.1, 2000
    right = generator.binomial(200, rate, size=trials)
    bounds = {v: epsilon_lower_bound(Guesses(200, 200, int(v)), 0.0, failure) for v in set(right.tolist())}
    accused = sum(bounds[v] > true_epsilon for v in right.tolist())
    assert stats.binomtest(accused, trials, failure, alternative="greater").pvalue > 1e-6
    assert accused > 0 or true_epsilon == 0


@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_the_gaussian_mechanism_is_accused_no_more_often_than_stated(sigma):
    generator = np.random.default_rng(2)
    true_epsilon = epsilon(Mechanism(sigma, 1.0, 1), DELTA)
    bounds = []
    for _ in range(40):
        included = generator.random(500) < 0.5
        scores = included + sigma * generator.standard_normal(500)
        bounds.append(audit_scores(scores, included, DELTA, 0.05).epsilon)
    assert stats.binomtest(sum(b > true_epsilon for b in bounds), 40, 0.05, "greater").pvalue > 1e-6
    assert np.median(bounds) > 0.2 * true_epsilon


def test_guessing_blindly_shows_nothing():
    assert epsilon_lower_bound(Guesses(1000, 1000, 500), DELTA, 0.05) == 0
    assert epsilon_lower_bound(Guesses(1000, 0, 0), DELTA, 0.05) == 0


def test_impossible_counts_are_refused():
    with pytest.raises(InvalidParameterError, match="right ≤ made"):
        Guesses(10, 5, 6)


# Error rates against a claim.


@given(st.integers(1, 200), st.floats(0.001, 0.5), st.data())
@settings(max_examples=40, deadline=None)
def test_clopper_pearson_fails_no_more_often_than_stated(trials, failure, data):
    rate = data.draw(st.floats(0.01, 0.99))
    counts = np.arange(trials + 1)
    below = np.array([upper_rate(int(c), trials, failure) < rate for c in counts])
    assert stats.binom.pmf(counts, trials, rate)[below].sum() <= failure * (1 + 1e-9)


@pytest.mark.parametrize("mechanism", [Mechanism(1.5, 1.0, 1), Mechanism(2.0, 1.0, 4)])
def test_an_optimal_attacker_on_the_gaussian_mechanism_attains_the_claim_and_no_more(mechanism):
    """Dong, Roth and Su 2022: T steps at σ are √T/σ-GDP, and a threshold attains the trade-off curve."""
    mu = math.sqrt(mechanism.steps) / mechanism.noise_multiplier
    for threshold in (-0.5, 0.3, 1.2):
        rates = ErrorRates(stats.norm.sf(threshold), stats.norm.cdf(threshold - mu))
        assert abs(excess(rates, mechanism)) < 2e-3
        assert tradeoff_bound(rates, mechanism, DELTA) == pytest.approx(epsilon(mechanism, DELTA), rel=0.03)
    better = ErrorRates(stats.norm.sf(0.3), stats.norm.cdf(0.3 - 1.1 * mu))
    assert excess(better, mechanism) > 0


def test_the_score_is_the_likelihood_ratio():
    mechanism = Mechanism(0.8, 0.3, 1)
    x = np.linspace(-4, 5, 50)
    absent, present = stats.norm.pdf(x, 0, 0.8), stats.norm.pdf(x, 1, 0.8)
    expected = np.log((0.7 * absent + 0.3 * present) / absent)
    assert np.allclose(evidence_of_inclusion(x, mechanism), expected)


# The engine.


@pytest.mark.parametrize(("sigma", "workers"), [(1.5, 1), (3.0, 3)])
def test_the_neighbour_audit_shows_most_of_what_is_claimed_and_never_more(sigma, workers):
    mechanism = Mechanism(sigma, 1.0, 1)
    claimed = epsilon(mechanism, DELTA)
    found = neighbour_audit(Subject(mechanism, workers=workers), DELTA, 40, KEY, parallel=250)
    assert 0.7 * claimed < found.epsilon <= claimed
    assert not found.refuted


def test_the_neighbour_audit_holds_for_sampled_steps():
    mechanism = Mechanism(1.0, 0.2, 8)
    found = neighbour_audit(Subject(mechanism), DELTA, 20, KEY, parallel=250)
    assert 0.3 * epsilon(mechanism, DELTA) < found.epsilon <= epsilon(mechanism, DELTA)
    assert not found.refuted


@pytest.mark.parametrize("mechanism", [Mechanism(0.7, 1.0, 1), Mechanism(0.8, 0.1, 40)])
def test_canaries_of_one_run_show_some_of_what_is_claimed_and_never_more(mechanism):
    found = gradient_canary_audit(Subject(mechanism, workers=2), 1000, Trial(DELTA, KEY))
    assert 0.2 * epsilon(mechanism, DELTA) < found.epsilon <= epsilon(mechanism, DELTA)


def small_model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def losses(model, batch):
        return nn.functional.binary_cross_entropy_with_logits(
            model(batch[0]).squeeze(1), batch[1], reduction="none"
        )

    return Trained(model, losses, lambda model: torch.optim.SGD(model.parameters(), lr=2.0))


def labelled(count, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 8, generator=generator)
    return inputs, (inputs.sum(1) > 0).float()


def test_canaries_are_seen_beside_the_training_of_a_model():
    mechanism = Mechanism(0.7, 0.5, 4)
    subject = Subject(mechanism, 0.5, expected_batch_size=100.0, workers=2)
    found = model_canary_audit(subject, small_model(), labelled(200, 1), 400, Trial(DELTA, KEY))
    assert 0.15 * epsilon(mechanism, DELTA) < found.epsilon <= epsilon(mechanism, DELTA)


def test_mislabelled_canaries_are_seen_in_the_losses_of_a_model_without_protection():
    """Next to no noise: a black box shows something. With noise it shows less than is claimed."""
    generator = torch.Generator().manual_seed(6)
    canaries = (4 * torch.eye(60), torch.randint(0, 2, (60,), generator=generator).float())
    trained = Trained(nn.Linear(60, 1), small_model().loss_fn, small_model().optimizer)
    records = (torch.zeros(2, 60), torch.zeros(2))

    def shown(sigma):
        subject = Subject(Mechanism(sigma, 0.5, 20), expected_batch_size=15.0)
        found = input_canary_audit(subject, trained, records, canaries, Trial(DELTA, KEY))
        return found.epsilon, epsilon(subject.mechanism, DELTA)

    bare, _ = shown(0.05)
    assert bare > 1
    protected, claimed = shown(3.0)
    assert protected <= claimed


def test_a_record_moves_what_is_released_by_c_exactly_where_it_is_clipped():
    inputs, targets = labelled(6, 4)
    subject = Subject(Mechanism(1.0, 1.0, 1), 0.01, expected_batch_size=6.0)
    assert largest_move(subject, small_model(), (inputs, targets), KEY) == pytest.approx(1, abs=1e-3)


def test_an_audit_of_truncated_samples_is_refused():
    with pytest.raises(InvalidParameterError, match="truncation"):
        Subject(Mechanism(1.0, 0.1, 1, Truncation(100, 20)))


def test_an_error_of_one_worker_is_told_and_stops_the_others():
    def broken(model, batch):
        raise RuntimeError("planted")

    subject = Subject(Mechanism(1.0, 1.0, 1), workers=3)
    with pytest.raises(RuntimeError, match="planted"):
        subject.run(
            Trained(nn.Linear(2, 1), broken), subject.shards((torch.ones(9, 2),)), KEY, lambda *seen: None
        )
