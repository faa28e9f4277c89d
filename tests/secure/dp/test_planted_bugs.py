"""Every bug that has broken a published DP-SGD implementation is found when it is planted into this engine.

Each is planted into the real step, sampler or noise. The check that finds it is then run on the unmodified
engine, which must pass. Checks on counts and noise raise a false alarm with probability at most `FAILURE`;
the coupling test holds the noise fixed and has none.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy import stats
from torch import nn

from secure_train.dp import GaussianNoise, Mechanism, NoiseReuseError, PoissonSampler, PrivateStep
from secure_train.dp.audit import (
    TOLERATED,
    Parts,
    Subject,
    Trained,
    largest_move,
    neighbour_audit,
    noise_independence,
    noise_level,
    sampling_independence,
    sampling_rate,
)
from secure_train.dp.clipping import Clipper, PerformanceFlags, clipper
from secure_train.dp.step import PrivacySpec

FAILURE = 1e-6
DELTA = 1e-5
KEY = bytes(range(32))


# The bugs.


class NoNoise(GaussianNoise):
    def add_to(self, total, std_total, epoch, step):
        pass


class SharesTooSmall(GaussianNoise):
    """Divides by W what is to be divided by √W."""

    def add_to(self, total, std_total, epoch, step):
        super().add_to(total, std_total / math.sqrt(self.world_size), epoch, step)


class SameNoiseEveryStep(GaussianNoise):
    def add_to(self, total, std_total, epoch, step):
        super().add_to(total, std_total, epoch, 0)


class SameNoiseEveryRank(GaussianNoise):
    def add_to(self, total, std_total, epoch, step):
        GaussianNoise(self.key, 0, self.world_size).add_to(total, std_total, epoch, step)


class ClipsAtTwiceC(PrivateStep):
    def __init__(self, model, optimizer, loss_fn, spec, *rest):
        super().__init__(model, optimizer, loss_fn, spec, *rest)
        self._clipper.close()
        self._clipper = Clipper(model, 2 * spec.max_grad_norm)


class DividesByTheBatch(PrivateStep):
    def step(self, batch, epoch, step):
        size = max(1, len(batch[0]))
        self._spec = dataclasses.replace(self._spec, expected_batch_size=float(size))
        super().step(batch, epoch, step)


class ForgetsItsPosition(PrivateStep):
    def load_state_dict(self, state):
        super().load_state_dict({"last": None})


class SamplesAtTwiceQ(PoissonSampler):
    def sample(self, epoch, step):
        return PoissonSampler(self.num_records, min(1.0, 2 * self.rate), self.key, self.rank).sample(
            epoch, step
        )


class SameSampleOnEveryRank(PoissonSampler):
    def sample(self, epoch, step):
        return PoissonSampler(self.num_records, self.rate, self.key, 0).sample(epoch, step)


def norms_without_biases(squared_norms, *rest):
    kept = {
        name: squares * 0 if name.endswith("bias") else squares for name, squares in squared_norms.items()
    }
    return REAL_WEIGHTS(kept, *rest)


def norms_that_miss_what_is_not_finite(squared_norms, finite, *rest):
    replaced = {name: squares.nan_to_num(1.0, posinf=1.0) for name, squares in squared_norms.items()}
    return REAL_WEIGHTS(replaced, torch.ones_like(finite), *rest)


REAL_WEIGHTS = clipper.clipping_weights


# The checks: whether one finds something wrong with an engine.


def audit_finds(parts):
    """Four workers, one step with every record."""
    subject = Subject(Mechanism(1.0, 1.0, 1), workers=4, parts=parts)
    return neighbour_audit(subject, DELTA, 8, KEY, parallel=256, failure=FAILURE).refuted


def audit_of_sampling_finds(parts):
    """Little noise, so that it shows who was sampled."""
    subject = Subject(Mechanism(0.3, 0.2, 1), parts=parts)
    return neighbour_audit(subject, DELTA, 16, KEY, parallel=256, failure=FAILURE).refuted


def noise_level_finds(parts):
    return noise_level(Subject(Mechanism(1.3, 1.0, 1), workers=4, parts=parts), 4000, KEY).p_value < FAILURE


def noise_independence_finds(parts):
    return noise_independence(Subject(Mechanism(1.3, 1.0, 6), parts=parts), 4000, KEY).p_value < FAILURE


def sampling_rate_finds(parts):
    return sampling_rate(Subject(Mechanism(1.0, 0.02, 10), parts=parts), 1000, KEY).p_value < FAILURE


def sampling_independence_finds(parts):
    subject = Subject(Mechanism(1.0, 0.1, 10), workers=3, parts=parts)
    return sampling_independence(subject, 500, KEY).p_value < FAILURE


def examples():
    """Ten records of a small model: large ones, small ones, and some whose gradient is nearly all bias."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(10, 6, generator=generator)
    inputs[:3] *= 100
    inputs[3:6] *= 1e-3
    targets = 5 * torch.randn(10, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    return Trained(model, lambda model, batch: (model(batch[0]).squeeze(1) - batch[1]) ** 2), (
        inputs,
        targets,
    )


def coupling_finds(parts):
    trained, records = examples()
    subject = Subject(Mechanism(1.0, 1.0, 1), 0.5, expected_batch_size=10.0, workers=2, parts=parts)
    return largest_move(subject, trained, records, KEY) > TOLERATED


def coupling_with_broken_records_finds(parts):
    trained, (inputs, targets) = examples()
    inputs[0, 0], targets[1] = math.nan, math.inf
    subject = Subject(Mechanism(1.0, 1.0, 1), 0.5, expected_batch_size=10.0, parts=parts)
    return largest_move(subject, trained, (inputs, targets), KEY) > TOLERATED


def resuming_finds(parts):
    """A resumed step at a position that was released already: refused, or its noise is a fresh one."""
    coordinates, sums = 2000, []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            sums.append(self.param_groups[0]["params"][0].grad.double().flatten().clone())

    def stepper():
        model = nn.Linear(coordinates, 1, bias=False)
        return parts.step(
            model,
            Recorder(model.parameters(), lr=0.0),
            lambda model, batch: model(batch).squeeze(1),
            PrivacySpec(1.0, 1.0, 1.0),
            parts.noise(KEY, 0, 1),
            PerformanceFlags(),
        )

    first, resumed = stepper(), stepper()
    first.step(torch.ones(2, coordinates), 0, 7)
    resumed.load_state_dict(first.state_dict())
    try:
        resumed.step(-torch.ones(1, coordinates), 0, 7)
    except NoiseReuseError:
        return False
    difference = float(((sums[0] - sums[1]) ** 2).sum())
    return stats.chi2.cdf(difference / 2, coordinates) < FAILURE


CASES = {
    "no noise": (Parts(noise=NoNoise), audit_finds),
    "no noise, by its level": (Parts(noise=NoNoise), noise_level_finds),
    "each worker's share too small": (Parts(noise=SharesTooSmall), audit_finds),
    "each worker's share too small, by its level": (Parts(noise=SharesTooSmall), noise_level_finds),
    "one noise for all workers": (Parts(noise=SameNoiseEveryRank), noise_level_finds),
    "clipping at 2C": (Parts(step=ClipsAtTwiceC), audit_finds),
    "clipping at 2C, by coupling": (Parts(step=ClipsAtTwiceC), coupling_finds),
    "sampling at 2q": (Parts(sampler=SamplesAtTwiceQ), audit_of_sampling_finds),
    "sampling at 2q, by counting": (Parts(sampler=SamplesAtTwiceQ), sampling_rate_finds),
    "noise reused between steps": (Parts(noise=SameNoiseEveryStep), noise_independence_finds),
    "noise reused after resuming": (Parts(step=ForgetsItsPosition), resuming_finds),
    "normaliser depends on the batch": (Parts(step=DividesByTheBatch), coupling_finds),
    "one sample for all workers": (Parts(sampler=SameSampleOnEveryRank), sampling_independence_finds),
}


@pytest.mark.parametrize("case", CASES)
def test_a_planted_bug_is_found(case):
    parts, finds = CASES[case]
    assert finds(parts)


@pytest.mark.parametrize(
    ("bug", "finds"),
    [
        (norms_without_biases, coupling_finds),
        (norms_that_miss_what_is_not_finite, coupling_with_broken_records_finds),
    ],
)
def test_a_bug_planted_into_the_norms_is_found(monkeypatch, bug, finds):
    monkeypatch.setattr(clipper, "clipping_weights", bug)
    assert finds(Parts())


CHECKS = {finds for _, finds in CASES.values()} | {coupling_with_broken_records_finds}


@pytest.mark.parametrize("finds", sorted(CHECKS, key=lambda check: check.__name__))
def test_the_engine_as_it_is_passes_every_check(finds):
    assert not finds(Parts())
