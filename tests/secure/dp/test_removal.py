"""The removal test: what it lets pass, and every kind of coupling that it must catch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secure_train.dp import InvalidParameterError, RemovalTestFailed, removal_test


def test_good_models_pass_the_removal_test(case, tools):
    model, inputs, targets = case
    removal_test(model, tools.losses, (inputs, targets), 0.5)


def test_dropout_layers_do_not_disturb_the_removal_test(tools, flat_data):
    model = nn.Sequential(nn.Linear(10, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    removal_test(model, tools.losses, flat_data, 0.5)
    assert model[1].training


def test_hand_written_batch_norm_fails_the_removal_test(tools, flat_data):
    with pytest.raises(RemovalTestFailed) as failed:
        removal_test(tools.HandWrittenBatchNorm(), tools.losses, flat_data, 0.5)
    assert failed.value.ratio > 1.01
    assert f"{failed.value.ratio:.4g} C" in str(failed.value)


def test_a_contrastive_loss_fails_the_removal_test(tools, flat_data):
    with pytest.raises(RemovalTestFailed) as failed:
        removal_test(tools.mlp(), tools.contrastive, flat_data, 0.5)
    assert failed.value.ratio > 1.01


def test_coupling_that_stays_within_the_bound_still_fails_the_removal_test(tools):
    def centred(model, batch):
        outputs = model(batch[0])
        spread = (outputs - outputs.mean(0)).square().mean(1)
        return tools.cross_entropy(outputs, batch[1]) + 0.3 * spread

    torch.manual_seed(2)
    tokens, targets = torch.randint(1, 20, (12, 5)), torch.randint(0, 3, (12,))
    with pytest.raises(RemovalTestFailed) as failed:
        removal_test(tools.TokenClassifier(), centred, (tokens, targets), 5.0)
    assert failed.value.ratio < 1
    assert failed.value.coupling > 0.001


class FakeQuantised(nn.Module):
    """Quantisation-aware training: rounds to a grid that the largest value of the batch sets."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, inputs):
        hidden = torch.tanh(self.first(inputs)) * inputs.abs().amax(1, keepdim=True)
        step = hidden.detach().abs().max() / 7
        # Straight through: rounded forward, identity backward.
        return self.second(hidden + ((hidden / step).round() * step - hidden).detach())


class Experts(nn.Module):
    """A mixture of experts whose router is asked to use them evenly over the batch."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(10, 4)
        self.experts = nn.ModuleList(nn.Linear(10, 3) for _ in range(4))

    def forward(self, inputs):
        gates = self.router(inputs).softmax(1)
        outputs = torch.stack([expert(inputs) for expert in self.experts], 1)
        return (gates.unsqueeze(2) * outputs).sum(1), gates


def balanced(model, batch):
    """Cross entropy plus the load-balancing loss of Switch transformers, which averages over the batch."""
    outputs, gates = model(batch[0])
    chosen = nn.functional.one_hot(gates.argmax(1), 4).float().mean(0)
    entropy = nn.functional.cross_entropy(outputs, batch[1], reduction="none")
    return entropy + 4 * (chosen * gates).sum(1)


def test_fake_quantisation_by_the_range_of_the_batch_fails_the_removal_test(tools, flat_data):
    torch.manual_seed(0)
    with pytest.raises(RemovalTestFailed):
        removal_test(FakeQuantised(), tools.losses, flat_data, 0.5)


def test_a_load_balancing_loss_fails_the_removal_test(flat_data):
    torch.manual_seed(0)
    with pytest.raises(RemovalTestFailed):
        removal_test(Experts(), balanced, flat_data, 0.5)


def test_experts_without_that_loss_pass(tools, flat_data):
    torch.manual_seed(0)
    removal_test(Experts(), lambda m, b: tools.cross_entropy(m(b[0])[0], b[1]), flat_data, 0.5)


def test_a_single_example_shows_nothing_and_is_refused(tools, flat_data):
    inputs, targets = flat_data
    with pytest.raises(InvalidParameterError, match="at least 2"):
        removal_test(tools.mlp(), tools.losses, (inputs[:1], targets[:1]), 0.5)


def test_the_removal_test_leaves_the_model_alone(tools, flat_data):
    model = tools.mlp()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    removal_test(model, tools.losses, flat_data, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not p.__dict__ for p in model.parameters())
