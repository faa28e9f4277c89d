"""The engine on a CUDA device: exact in float32, within the bound at reduced precision."""

from __future__ import annotations

import pytest
import torch

from secure_train.dp import Clipper


def on_device(case):
    model, *batch = case
    return model.cuda(), tuple(tensor.cuda() for tensor in batch)


def test_sums_are_those_of_one_record_at_a_time(case, tools):
    model, batch = on_device(case)
    with torch.backends.cudnn.flags(allow_tf32=False):
        expected = tools.naive_clipped_sum(model, tools.losses, batch, 0.1)
        for limit in (0, 1 << 28):
            clipped = tools.clipped_sum(model, tools.losses, batch, 0.1, instantiate_limit_bytes=limit)
            assert tools.difference(clipped, expected) <= 1e-5


@pytest.mark.parametrize("limit", [0, 1 << 28])
def test_under_autocast_no_record_exceeds_the_clipping_norm(case, tools, limit):
    model, batch = on_device(case)

    def losses(model, batch):
        with torch.autocast("cuda", torch.bfloat16):
            outputs = model(batch[0])
        return tools.cross_entropy(outputs.float(), batch[1])

    expected = tools.naive_clipped_sum(model, losses, batch, 0.01)
    clipped = tools.clipped_sum(model, losses, batch, 0.01, instantiate_limit_bytes=limit)
    assert tools.difference(clipped, expected) <= 0.05
    with Clipper(model, 0.01) as clipper:
        for index in range(len(batch[1])):
            one = tuple(tensor[index : index + 1] for tensor in batch)
            assert 0.0095 <= tools.norm(clipper.sum(losses, one).gradients) <= 0.01 * (1 + 1e-4)


def test_tf32_lowers_weights_instead_of_breaking_the_bound(case, tools):
    model, batch = on_device(case)
    torch.set_float32_matmul_precision("high")
    try:
        with Clipper(model, 0.01) as clipper:
            for index in range(len(batch[1])):
                one = tuple(tensor[index : index + 1] for tensor in batch)
                assert tools.norm(clipper.sum(tools.losses, one).gradients) <= 0.01 * (1 + 1e-4)
    finally:
        torch.set_float32_matmul_precision("highest")
