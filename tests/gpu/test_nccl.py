"""Two workers on two GPUs release the sum of their clipped gradients, and the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from peers.rows import ON_CPU, losses
from secure_train.dp import GaussianNoise, PrivacySpec, PrivateStep

KEY = bytes(range(32))
SIGMA, CLIP, EXPECTED = 1e-3, 0.5, 8


def stepped(model, batch, noise, **options):
    """The weights after a step, flat, on the CPU."""
    private = PrivateStep(
        model,
        torch.optim.SGD(model.parameters(), lr=1.0),
        losses,
        PrivacySpec(noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=EXPECTED),
        noise,
        **options,
    )
    private.step(batch, 0, 0)
    return torch.cat([p.detach().double().cpu().flatten() for p in model.parameters()])


def batch_of(rank):
    torch.manual_seed(rank)
    return tuple(part.cuda(rank % torch.cuda.device_count()) for part in ON_CPU["mlp"].batch(4 + rank))


def worker(rank, folder):
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    model = torch.nn.parallel.DistributedDataParallel(ON_CPU["mlp"].build().cuda(), device_ids=[rank])
    weights = stepped(model, batch_of(rank), GaussianNoise(KEY, rank, 2))
    torch.save(weights, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_ddp_on_nccl_releases_the_sum_over_workers(tmp_path):
    workers = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait() for process in workers] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first, second)
    start = torch.cat([p.detach().double().flatten() for p in ON_CPU["mlp"].build().parameters()])
    alone = sum(
        stepped(ON_CPU["mlp"].build().cuda(), batch_of(r), GaussianNoise(KEY, 0, 1)) - start for r in range(2)
    )
    moved = first - start
    # Noise aside (three independent draws of σC/8), the move is the sum of what each batch gives alone.
    assert float((moved - alone).std()) < 3 * SIGMA * CLIP / EXPECTED
    assert float(moved.norm()) > 0.5 * CLIP / EXPECTED


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
