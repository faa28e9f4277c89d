"""A record whose terms cancel hides nothing: neither its own length nor what it does to others' rounding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from secure_train.dp import Clipper, PerformanceFlags
from secure_train.dp.clipping.factors.precision import squared_lengths
from secure_train.dp.errors import UnsupportedModel

POSITIONS, WIDTH, OTHERS = 40, 48, 12


class TiedModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, index, inputs):
        return self.head(inputs) + 0 * self.embedding(index)


class Wide(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, inputs):
        return inputs * self.weight


def weighted(model, batch):
    *inputs, slopes = batch
    return (model(*inputs) * slopes).sum((1, 2))


def cancelling_slopes():
    """+a, -a, +2a, -2a, … with odd significands: their sum is 0, and each rounds what it is added to."""
    exponents = torch.arange(POSITIONS // 2, dtype=torch.float64) + 9
    values = (2.0**exponents * (1 + 2.0**-23)).float()
    return torch.stack([values, -values], 1).flatten()


def cases():
    slopes = cancelling_slopes()
    index = torch.randint(0, WIDTH, (OTHERS, POSITIONS))
    sequence = torch.randn(OTHERS, POSITIONS, WIDTH), torch.randn(OTHERS, POSITIONS, WIDTH)
    constant = torch.ones(1, POSITIONS, WIDTH), slopes.view(1, -1, 1).expand(1, POSITIONS, WIDTH).contiguous()
    zeros = torch.zeros(1, POSITIONS, dtype=torch.int64)
    channels = [tuple(part.mT.contiguous() for part in pair) for pair in (sequence, constant)]
    kept, dropped = PerformanceFlags(), PerformanceFlags(instantiate_limit_bytes=0)
    return {
        "tied": (TiedModel, (index, *sequence), (zeros, *constant), kept),
        "linear": (lambda: nn.Linear(WIDTH, WIDTH), sequence, constant, dropped),
        "convolution": (lambda: nn.Conv1d(WIDTH, WIDTH, 1, groups=2), *channels, dropped),
    }


@pytest.mark.parametrize("name", ["tied", "linear", "convolution"])
def test_terms_that_cancel_do_not_move_the_rounding_of_others(name):
    torch.manual_seed(0)
    build, others, record, flags = cases()[name]
    with Clipper(build(), 1.0, flags=flags) as clipper:
        alone = clipper.sum(weighted, others).gradients
        for place in range(0, OTHERS + 1, 3):
            batch = tuple(
                torch.cat([other[:place], mine, other[place:]])
                for other, mine in zip(others, record, strict=True)
            )
            together = clipper.sum(weighted, batch).gradients
            moved = sum(float((together[k] - alone[k]).double().square().sum()) for k in alone)
            assert math.sqrt(moved) <= 1 + 1e-3


@pytest.mark.parametrize("width", [256, 768, 4096])
def test_nearly_cancelling_constant_operands_stay_within_the_bound(width):
    torch.manual_seed(0)
    bound = 1e-3
    with Clipper(nn.Linear(width, 8, bias=False), bound) as clipper:
        clipper.sum(weighted, (torch.randn(4, 8, width), torch.randn(4, 8, 8)))
        for exponent in (14, 15, 16, 17, 18):
            for first, ratio, slope in torch.rand(12, 3).add(0.5).tolist():
                inputs, slopes = torch.full((1, 8, width), first), torch.full((1, 8, 8), slope)
                inputs[:, 4:] *= ratio
                slopes[:, 4:] = -slope / ratio * (1 - 2.0 ** (-exponent / 2))
                total = clipper.sum(weighted, (inputs, slopes)).gradients["weight"]
                assert float(total.double().norm()) <= bound * (1 + 1e-4)


@pytest.mark.parametrize("size", [4096, 4097, 1 << 20, 3_000_001])
def test_long_vectors_are_measured_as_long_as_they_are(size):
    vector = torch.full((1, size), 1.12**0.5)
    exact = float(vector[0, 0].double().square()) * size
    assert float(squared_lengths(vector)) >= exact * (1 - 2e-4)
    with Clipper(Wide(size), 1.0) as clipper:
        total = clipper.sum(lambda model, batch: model(batch).sum(1), vector).gradients["weight"]
    assert float(total.double().norm()) <= 1 + 1e-4


def test_records_that_are_not_finite_do_not_use_up_the_verification():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, inputs):
            outputs = self.linear(inputs)
            return outputs - 0.9 * outputs.mean(0, keepdim=True)

    def squares(model, batch):
        return model(batch).squeeze(1).square()

    inputs = torch.randn(6, 3)
    inputs[:4] = math.inf
    with Clipper(Mixing(), 1.0) as clipper:
        for batch in (inputs[:4], inputs[:5]):
            assert float(clipper.sum(squares, batch).gradients["linear.weight"].norm()) == 0
        with pytest.raises(UnsupportedModel, match="influence each other"):
            clipper.sum(squares, torch.randn(32, 3))
