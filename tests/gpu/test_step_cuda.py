"""A private step on the GPU clips as the CPU does."""

from __future__ import annotations

import pytest
import torch

from peers.rows import ON_CPU, losses
from secure_train.dp import Clipper, GaussianNoise, PerformanceFlags, PrivacySpec, PrivateStep

KEY = bytes(range(32))


def clipped(row, device, records=6, **options):
    model = row.build().to(device)
    torch.manual_seed(1)
    batch = tuple(part.to(device) for part in row.batch(records))
    with Clipper(model, 0.5, flags=PerformanceFlags(physical_batch_size=4), **options) as clipper:
        total = clipper.sum(losses, batch)
    return torch.cat([part.flatten().double().cpu() for part in total.gradients.values()])


@pytest.mark.parametrize("name", ON_CPU)
def test_the_clipped_sum_is_the_cpus(name):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_cpu, on_gpu = clipped(ON_CPU[name], "cpu"), clipped(ON_CPU[name], "cuda")
    assert float((on_cpu - on_gpu).norm() / on_cpu.norm()) < 1e-4


def test_under_autocast_no_sum_is_longer_than_its_records_allow():
    with torch.autocast("cuda", torch.bfloat16):
        for name in ("minilm", "minilm_lora"):
            assert float(clipped(ON_CPU[name], "cuda", records=1).norm()) <= 0.5 * (1 + 1e-4)


def test_a_step_on_the_gpu_moves_the_weights_by_noise_of_the_accounted_deviation():
    model = torch.nn.Linear(300, 200).cuda()
    before = model.weight.detach().clone()
    step = PrivateStep(
        model,
        torch.optim.SGD(model.parameters(), lr=1.0),
        losses,
        PrivacySpec(noise_multiplier=2.0, max_grad_norm=0.5, expected_batch_size=10),
        GaussianNoise(KEY, 0, 1),
    )
    step.step((torch.empty(0, 300).cuda(), torch.empty(0, dtype=torch.int64).cuda()), 0, 0)
    moved = (before - model.weight.detach()) * 10
    assert float(moved.std()) == pytest.approx(1.0, rel=0.02)
