"""Which models are refused by structure, and which by the removal test."""

from __future__ import annotations

import pytest
import torch
from opacus.layers import DPLSTM, DPMultiheadAttention
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from secure_train.dp import (
    InvalidParameterError,
    RemovalTestFailed,
    UnsupportedModel,
    check_model,
    clipped_gradient_sum,
    removal_test,
)


def wrapped(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), layer)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def frozen_batch_norm() -> nn.Module:
    model = wrapped(nn.BatchNorm1d(4))
    model[1].eval().requires_grad_(False)
    return model


def with_own_buffer() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_buffer("seen", torch.zeros(4))
    return wrapped(layer)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (wrapped(nn.BatchNorm1d(4)), ["1:", "GroupNorm"]),
        (frozen_batch_norm(), ["1:", "GroupNorm"]),
        (wrapped(nn.SyncBatchNorm(4)), ["1:", "GroupNorm"]),
        (wrapped(nn.InstanceNorm1d(4, track_running_stats=True)), ["1:", "track_running_stats"]),
        (wrapped(nn.ReLU(inplace=True)), ["1:", "inplace=False"]),
        (wrapped(weight_norm(nn.Linear(4, 4))), ["1:", "parametrisation"]),
        (wrapped(nn.LSTM(4, 4)), ["1:", "DPLSTM"]),
        (wrapped(nn.MultiheadAttention(4, 2)), ["1:", "DPMultiheadAttention"]),
        (wrapped(nn.Linear(4, 4).eval()), ["1:", ".train()"]),
        (wrapped(nn.Linear(4, 4).half()), ["1.weight:", ".float()"]),
        (wrapped(nn.Linear(4, 4).double()), ["several dtypes"]),
        (wrapped(nn.Linear(4, 4)).requires_grad_(False), ["requires_grad"]),
        (with_own_buffer(), ["1:", "buffers"]),
        (tied(), ["1.weight", "0.weight"]),
        (nn.Sequential(nn.Embedding(4, 4, max_norm=1.0)), ["0:", "max_norm"]),
        (nn.Sequential(nn.Embedding(4, 4, scale_grad_by_freq=True)), ["0:", "scale_grad_by_freq"]),
        (nn.Sequential(nn.Embedding(4, 4, sparse=True)), ["0:", "sparse"]),
        (nn.DataParallel(nn.Linear(4, 4)), ["bare module"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_models_that_cannot_be_clipped_are_refused_with_path_and_remedy(model, words):
    with pytest.raises(UnsupportedModel) as refused:
        check_model(model)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_every_problem_is_listed_at_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.BatchNorm1d(4))
    with pytest.raises(UnsupportedModel) as refused:
        check_model(model)
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]] == ["1", "2", "3"]


def test_good_models_are_accepted(case):
    check_model(case[0])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = DPLSTM(4, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.out(self.lstm(inputs)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = DPMultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.out(self.attention(inputs, inputs, inputs)[0].mean(1))


@pytest.mark.parametrize("build", [Recurrent, Attentive])
def test_the_recommended_replacements_are_clipped_correctly(tools, build):
    torch.manual_seed(1)
    model, inputs, targets = build(), torch.randn(7, 5, 4), torch.randint(0, 3, (7,))
    clipped = clipped_gradient_sum(model, tools.cross_entropy, inputs, targets, 0.1, physical_batch_size=3)
    expected = tools.naive_clipped_sum(model, inputs, targets, 0.1)
    assert all(torch.allclose(clipped.gradients[name], expected[name], atol=1e-6) for name in expected)


def test_good_models_pass_the_removal_test(case, tools):
    model, inputs, targets = case
    removal_test(model, tools.cross_entropy, inputs, targets, 0.5)


def test_dropout_layers_do_not_disturb_the_removal_test(tools, flat_data):
    model = nn.Sequential(nn.Linear(10, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    removal_test(model, tools.cross_entropy, *flat_data, 0.5)
    assert model[1].training


def test_hand_written_batch_norm_fails_the_removal_test(tools, flat_data):
    with pytest.raises(RemovalTestFailed) as failed:
        removal_test(tools.HandWrittenBatchNorm(), tools.cross_entropy, *flat_data, 0.5)
    assert failed.value.ratio > 1.01
    assert f"{failed.value.ratio:.4g} C" in str(failed.value)


def test_a_contrastive_loss_fails_the_removal_test(tools, flat_data):
    with pytest.raises(RemovalTestFailed) as failed:
        removal_test(tools.mlp(), tools.contrastive, *flat_data, 0.5)
    assert failed.value.ratio > 1.01


def test_coupling_that_stays_within_the_bound_still_fails_the_removal_test(tools):
    def centred(outputs, targets):
        return tools.cross_entropy(outputs, targets) + 0.3 * (outputs - outputs.mean(0)).square().mean(1)

    torch.manual_seed(2)
    tokens, targets = torch.randint(1, 20, (12, 5)), torch.randint(0, 3, (12,))
    with pytest.raises(RemovalTestFailed) as failed:
        removal_test(tools.TokenClassifier(), centred, tokens, targets, 5.0)
    assert failed.value.ratio < 1
    assert failed.value.coupling > 0.001


class Tied(nn.Module):
    """Uses the embedding's weight a second time, where its layer cannot see it."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)

    def forward(self, tokens):
        return nn.functional.linear(self.embedding(tokens).mean(1), self.embedding.weight)


def test_a_norm_that_misses_part_of_the_gradient_fails_the_removal_test(tools):
    torch.manual_seed(2)
    tokens, targets = torch.randint(0, 20, (6, 5)), torch.randint(0, 20, (6,))
    with pytest.raises(RemovalTestFailed) as failed:
        removal_test(Tied(), tools.cross_entropy, tokens, targets, 0.01)
    assert failed.value.ratio > 1.01
    assert failed.value.coupling < 0.001


def test_a_single_example_shows_nothing_and_is_refused(tools, flat_data):
    inputs, targets = flat_data
    with pytest.raises(InvalidParameterError, match="at least 2"):
        removal_test(tools.mlp(), tools.cross_entropy, inputs[:1], targets[:1], 0.5)


def test_the_removal_test_leaves_the_model_alone(tools, flat_data):
    model = tools.mlp()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    removal_test(model, tools.cross_entropy, *flat_data, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not p.__dict__ for p in model.parameters())
