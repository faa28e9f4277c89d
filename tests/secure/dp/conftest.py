"""Models, losses and a naive reference for per-record clipping."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from secure_train.dp import Batch, Clipper, LossFunction, PerformanceFlags

torch.set_num_threads(1)


class TokenClassifier(nn.Module):
    """Embedding (with padding), LayerNorm and Linear over a sequence."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8, padding_idx=0)
        self.norm = nn.LayerNorm(8, bias=bias)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(self.norm(self.embedding(tokens)))).mean(1))


class GridClassifier(nn.Module):
    """Linear over an input with two middle dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tanh(self.out(inputs)).mean((1, 2))


class HandWrittenBatchNorm(nn.Module):
    """Normalises by statistics of the batch, without any layer that a type check could find."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.second = nn.Linear(16, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
        return self.second(torch.relu(hidden))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))


def frozen_mlp() -> nn.Module:
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
    model[0].weight.requires_grad_(False)
    return model


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


_FLAT, _IMAGE, _GRID = (10,), (1, 12, 12), (2, 3, 6)
_CASES = {
    "linear": (lambda: nn.Linear(10, 3), _FLAT),
    "mlp": (mlp, _FLAT),
    "mlp with frozen weight": (frozen_mlp, _FLAT),
    "cnn with GroupNorm": (cnn, _IMAGE),
    "tokens": (TokenClassifier, None),
    "tokens, LayerNorm without bias": (lambda: TokenClassifier(bias=False), None),
    "grid": (GridClassifier, _GRID),
}


@pytest.fixture(params=_CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    """(model, inputs, targets) with 13 records."""
    build, shape = _CASES[request.param]
    torch.manual_seed(7)
    model = build()
    inputs = torch.randint(0, 20, (13, 5)) if shape is None else torch.randn(13, *shape)
    return model, inputs, torch.randint(0, 3, (13,))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def contrastive(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """InfoNCE over the batch: every record's loss has the others in its denominator."""
    embedded = functional.normalize(model(batch[0]), dim=1)
    similarities = embedded @ embedded.T / 0.1 - 1e9 * torch.eye(len(embedded))
    partners = (torch.arange(len(embedded)) + 1) % len(embedded)
    return functional.cross_entropy(similarities, partners, reduction="none")


def one_by_one(model: nn.Module, loss: LossFunction, batch: Batch) -> Iterator[dict[str, Tensor]]:
    """Each record's gradient by plain autograd: obviously right, and slow."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for index in range(len(pytree.tree_leaves(batch)[0])):
        alone = pytree.tree_map(lambda tensor, i=index: tensor[i : i + 1], batch)
        gradients = torch.autograd.grad(loss(model, alone).sum(), list(named.values()), allow_unused=True)
        yield {
            name: torch.zeros_like(p) if gradient is None else gradient
            for (name, p), gradient in zip(named.items(), gradients, strict=True)
        }


def norm(gradients: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


def naive_clipped_sum(
    model: nn.Module, loss: LossFunction, batch: Batch, max_grad_norm: float
) -> dict[str, Tensor]:
    """One record at a time, flat clipping."""
    totals = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for gradients in one_by_one(model, loss, batch):
        scale = min(1.0, max_grad_norm / max(norm(gradients), 1e-300))
        for name, gradient in gradients.items():
            totals[name] += gradient * scale
    return totals


def clipped_sum(
    model: nn.Module, loss: LossFunction, batch: Batch, max_grad_norm: float, **options: Any
) -> dict[str, Tensor]:
    """The engine's. Options are those of `Clipper` and of `PerformanceFlags`."""
    flags = {name: options.pop(name) for name in PerformanceFlags.__annotations__ if name in options}
    with Clipper(model, max_grad_norm, flags=PerformanceFlags(**flags), **options) as clipper:
        return clipper.sum(loss, batch).gradients


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The L2 distance, relative to the second's length."""
    assert first.keys() == second.keys()
    return norm({name: first[name] - second[name] for name in first}) / max(norm(second), 1e-30)


class Tools:
    """What tests share; a fixture because test modules cannot import each other."""

    TokenClassifier = TokenClassifier
    HandWrittenBatchNorm = HandWrittenBatchNorm
    mlp = staticmethod(mlp)
    cnn = staticmethod(cnn)
    cross_entropy = staticmethod(cross_entropy)
    losses = staticmethod(losses)
    contrastive = staticmethod(contrastive)
    one_by_one = staticmethod(one_by_one)
    naive_clipped_sum = staticmethod(naive_clipped_sum)
    clipped_sum = staticmethod(clipped_sum)
    difference = staticmethod(difference)
    norm = staticmethod(norm)
    KEY = bytes(range(32))


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools


@pytest.fixture
def flat_data() -> tuple[Tensor, Tensor]:
    """Twelve records for `tools.mlp()`."""
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(12, 10, generator=generator),
        torch.randint(0, 3, (12,), generator=generator),
    )
