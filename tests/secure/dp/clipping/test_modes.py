"""Other ways to run a model: autocast, float64, checkpointing, compilation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from secure_train.dp import Clipper


def under_autocast(tools):
    def losses(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(batch[0])
        return tools.cross_entropy(outputs.float(), batch[1])

    return losses


def test_autocast_gives_the_sum_up_to_its_precision(case, tools):
    model, *batch = case
    expected = tools.naive_clipped_sum(model, tools.losses, batch, 0.1)
    clipped = tools.clipped_sum(model, under_autocast(tools), batch, 0.1)
    assert tools.difference(clipped, expected) <= 0.05
    assert all(gradient.dtype == torch.float32 for gradient in clipped.values())


def test_autocast_around_the_whole_step_is_the_same(case, tools):
    model, *batch = case
    inside = tools.clipped_sum(model, under_autocast(tools), batch, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        around = tools.clipped_sum(model, lambda m, b: tools.losses(m, b).float(), batch, 0.1)
    assert tools.difference(around, inside) <= 0.02


def test_under_autocast_no_record_exceeds_the_clipping_norm(case, tools):
    model, inputs, targets = case
    with Clipper(model, 0.01) as clipper:
        for index in range(len(inputs)):
            one = slice(index, index + 1)
            clipped = clipper.sum(under_autocast(tools), (inputs[one], targets[one]))
            assert tools.norm(clipped.gradients) <= 0.01 * (1 + 1e-4)
            assert tools.norm(clipped.gradients) >= 0.01 * (1 - 1e-2)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_matmul_precision_lowers_weights_instead_of_breaking_the_bound(case, tools, precision):
    model, inputs, targets = case
    torch.set_float32_matmul_precision(precision)
    try:
        with Clipper(model, 0.01) as clipper:
            clipped = clipper.sum(tools.losses, (inputs[:1], targets[:1]))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert 0.01 * 0.9 <= tools.norm(clipped.gradients) <= 0.01 * (1 + 1e-4)


def test_models_of_double_precision_are_exact_in_it(case, tools):
    model, inputs, targets = case
    model.double()
    batch = (inputs.double() if inputs.is_floating_point() else inputs), targets
    expected = tools.naive_clipped_sum(model, tools.losses, batch, 0.1)
    assert tools.difference(tools.clipped_sum(model, tools.losses, batch, 0.1), expected) <= 1e-12


class Checkpointed(nn.Module):
    def __init__(self, blocks, use):
        super().__init__()
        self.blocks, self.use = blocks, use

    def forward(self, inputs):
        for block in self.blocks:
            inputs = checkpoint(block, inputs, use_reentrant=False) if self.use else block(inputs)
        return inputs


def blocks():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.LayerNorm(6), nn.Dropout(0.2)) for _ in range(3)]
    return nn.ModuleList([*layers, nn.Linear(6, 3)])


def test_checkpointed_blocks_give_the_same_sum(tools):
    batch = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    sums = []
    for use in (False, True):
        torch.manual_seed(1)
        sums.append(tools.clipped_sum(Checkpointed(blocks(), use), tools.losses, batch, 0.1))
    assert tools.difference(*sums) <= 1e-6


def test_checkpointing_drops_what_taps_save_until_the_backward_pass(tools):
    kept = {}
    for use in (False, True):
        sizes = []

        def losses(model, batch, sizes=sizes):
            # What autograd holds of the forward pass, as it packs it.
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t: sizes.append(t.numel()) or t, lambda t: t
            ):
                return tools.losses(model, batch)

        with Clipper(Checkpointed(blocks(), use), 0.1) as clipper:
            clipper.sum(losses, (torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])))
        kept[use] = sum(sizes)
    assert kept[True] < 0.6 * kept[False]


# Torch's compiler looks at an attribute of tensors that torch warns of looking at.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_model_gives_the_same_sum(case, tools):
    model, *batch = case
    expected = tools.clipped_sum(model, tools.losses, batch, 0.1)
    compiled = torch.compile(model, backend="aot_eager")
    with Clipper(model, 0.1) as clipper:
        for _ in range(2):
            clipped = clipper.sum(lambda _, b: tools.losses(compiled, b), batch).gradients
            assert tools.difference(clipped, expected) <= 1e-6
