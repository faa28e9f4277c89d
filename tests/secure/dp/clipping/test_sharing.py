"""Parameters that are used several times: the norm is that of the sum of all uses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

TOKENS = torch.randint(0, 9, (5, 4), generator=torch.Generator().manual_seed(1))
VECTORS = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(1))


class CalledTwice(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs):
        return self.layer(torch.tanh(self.layer(inputs)))


class TwoLayersOneWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs)))


class TiedLanguageModel(nn.Module):
    """Input and output embeddings are one tensor."""

    def __init__(self, padding_idx=None):
        super().__init__()
        self.embedding = nn.Embedding(9, 6, padding_idx=padding_idx)
        self.hidden = nn.Linear(6, 6)
        self.head = nn.Linear(6, 9)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.hidden(self.embedding(tokens))))


class TwoEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 6)

    def forward(self, tokens):
        return self.embedding(tokens) * self.embedding(tokens.flip(1))


class EmbeddingAsConvolution(nn.Module):
    """A sharing without a rule of its own: written out."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(6, 6, bias=False), nn.Bilinear(6, 6, 1, bias=False)
        self.scale.weight = nn.Parameter(self.linear.weight.detach().clone().view(1, 6, 6))
        self.norm, self.again = nn.LayerNorm(6), nn.LayerNorm(6)
        self.again.weight = self.norm.weight

    def forward(self, inputs):
        hidden = self.again(torch.tanh(self.linear(self.norm(inputs))))
        return self.scale(hidden, hidden)


def losses(model, batch):
    outputs = model(batch[0])
    return (outputs * torch.linspace(0.5, 1.5, outputs.shape[-1])).square().flatten(1).mean(1)


def next_token(model, batch):
    return functional.cross_entropy(model(batch[0])[:, :-1].mT, batch[0][:, 1:], reduction="none").mean(1)


@pytest.mark.parametrize(
    ("model", "inputs", "loss"),
    [
        (CalledTwice(nn.Linear(6, 6)), VECTORS, losses),
        (CalledTwice(nn.Linear(6, 6)), VECTORS[:, 0], losses),
        (CalledTwice(nn.LayerNorm(6)), VECTORS, losses),
        (CalledTwice(nn.Conv1d(3, 3, 3, padding=1)), VECTORS, losses),
        (TwoLayersOneWeight(), VECTORS, losses),
        (TwoEmbeddings(), TOKENS, losses),
        (TiedLanguageModel(), TOKENS, next_token),
        (TiedLanguageModel(padding_idx=3), TOKENS, next_token),
        (EmbeddingAsConvolution(), VECTORS, losses),
    ],
    ids=[
        "linear, sequence",
        "linear",
        "layer norm",
        "convolution",
        "two linear layers",
        "embedding twice",
        "tied language model",
        "tied, with padding",
        "other sharing",
    ],
)
@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_uses_of_a_parameter_are_added_up_before_the_norm_is_taken(tools, model, inputs, loss, clip):
    expected = tools.naive_clipped_sum(model, loss, (inputs,), clip)
    for limit in (0, 1 << 28):
        clipped = tools.clipped_sum(model, loss, (inputs,), clip, instantiate_limit_bytes=limit)
        assert tools.difference(clipped, expected) <= 1e-5


def test_a_parameter_that_a_forward_pass_leaves_out_has_gradient_zero(tools):
    class Partial(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, inputs):
            return self.used(inputs)

    clipped = tools.clipped_sum(Partial(), losses, (VECTORS,), 1.0)
    assert float(clipped["unused.weight"].abs().max()) == 0
    assert float(clipped["used.weight"].abs().max()) > 0
