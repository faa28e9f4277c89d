"""Clipped sums against one record at a time, and records that must not count."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from secure_train.dp import (
    Adjacency,
    Clipper,
    Clipping,
    InvalidParameterError,
    PerformanceFlags,
    UnsupportedModel,
)


@pytest.mark.parametrize("max_grad_norm", [0.05, 1.0, 1e4])
@pytest.mark.parametrize("limit", [0, 1 << 28])
def test_the_clipped_sum_is_that_of_one_record_at_a_time(case, tools, max_grad_norm, limit):
    model, *batch = case
    expected = tools.naive_clipped_sum(model, tools.losses, batch, max_grad_norm)
    for size in (1, 4, 13, 100):
        clipped = tools.clipped_sum(
            model,
            tools.losses,
            batch,
            max_grad_norm,
            physical_batch_size=size,
            instantiate_limit_bytes=limit,
        )
        assert tools.difference(clipped, expected) <= 1e-5


def test_every_record_is_bounded_by_the_clipping_norm(case, tools):
    model, inputs, targets = case
    with Clipper(model, 0.01) as clipper:
        for index in range(len(inputs)):
            one = slice(index, index + 1)
            clipped = clipper.sum(tools.losses, (inputs[one], targets[one]))
            assert tools.norm(clipped.gradients) == pytest.approx(0.01, rel=1e-4)


def test_automatic_clipping_scales_small_gradients_up_too(case, tools):
    model, *batch = case
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for gradients in tools.one_by_one(model, tools.losses, batch):
        scale = 0.7 / (tools.norm(gradients) + 0.01)
        assert scale * tools.norm(gradients) < 0.7
        for name, gradient in gradients.items():
            expected[name] += scale * gradient
    clipped = tools.clipped_sum(model, tools.losses, batch, 0.7, clipping=Clipping.AUTOMATIC)
    assert tools.difference(clipped, expected) <= 1e-5


def test_per_layer_clipping_shares_the_norm_out_to_layers(case, tools):
    model, *batch = case
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    layers = {name.rpartition(".")[0] for name in trained}
    bound = 0.1 / math.sqrt(len(layers))
    expected = dict.fromkeys(trained, 0.0)
    for gradients in tools.one_by_one(model, tools.losses, batch):
        for layer in layers:
            own = {name: g for name, g in gradients.items() if name.rpartition(".")[0] == layer}
            scale = min(1.0, bound / tools.norm(own))
            for name, gradient in own.items():
                expected[name] = expected[name] + scale * gradient
    clipped = tools.clipped_sum(model, tools.losses, batch, 0.1, clipping=Clipping.PER_LAYER)
    assert tools.difference(clipped, expected) <= 1e-5
    assert tools.norm(clipped) <= 0.1 * 13


def test_a_clipper_keeps_nothing_from_one_batch_to_the_next(case, tools):
    model, inputs, targets = case
    fresh = tools.clipped_sum(model, tools.losses, (inputs, targets), 0.5)
    with Clipper(model, 0.5) as clipper:
        clipper.sum(tools.losses, (inputs[:5], targets[:5]))
        again = clipper.sum(tools.losses, (inputs, targets))
    assert tools.difference(again.gradients, fresh) == 0


def test_an_empty_batch_sums_to_zero(case, tools):
    model, inputs, targets = case
    clipped = tools.clipped_sum(model, tools.losses, (inputs[:0], targets[:0]), 1.0)
    assert tools.norm(clipped) == 0
    assert {name: g.shape for name, g in clipped.items()} == {
        name: p.shape for name, p in model.named_parameters() if p.requires_grad
    }


def test_sensitivity_doubles_for_replaced_records(tools, flat_data):
    with Clipper(tools.mlp(), 0.7) as clipper:
        clipped = clipper.sum(tools.losses, flat_data)
    assert clipped.sensitivity(Adjacency.ADD_OR_REMOVE_ONE) == 0.7
    assert clipped.sensitivity(Adjacency.REPLACE_ONE) == 1.4


def test_neither_gradients_nor_the_batch_size_are_shown(tools, flat_data):
    with Clipper(tools.mlp(), 0.7) as clipper:
        assert repr(clipper.sum(tools.losses, flat_data)) == "ClippedSum(max_grad_norm=0.7)"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 3e38])
@pytest.mark.parametrize("size", [1, 4, 12])
@pytest.mark.parametrize("clipping", list(Clipping))
def test_a_record_that_is_not_finite_contributes_exactly_zero(tools, flat_data, value, size, clipping):
    model = tools.mlp()
    inputs, targets = flat_data
    poisoned = inputs.clone()
    poisoned[5, 2] = value
    others = [index for index in range(12) if index != 5]
    options = {"physical_batch_size": size, "clipping": clipping}
    clipped = tools.clipped_sum(model, tools.losses, (poisoned, targets), 0.5, **options)
    expected = tools.clipped_sum(model, tools.losses, (inputs[others], targets[others]), 0.5, **options)
    assert tools.difference(clipped, expected) <= 1e-5


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_broken_records_do_not_count_in_any_layer(case, tools, value):
    model, inputs, targets = case

    def losses(model, batch):
        # Of the marked record, loss and gradients are not finite in every layer.
        return tools.losses(model, batch[:2]) * batch[2]

    marks = torch.ones(13)
    marks[4] = value
    others = [index for index in range(13) if index != 4]
    clipped = tools.clipped_sum(model, losses, (inputs, targets, marks), 0.5)
    expected = tools.clipped_sum(model, tools.losses, (inputs[others], targets[others]), 0.5)
    assert tools.difference(clipped, expected) <= 1e-5


def test_a_batch_of_nothing_but_broken_records_sums_to_zero(tools, flat_data):
    broken = torch.full((12, 10), math.nan)
    clipped = tools.clipped_sum(tools.mlp(), tools.losses, (broken, flat_data[1]), 0.5)
    assert tools.norm(clipped) == 0


def test_a_record_whose_loss_alone_is_infinite_contributes_zero(tools, flat_data):
    model, (inputs, targets) = tools.mlp(), flat_data

    def losses(model, batch):
        extra = torch.where(batch[1] >= 10, math.inf, 0.0)
        return tools.cross_entropy(model(batch[0]), batch[1] % 10) + extra

    marked = targets.clone()
    marked[3] += 10
    others = [index for index in range(12) if index != 3]
    clipped = tools.clipped_sum(model, losses, (inputs, marked), 0.5)
    expected = tools.naive_clipped_sum(model, tools.losses, (inputs[others], targets[others]), 0.5)
    assert tools.difference(clipped, expected) <= 1e-5


def product(model, batch):
    return model(batch[0]).flatten(1).mean(1) * batch[1]


def test_a_huge_but_finite_gradient_is_clipped_to_the_norm(tools):
    # The norm's square overflows float32 here; the norms of activation and error do not.
    model = nn.Linear(4, 1, bias=False)
    batch = torch.full((2, 4), 1e12), torch.full((2,), 1e9)
    assert tools.norm(tools.clipped_sum(model, product, batch, 1.0)) == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("scale", [1e12, 1e18, 1e25])
def test_a_gradient_whose_square_overflows_everywhere_stays_within_the_bound(tools, scale):
    model = nn.Linear(4, 1, bias=False)
    batch = torch.full((2, 3, 4), scale), torch.full((2,), 1e9)
    assert tools.norm(tools.clipped_sum(model, product, batch, 1.0)) <= 2 * (1 + 1e-4)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4)])
def test_a_tiny_activation_times_a_huge_error_does_not_escape_the_bound(tools, shape):
    # Squares of the activations underflow float32: a norm of zero would let the record in unclipped.
    model = nn.Linear(4, 1, bias=False)
    batch = torch.full(shape, 1e-24), torch.full((2,), 1e18)
    assert tools.norm(tools.clipped_sum(model, product, batch, 1e-8)) <= 2e-8 * (1 + 1e-4)


def test_closing_leaves_the_model_as_it_was(case, tools):
    model, *batch = case
    before = copy.deepcopy(model.state_dict())
    tools.clipped_sum(model, tools.losses, batch, 1.0)
    assert all(not m._forward_hooks and not m._backward_hooks for m in model.modules())
    assert all(not p.__dict__ and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_open_clipper_does_not_disturb_other_uses_of_the_model(case, tools):
    model, *batch = case
    expected = model(batch[0])
    with Clipper(model, 1.0):
        outputs = model(batch[0])
        assert torch.equal(outputs, expected)
        tools.cross_entropy(outputs, batch[1]).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


class Bypassed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 3)

    def forward(self, inputs):
        return nn.functional.linear(inputs, self.layer.weight, self.layer.bias) + self.layer(inputs)


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 3)
        self.memory = nn.Module()
        self.memory.register_buffer("mean", torch.zeros(10))

    def forward(self, inputs):
        self.memory.mean = 0.9 * self.memory.mean + 0.1 * inputs.mean(0)
        return self.layer(inputs)


class Flattening(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, inputs):
        return self.layer(inputs.view(-1, 5)).view(-1, 2, 3).mean(1)


class Broadcasting(nn.Module):
    def __init__(self):
        super().__init__()
        self.positions, self.layer = nn.Embedding(10, 10), nn.Linear(10, 3)

    def forward(self, inputs):
        return self.layer(inputs + self.positions(torch.zeros(1, dtype=torch.int64)))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Bypassed(), r"layer\.weight, layer\.bias.*outside"),
        (Remembering(), "buffer"),
        (Flattening(), "layer: .*flatten over records"),
        (Broadcasting(), r"positions: .*position_ids of shape \(B, L\)"),
    ],
    ids=["layer bypassed", "buffer written", "records flattened", "positions broadcast"],
)
def test_models_whose_gradients_cannot_be_told_apart_are_refused(tools, flat_data, model, named):
    with pytest.raises(UnsupportedModel, match=named):
        tools.clipped_sum(model, tools.losses, flat_data, 1.0)


def test_coupled_records_are_noticed_on_the_first_batch_that_can_show_it(tools, flat_data):
    inputs, targets = flat_data
    with Clipper(tools.HandWrittenBatchNorm(), 1.0) as clipper:
        clipper.sum(tools.losses, (inputs[:1], targets[:1]))
        with pytest.raises(UnsupportedModel, match="influence each other"):
            clipper.sum(tools.losses, flat_data)


def test_a_contrastive_loss_is_noticed_on_the_first_batch(tools, flat_data):
    with pytest.raises(UnsupportedModel, match="influence each other"):
        tools.clipped_sum(tools.mlp(), tools.contrastive, flat_data, 1.0)


def test_a_model_whose_every_parameter_is_bypassed_is_refused_rather_than_given_a_sum_of_zeros(
    tools, flat_data
):
    model = nn.Linear(10, 3)

    def losses(model, batch):
        return tools.cross_entropy(nn.functional.linear(batch[0], model.weight, model.bias), batch[1])

    with pytest.raises(UnsupportedModel, match="weight, bias"):
        tools.clipped_sum(model, losses, flat_data, 1.0)


def test_a_clipper_works_on_after_a_batch_that_failed(tools, flat_data):
    model = tools.mlp()

    def failing(model, batch):
        model(batch[0])
        raise RuntimeError("planted")

    with Clipper(model, 0.5) as clipper:
        with pytest.raises(RuntimeError, match="planted"):
            clipper.sum(failing, flat_data)
        clipped = clipper.sum(tools.losses, flat_data)
    expected = tools.naive_clipped_sum(model, tools.losses, flat_data, 0.5)
    assert tools.difference(clipped.gradients, expected) <= 1e-5


def test_a_batch_may_be_any_tree_of_tensors(tools, flat_data):
    model, (inputs, targets) = tools.mlp(), flat_data
    tree = {"x": [inputs], "y": (targets,)}

    def losses(model, batch):
        return tools.losses(model, (batch["x"][0], batch["y"][0]))

    clipped = tools.clipped_sum(model, losses, tree, 0.5, physical_batch_size=5)
    assert tools.difference(clipped, tools.clipped_sum(model, tools.losses, flat_data, 0.5)) <= 1e-6


@pytest.mark.parametrize(
    ("batch", "named"),
    [
        ((torch.zeros(3, 10), torch.zeros(4)), "disagree"),
        ((torch.zeros(3, 10), 7), "every leaf"),
        ((torch.zeros(3, 10), torch.tensor(1.0)), "every leaf"),
        ((), "no tensor"),
    ],
)
def test_a_batch_without_a_number_of_records_is_refused(tools, batch, named):
    with pytest.raises(InvalidParameterError, match=named):
        tools.clipped_sum(tools.mlp(), tools.losses, batch, 1.0)


def test_a_reduced_loss_is_refused(tools, flat_data):
    with pytest.raises(InvalidParameterError, match="reduction"):
        tools.clipped_sum(tools.mlp(), lambda m, b: tools.losses(m, b).mean(), flat_data, 1.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_a_meaningless_clipping_norm_is_refused(tools, bound):
    with pytest.raises(InvalidParameterError, match="max_grad_norm"):
        Clipper(tools.mlp(), bound)


@pytest.mark.parametrize("flags", [{"physical_batch_size": 0}, {"instantiate_limit_bytes": -1}])
def test_meaningless_flags_are_refused_by_name(flags):
    with pytest.raises(InvalidParameterError, match=next(iter(flags))):
        PerformanceFlags(**flags)
