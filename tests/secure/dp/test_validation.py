"""Which models are refused by their structure."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from secure_train.dp import UnsupportedModel, check_model


def wrapped(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), layer)


def frozen_batch_norm() -> nn.Module:
    model = wrapped(nn.BatchNorm1d(4))
    model[1].eval().requires_grad_(False)
    return model


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
        (wrapped(nn.Linear(4, 4).eval()), ["1:", ".train()"]),
        (wrapped(nn.Linear(4, 4).half()), ["1.weight:", ".float()"]),
        (wrapped(nn.Linear(4, 4).double()), ["several dtypes"]),
        (wrapped(nn.Linear(4, 4)).requires_grad_(False), ["requires_grad"]),
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
