"""Every family of layers, over shapes: the engine's sums are those of one record at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from secure_train.dp import UnsupportedModel

few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes = st.integers(1, 5)
limits = st.sampled_from([0, 3000, 1 << 28])


def squared(model, batch):
    """A loss that is sensitive to every output, of any shape."""
    outputs = model(batch[0]).flatten(1)
    return (outputs * torch.linspace(0.5, 1.5, outputs.shape[1])).square().mean(1)


def agrees(tools, model, batch, limit, loss=squared):
    for clip in (0.05, 1e6):
        expected = tools.naive_clipped_sum(model, loss, batch, clip)
        options = {"instantiate_limit_bytes": limit, "physical_batch_size": 3}
        assert tools.difference(tools.clipped_sum(model, loss, batch, clip, **options), expected) <= 1e-5


@few
@given(middle=st.lists(sizes, max_size=3), width=sizes, outputs=sizes, bias=st.booleans(), limit=limits)
def test_linear(tools, middle, width, outputs, bias, limit):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, outputs, bias=bias), nn.Tanh(), nn.Linear(outputs, 2))
    agrees(tools, model, (torch.randn(4, *middle, width),), limit)


@pytest.mark.parametrize(("steps", "width"), [(2, 60), (40, 3)], ids=["ghost norm", "instantiated"])
@pytest.mark.parametrize("limit", [0, 1 << 28])
def test_linear_takes_the_cheaper_way_and_both_agree(tools, steps, width, limit):
    torch.manual_seed(0)
    agrees(tools, nn.Linear(width, width), (torch.randn(4, steps, width),), limit)


@few
@given(length=sizes, rows=st.integers(2, 6), padded=st.booleans())
def test_embedding_with_repeated_tokens_and_padding(tools, length, rows, padded):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(rows, 3, padding_idx=0 if padded else None), nn.Linear(3, 2))
    agrees(tools, model, (torch.randint(0, rows, (4, length)),), 0)


@few
@given(
    dimensions=st.integers(1, 3),
    size=st.integers(3, 5),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same"]),
    mode=st.sampled_from(["zeros", "reflect", "circular", "replicate"]),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    limit=limits,
)
def test_convolution(tools, dimensions, size, kernel, stride, padding, mode, dilation, groups, limit):
    torch.manual_seed(0)
    stride = 1 if padding == "same" else stride
    room = size + 2 * padding if isinstance(padding, int) else 99
    if dilation * (kernel - 1) + 1 > room:
        dilation = 1
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    layer = kind(2, 4, kernel, stride, padding, dilation, groups, padding_mode=mode)
    agrees(tools, nn.Sequential(layer, nn.Flatten()), (torch.randn(4, 2, *[size] * dimensions),), limit)


def test_convolution_with_a_small_image_and_many_channels_uses_ghost_norms(tools):
    torch.manual_seed(0)
    agrees(tools, nn.Conv2d(24, 24, 3, padding=1, stride=2), (torch.randn(4, 24, 3, 3),), 0)


@few
@given(middle=st.lists(sizes, max_size=2), shape=st.lists(st.integers(2, 4), min_size=1, max_size=2))
@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_normalisation_over_trailing_dimensions(tools, kind, middle, shape):
    torch.manual_seed(0)
    agrees(tools, kind(shape), (torch.randn(4, *middle, *shape),), 0)


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.GroupNorm(4, 4), nn.InstanceNorm2d(4, affine=True)])
def test_normalisation_over_groups(tools, layer):
    torch.manual_seed(0)
    agrees(tools, nn.Sequential(layer, nn.Flatten()), (torch.randn(4, 4, 3, 3),), 0)


class Attentive(nn.Module):
    def __init__(self, batch_first, need_weights):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.batch_first, self.need_weights = batch_first, need_weights

    def forward(self, inputs):
        steps = inputs.shape[1]
        values = inputs if self.batch_first else inputs.transpose(0, 1)
        mask = torch.ones(steps, steps, dtype=torch.bool).triu(1)
        hidden = self.attention(values, values, values, attn_mask=mask, need_weights=self.need_weights)[0]
        return hidden.mean(1 if self.batch_first else 0)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_with_all_its_projections(tools, batch_first, need_weights):
    torch.manual_seed(0)
    agrees(tools, Attentive(batch_first, need_weights), (torch.randn(4, 3, 8),), 0)


def test_attention_whose_dropout_cannot_be_repeated_is_refused(tools):
    model = Attentive(True, False)
    model.attention.dropout = 0.1
    with pytest.raises(UnsupportedModel, match=r"attention: .*dropout"):
        tools.clipped_sum(model, squared, (torch.randn(4, 3, 8),), 1.0)


class Loose(nn.Module):
    """Parameters of its own, used outside any layer, next to a layer."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.scales = nn.ParameterList([nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))])
        self.inner = nn.Linear(4, 4)

    def forward(self, inputs):
        hidden = torch.cat([self.token.expand(len(inputs), -1, -1), self.inner(inputs)], 1)
        return torch.tanh(hidden * self.scales[0]) * self.scales[1]


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (Loose, (2, 4)),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU(3)), (4,)),
        (lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Flatten()), (2, 3, 3)),
        (lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3))), (4,)),
    ],
    ids=["loose parameters", "PReLU", "transposed convolution", "weight normalisation"],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_layers_without_a_rule_are_run_for_each_record(tools, build, shape):
    torch.manual_seed(0)
    agrees(tools, build(), (torch.randn(4, *shape),), 0)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, inputs):
        return nn.functional.dropout(inputs * self.scale, 0.5)


def test_a_layer_that_cannot_be_run_again_is_refused_by_path(tools):
    with pytest.raises(UnsupportedModel, match=r"1: Noisy has no clipping rule.*random"):
        tools.clipped_sum(nn.Sequential(nn.Linear(4, 4), Noisy()), squared, (torch.randn(4, 4),), 1.0)
