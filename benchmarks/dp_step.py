"""What a private step costs: ours, plain SGD and Opacus' per-sample-gradient mode, side by side in one run.

A 784-512-256-10 perceptron on batches of 512 synthetic records. Ours is all of `PrivateStep`: clipping, keyed
noise, digest and update. Opacus is its hooks mode with `DPOptimizer`, which holds every record's gradient in
memory (1.1 GB here). The three take turns, step by step, so that whatever else the machine does hits all of
them; the median of each is compared.

Run ``python benchmarks/dp_step.py [--quick] [-o json]``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional

from secure_train.dp import GaussianNoise, PrivateStep

BATCH, CLIP, SIGMA, RATE = 512, 1.0, 1.0, 0.05
Step = Callable[[Tensor, Tensor], None]


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def plain() -> Step:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step(inputs: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(functional.cross_entropy(model(inputs), targets))
        optimizer.step()

    return step


def opacus() -> Step:
    model = GradSampleModule(perceptron())
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=RATE),
        noise_multiplier=SIGMA,
        max_grad_norm=CLIP,
        expected_batch_size=BATCH,
    )

    def step(inputs: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(functional.cross_entropy(model(inputs), targets))
        optimizer.step()

    return step


def ours() -> Step:
    model = perceptron()
    private = PrivateStep(
        model,
        torch.optim.SGD(model.parameters(), lr=RATE),
        lambda outputs, targets: functional.cross_entropy(outputs, targets, reduction="none"),
        max_grad_norm=CLIP,
        noise_multiplier=SIGMA,
        expected_batch_size=BATCH,
        noise=GaussianNoise(secrets.token_bytes(32), rank=0, world_size=1),
        physical_batch_size=BATCH,
    )
    position = iter(range(1_000_000))

    def step(inputs: Tensor, targets: Tensor) -> None:
        private.step(inputs, targets, epoch=0, step=next(position))

    return step


def measure(quick: bool) -> dict[str, float]:
    steps = {"plain": plain(), "opacus": opacus(), "ours": ours()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    warm_up, rounds = (1, 5) if quick else (3, 20)
    for turn in range(warm_up + rounds):
        inputs, targets = torch.randn(BATCH, 784), torch.randint(0, 10, (BATCH,))
        for name, step in steps.items():
            start = time.perf_counter()
            step(inputs, targets)
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "mlp.plain_ms": 1e3 * median["plain"],
        "mlp.opacus_ms": 1e3 * median["opacus"],
        "mlp.ours_ms": 1e3 * median["ours"],
        "mlp.ours_over_plain": median["ours"] / median["plain"],
        "mlp.opacus_over_ours": median["opacus"] / median["ours"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds, rougher figures")
    parser.add_argument("-o", choices=["text", "json"], default="text", help="json: only the last line")
    arguments = parser.parse_args()
    # Torch remarks on Opacus' hooks at the first layer of every model.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    figures = {name: round(value, 4) for name, value in measure(arguments.quick).items()}
    if arguments.o == "text":
        for name, value in figures.items():
            print(f"{name:24} {value:10.3f}")
    sys.stdout.write(
        json.dumps({"benchmark": "dp_step", "quick": arguments.quick, "figures": figures}) + "\n"
    )


if __name__ == "__main__":
    main()
