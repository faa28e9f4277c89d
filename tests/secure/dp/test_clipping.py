"""Clipped sums against the naive loop, and records that must not count."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from secure_train.dp import (
    Adjacency,
    GhostClipper,
    InvalidParameterError,
    UnsupportedModel,
    clipped_gradient_sum,
)


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def norm(gradients):
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


@pytest.mark.parametrize("max_grad_norm", [0.05, 1.0, 1e4])
def test_the_clipped_sum_is_that_of_one_record_at_a_time(case, tools, max_grad_norm):
    model, inputs, targets = case
    expected = tools.naive_clipped_sum(model, inputs, targets, max_grad_norm)
    for size in (1, 4, 13, 100):
        clipped = clipped_gradient_sum(
            model, tools.cross_entropy, inputs, targets, max_grad_norm, physical_batch_size=size
        )
        assert largest_difference(clipped.gradients, expected) <= 1e-5 * max(1.0, norm(expected))
        assert clipped.records == 13


def test_every_record_is_bounded_by_the_clipping_norm(case, tools):
    model, inputs, targets = case
    with GhostClipper(model, 0.01) as clipper:
        for index in range(len(inputs)):
            one = slice(index, index + 1)
            clipped = clipper.sum(tools.cross_entropy, inputs[one], targets[one], physical_batch_size=1)
            assert norm(clipped.gradients) == pytest.approx(0.01, rel=1e-4)


def test_a_clipper_keeps_nothing_from_one_batch_to_the_next(case, tools):
    model, inputs, targets = case
    fresh = clipped_gradient_sum(model, tools.cross_entropy, inputs, targets, 0.5, physical_batch_size=13)
    with GhostClipper(model, 0.5) as clipper:
        clipper.sum(tools.cross_entropy, inputs[:5], targets[:5], physical_batch_size=2)
        again = clipper.sum(tools.cross_entropy, inputs, targets, physical_batch_size=13)
    assert largest_difference(fresh.gradients, again.gradients) == 0


def test_an_empty_batch_sums_to_zero(case, tools):
    model, inputs, targets = case
    clipped = clipped_gradient_sum(
        model, tools.cross_entropy, inputs[:0], targets[:0], 1.0, physical_batch_size=4
    )
    assert norm(clipped.gradients) == 0
    assert {name: g.shape for name, g in clipped.gradients.items()} == {
        name: p.shape for name, p in model.named_parameters() if p.requires_grad
    }


def test_sensitivity_doubles_for_replaced_records(tools, flat_data):
    clipped = clipped_gradient_sum(tools.mlp(), tools.cross_entropy, *flat_data, 0.7, physical_batch_size=12)
    assert clipped.sensitivity(Adjacency.ADD_OR_REMOVE_ONE) == 0.7
    assert clipped.sensitivity(Adjacency.REPLACE_ONE) == 1.4


def test_neither_gradients_nor_the_batch_size_are_shown(tools, flat_data):
    clipped = clipped_gradient_sum(tools.mlp(), tools.cross_entropy, *flat_data, 0.7, physical_batch_size=12)
    assert repr(clipped) == "ClippedSum(max_grad_norm=0.7)"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 3e38])
@pytest.mark.parametrize("size", [1, 4, 12])
def test_a_record_that_is_not_finite_contributes_exactly_zero(tools, flat_data, value, size):
    model = tools.mlp()
    inputs, targets = flat_data
    poisoned = inputs.clone()
    poisoned[5, 2] = value
    others = [index for index in range(12) if index != 5]
    clipped = clipped_gradient_sum(
        model, tools.cross_entropy, poisoned, targets, 0.5, physical_batch_size=size
    )
    expected = tools.naive_clipped_sum(model, inputs[others], targets[others], 0.5)
    assert largest_difference(clipped.gradients, expected) <= 1e-5


def test_a_batch_of_nothing_but_broken_records_sums_to_zero(tools, flat_data):
    _, targets = flat_data
    broken = torch.full((12, 10), math.nan)
    clipped = clipped_gradient_sum(
        tools.mlp(), tools.cross_entropy, broken, targets, 0.5, physical_batch_size=5
    )
    assert norm(clipped.gradients) == 0


def test_a_record_whose_loss_alone_is_infinite_contributes_zero(tools, flat_data):
    model, (inputs, targets) = tools.mlp(), flat_data

    def loss(outputs, chosen):
        extra = torch.where(chosen >= 10, math.inf, 0.0)
        return tools.cross_entropy(outputs, chosen % 10) + extra

    marked = targets.clone()
    marked[3] += 10
    others = [index for index in range(12) if index != 3]
    clipped = clipped_gradient_sum(model, loss, inputs, marked, 0.5, physical_batch_size=12)
    expected = tools.naive_clipped_sum(model, inputs[others], targets[others], 0.5)
    assert largest_difference(clipped.gradients, expected) <= 1e-5


def test_a_huge_but_finite_gradient_is_clipped_to_the_norm():
    # Products of float32 squares overflow here; the gradient does not.
    model = nn.Linear(4, 1, bias=False)
    inputs, targets = torch.full((2, 4), 1e12), torch.full((2,), 1e9)
    clipped = clipped_gradient_sum(
        model, lambda outputs, t: outputs.squeeze(1) * t, inputs, targets, 1.0, physical_batch_size=2
    )
    assert norm(clipped.gradients) == pytest.approx(2.0, rel=1e-4)


def test_a_tiny_activation_times_a_huge_error_is_not_overlooked():
    # Squares of the activations underflow in float32: there, the norm would be zero and nothing clipped.
    model = nn.Linear(4, 1, bias=False)
    inputs, targets = torch.full((2, 4), 1e-24), torch.full((2,), 1e18)
    clipped = clipped_gradient_sum(
        model, lambda outputs, t: outputs.squeeze(1) * t, inputs, targets, 1e-8, physical_batch_size=2
    )
    assert norm(clipped.gradients) == pytest.approx(2e-8, rel=1e-4)


def test_closing_leaves_the_model_as_it_was(case, tools):
    model, inputs, targets = case
    before = copy.deepcopy(model.state_dict())
    clipped_gradient_sum(model, tools.cross_entropy, inputs, targets, 1.0, physical_batch_size=4)
    assert all(not m._forward_hooks and not m._backward_hooks for m in model.modules())
    assert all(not p.__dict__ and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    clipped_gradient_sum(model, tools.cross_entropy, inputs, targets, 1.0, physical_batch_size=4)


def test_a_model_is_not_hooked_twice(tools):
    model = tools.mlp()
    with GhostClipper(model, 1.0), pytest.raises(UnsupportedModel, match="clipper already"):
        GhostClipper(model, 1.0)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)

    def forward(self, tokens):
        return nn.functional.linear(self.embedding(tokens).mean(1), self.embedding.weight)


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 10)

    def forward(self, inputs):
        return self.layer(self.layer(inputs))


class Bypassed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 3)

    def forward(self, inputs):
        return nn.functional.linear(inputs, self.layer.weight, self.layer.bias)


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 3)
        self.memory = nn.Module()
        self.memory.register_buffer("mean", torch.zeros(10))

    def forward(self, inputs):
        self.memory.mean = 0.9 * self.memory.mean + 0.1 * inputs.mean(0)
        return self.layer(inputs)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (CalledTwice(), "more than once"),
        (Bypassed(), r"layer\.weight"),
        (Remembering(), "buffer"),
    ],
    ids=["layer called twice", "layer bypassed", "buffer written"],
)
def test_models_whose_gradients_cannot_be_told_apart_are_refused(tools, flat_data, model, named):
    with pytest.raises(UnsupportedModel, match=named):
        clipped_gradient_sum(model, tools.cross_entropy, *flat_data, 1.0, physical_batch_size=12)


def test_weights_tied_by_a_functional_call_are_noticed_on_the_first_batch(tools):
    tokens, targets = torch.randint(0, 20, (6, 5)), torch.randint(0, 20, (6,))
    with pytest.raises(UnsupportedModel, match="outside its layer"):
        clipped_gradient_sum(Tied(), tools.cross_entropy, tokens, targets, 1.0, physical_batch_size=6)


def test_coupled_records_are_noticed_on_the_first_batch_that_can_show_it(tools, flat_data):
    inputs, targets = flat_data
    with GhostClipper(tools.HandWrittenBatchNorm(), 1.0) as clipper:
        clipper.sum(tools.cross_entropy, inputs[:1], targets[:1], physical_batch_size=12)
        with pytest.raises(UnsupportedModel, match="influence each other"):
            clipper.sum(tools.cross_entropy, inputs, targets, physical_batch_size=12)


def test_a_clipper_works_on_after_a_batch_that_failed(tools, flat_data):
    model, (inputs, targets) = tools.mlp(), flat_data

    def failing(outputs, targets):
        raise RuntimeError("planted")

    with GhostClipper(model, 0.5) as clipper:
        with pytest.raises(RuntimeError, match="planted"):
            clipper.sum(failing, inputs, targets, physical_batch_size=12)
        clipped = clipper.sum(tools.cross_entropy, inputs, targets, physical_batch_size=12)
    expected = tools.naive_clipped_sum(model, inputs, targets, 0.5)
    assert largest_difference(clipped.gradients, expected) <= 1e-5


def test_a_reduced_loss_is_refused(tools, flat_data):
    with pytest.raises(InvalidParameterError, match="reduction"):
        clipped_gradient_sum(tools.mlp(), nn.CrossEntropyLoss(), *flat_data, 1.0, physical_batch_size=12)


def test_autocast_is_refused(tools, flat_data):
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(UnsupportedModel, match="autocast"):
        clipped_gradient_sum(tools.mlp(), tools.cross_entropy, *flat_data, 1.0, physical_batch_size=12)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_a_meaningless_clipping_norm_is_refused(tools, bound):
    with pytest.raises(InvalidParameterError, match="max_grad_norm"):
        GhostClipper(tools.mlp(), bound)


def test_inputs_and_targets_must_match(tools, flat_data):
    inputs, targets = flat_data
    with pytest.raises(InvalidParameterError, match="same number"):
        clipped_gradient_sum(
            tools.mlp(), tools.cross_entropy, inputs, targets[:5], 1.0, physical_batch_size=12
        )
    with pytest.raises(InvalidParameterError, match="physical_batch_size"):
        clipped_gradient_sum(tools.mlp(), tools.cross_entropy, inputs, targets, 1.0, physical_batch_size=0)
