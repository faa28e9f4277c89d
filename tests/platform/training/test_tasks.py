"""Tasks: losses, predictions, and sums on held-out rows with their sensitivity."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_train.spec import schema_from_json
from secure_train.training.tasks import LOG_LOSS_BOUND, Task, task_of

torch.set_num_threads(1)

TARGETS: dict[str, dict[str, Any]] = {
    "binary": {"name": "y", "task": "binary", "classes": ["no", "yes"], "positive": "yes"},
    "multiclass": {"name": "y", "task": "multiclass", "classes": ["a", "b", "c"]},
    "regression": {"name": "y", "task": "regression", "lower": 100, "upper": 300},
}


def task(name: str) -> Task:
    columns = [{"name": "x", "kind": "numeric", "lower": 0, "upper": 1}]
    return task_of(schema_from_json({"columns": columns, "target": TARGETS[name]}))


def example_targets(name: str, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    if name == "regression":
        return torch.rand(rows, generator=generator) * 2 - 1
    classes = torch.randint(0, 2 if name == "binary" else 3, (rows,), generator=generator)
    return classes.float() if name == "binary" else classes


@pytest.mark.parametrize(("name", "width"), [("binary", 1), ("multiclass", 3), ("regression", 1)])
def test_losses_are_one_per_record_and_uncoupled(name: str, width: int) -> None:
    meaning = task(name)
    assert meaning.outputs == width
    outputs = torch.linspace(-2, 2, 5 * width).reshape(5, width)
    targets = example_targets(name, 5)
    losses = meaning.losses(outputs, targets)
    assert losses.shape == (5,)
    for row in range(5):
        alone = meaning.losses(outputs[row : row + 1], targets[row : row + 1])
        assert torch.allclose(alone[0], losses[row])


def test_logistic_loss_is_that_of_the_textbook() -> None:
    losses = task("binary").losses(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0, 0.0]))
    assert losses.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(2))])


outputs_of = st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=12, max_size=12)


@pytest.mark.parametrize("name", list(TARGETS))
@given(values=outputs_of, removed=st.integers(0, 3))
def test_removing_one_record_moves_the_sums_by_at_most_their_sensitivity(
    name: str, values: list[float], removed: int
) -> None:
    meaning = task(name)
    outputs = torch.tensor(values, dtype=torch.float32)[: 4 * meaning.outputs].reshape(4, meaning.outputs)
    targets = example_targets(name, 4)
    kept = torch.tensor([row for row in range(4) if row != removed])
    whole, rest = meaning.held_out(outputs, targets), meaning.held_out(outputs[kept], targets[kept])
    assert 0 <= whole.error - rest.error + 1e-9 <= whole.error_bound + 2e-9
    if whole.correct is not None and rest.correct is not None:
        assert 0 <= whole.correct - rest.correct <= 1


def test_a_perfect_classifier_is_counted_right_and_a_broken_one_wrong() -> None:
    targets = torch.tensor([0, 1, 2])
    right = task("multiclass").held_out(torch.eye(3) * 50, targets)
    assert (right.correct, right.rows) == (3, 3)
    assert right.error == pytest.approx(0, abs=1e-9)
    broken = task("multiclass").held_out(torch.full((3, 3), float("nan")), targets)
    assert broken.correct == 0
    assert broken.error == 3 * LOG_LOSS_BOUND


def test_regression_errors_are_in_the_targets_own_unit_and_bounded() -> None:
    sums = task("regression").held_out(torch.tensor([[0.0], [40.0]]), torch.tensor([0.5, -1.0]))
    assert sums.correct is None
    assert sums.error_bound == 200
    # 200 against 250 is off by 50; an output far above is cut to 300, which is off by all of 200.
    assert sums.error == pytest.approx(50 + 200)


def test_predictions_are_probabilities_or_values_within_public_bounds() -> None:
    binary = task("binary").predictions(torch.tensor([[0.0], [30.0]]))
    assert binary[0].tolist() == [0.5, 0.5]
    assert torch.allclose(binary.sum(dim=1), torch.ones(2, dtype=torch.float64))
    several = task("multiclass").predictions(torch.tensor([[1.0, 2.0, 3.0]]))
    assert several.sum().item() == pytest.approx(1)
    assert task("regression").predictions(torch.tensor([[0.0], [9.0]])).tolist() == [[200.0], [300.0]]
