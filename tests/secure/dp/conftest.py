"""Models, losses and a naive reference for per-record clipping."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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


def contrastive(outputs: Tensor, _targets: Tensor) -> Tensor:
    """InfoNCE over the batch: every record's loss has the others in its denominator."""
    embedded = functional.normalize(outputs, dim=1)
    similarities = embedded @ embedded.T / 0.1 - 1e9 * torch.eye(len(outputs))
    partners = (torch.arange(len(outputs)) + 1) % len(outputs)
    return functional.cross_entropy(similarities, partners, reduction="none")


def naive_clipped_sum(
    model: nn.Module, inputs: Tensor, targets: Tensor, max_grad_norm: float
) -> dict[str, Tensor]:
    """One record at a time, by plain autograd: obviously right, and slow."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    totals = {name: torch.zeros_like(p) for name, p in named.items()}
    for index in range(len(inputs)):
        loss = cross_entropy(model(inputs[index : index + 1]), targets[index : index + 1]).sum()
        gradients = torch.autograd.grad(loss, list(named.values()))
        norm = float(torch.cat([g.flatten() for g in gradients]).norm())
        for total, gradient in zip(totals.values(), gradients, strict=True):
            total += gradient * min(1.0, max_grad_norm / norm)
    return totals


class Tools:
    """What tests share; a fixture because test modules cannot import each other."""

    TokenClassifier = TokenClassifier
    HandWrittenBatchNorm = HandWrittenBatchNorm
    mlp = staticmethod(mlp)
    cnn = staticmethod(cnn)
    cross_entropy = staticmethod(cross_entropy)
    contrastive = staticmethod(contrastive)
    naive_clipped_sum = staticmethod(naive_clipped_sum)
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
