"""When held-out rows are evaluated, and what that may cost."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_train.spec import Evaluation
from secure_train.training.evaluation import Schedule, metrics
from secure_train.training.tasks import HeldOutSums

schedules = st.builds(
    Schedule,
    st.builds(
        Evaluation,
        epsilon=st.floats(1e-3, 10),
        every=st.one_of(st.none(), st.integers(1, 60)),
    ),
    final_step=st.integers(1, 200),
    noise_epoch=st.just(0),
)


@given(schedules)
def test_all_evaluations_together_cost_at_most_what_is_set_aside(schedule: Schedule) -> None:
    steps = [step for step in range(schedule.final_step + 1) if schedule.due(step)]
    spent = sum(Fraction(schedule.epsilon(step)) for step in steps)
    assert spent <= Fraction(schedule.evaluation.epsilon)
    assert steps[-1] == schedule.final_step


@given(schedules, st.integers(0, 200), st.integers(1, 200))
def test_a_later_noise_epoch_spends_at_most_what_the_first_left(
    first: Schedule, broke_at: int, final_step: int
) -> None:
    before = [step for step in range(min(broke_at, first.final_step - 1) + 1) if first.due(step)]
    later = Schedule(first.evaluation, final_step, noise_epoch=1)
    after = [step for step in range(final_step + 1) if later.due(step)]
    assert after == [final_step]
    spent = sum(Fraction(first.epsilon(step)) for step in before) + Fraction(later.epsilon(final_step))
    assert spent <= Fraction(first.evaluation.epsilon)


@given(schedules, st.integers(0, 199))
def test_training_never_steps_over_an_evaluation(schedule: Schedule, step: int) -> None:
    if step >= schedule.final_step:
        return
    after = schedule.next_due(step)
    assert step < after <= schedule.final_step
    assert schedule.due(after)
    assert not any(schedule.due(between) for between in range(step + 1, after))


def test_released_metrics_say_what_they_are() -> None:
    sums = HeldOutSums(rows=1000, correct=800, error=400.0, error_bound=4.0)
    exact = metrics(sums, 0.0)
    assert exact == {"accuracy": 0.8, "loss": 0.4, "rows": 1000, "bound": 4.0, "exact": True}
    noisy = metrics(sums, 2.0)
    assert noisy["exact"] is False
    assert noisy["accuracy"] == pytest.approx(0.8, abs=0.05)
    assert noisy["accuracy_scale"] == pytest.approx(1 / 1000)
    regression = metrics(HeldOutSums(rows=10, correct=None, error=5.0, error_bound=2.0), 0.0)
    assert regression == {"error": 0.5, "rows": 10, "bound": 2.0, "exact": True}
