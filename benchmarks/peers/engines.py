"""The ways to take a step that are compared, each with plain SGD as optimizer.

Ours is all of `PrivateStep`: clipping, keyed noise and update. Opacus' are its hooks, ExpandedWeights and
functorch modes and its ghost clipping, with its own noise. fastDP takes part where it can be imported
(it is not on PyPI: check out awslabs/fast-differential-privacy and put it on PYTHONPATH).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import secrets
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from peers.rows import Batch, Row, losses

CLIP, SIGMA, RATE = 1.0, 1.0, 1e-3
Step = Callable[[Batch], None]


def plain(model: nn.Module, row: Row) -> Step:
    """Ordinary training."""
    optimizer = torch.optim.SGD(_trainable(model), lr=RATE)

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with _precision(row, batch):
            loss = losses(model, batch).mean()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def ours(model: nn.Module, row: Row) -> Step:
    """`secure_train.dp.PrivateStep`."""
    from secure_train.dp import GaussianNoise, PerformanceFlags, PrivacySpec, PrivateStep

    private = PrivateStep(
        model,
        torch.optim.SGD(_trainable(model), lr=RATE),
        losses,
        PrivacySpec(noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=row.records),
        GaussianNoise(secrets.token_bytes(32), rank=0, world_size=1),
        PerformanceFlags(physical_batch_size=row.records),
    )
    positions = iter(range(1_000_000))

    def step(batch: Batch) -> None:
        with _precision(row, batch):
            private.step(batch, epoch=0, step=next(positions))

    return step


def _opacus(mode: str) -> Callable[[nn.Module, Row], Step]:
    def make(model: nn.Module, row: Row) -> Step:
        from opacus.grad_sample import GradSampleModule, GradSampleModuleExpandedWeights
        from opacus.optimizers import DPOptimizer

        if mode == "ew":
            wrapped = GradSampleModuleExpandedWeights(model)
        else:
            wrapped = GradSampleModule(model, force_functorch=mode == "functorch")
        inner = torch.optim.SGD(_trainable(model), lr=RATE)
        optimizer = DPOptimizer(
            inner, noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=row.records
        )

        def step(batch: Batch) -> None:
            optimizer.zero_grad(set_to_none=True)
            with _precision(row, batch):
                loss = losses(wrapped, batch).mean()
            torch.autograd.backward(loss)
            optimizer.step()

        return step

    return make


def opacus_ghost(model: nn.Module, row: Row) -> Step:
    """Opacus' ghost clipping: two backward passes, no per-sample gradients of linear layers."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=CLIP, use_ghost_clipping=True)
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(_trainable(model), lr=RATE),
        noise_multiplier=SIGMA,
        max_grad_norm=CLIP,
        expected_batch_size=row.records,
    )
    criterion = DPLossFastGradientClipping(wrapped, optimizer, nn.CrossEntropyLoss(reduction="mean"))

    def step(batch: Batch) -> None:
        inputs, targets = batch
        optimizer.zero_grad(set_to_none=True)
        with _precision(row, batch):
            loss = criterion(wrapped(inputs).float(), targets)
        loss.backward()
        optimizer.step()

    return step


def fastdp(model: nn.Module, row: Row) -> Step:
    """fastDP's hybrid book-keeping."""
    from fastDP import PrivacyEngine

    optimizer = torch.optim.SGD(_trainable(model), lr=RATE)
    with contextlib.redirect_stdout(io.StringIO()):
        engine = PrivacyEngine(
            model,
            batch_size=row.records,
            sample_size=100 * row.records,
            num_steps=100,
            noise_multiplier=SIGMA,
            max_grad_norm=CLIP,
            clipping_fn="Abadi",
            clipping_mode="MixOpt",
            origin_params=None,
        )
        engine.attach(optimizer)

    def step(batch: Batch) -> None:
        with _precision(row, batch):
            loss = losses(model, batch).mean()
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return step


PEERS: dict[str, Callable[[nn.Module, Row], Step]] = {
    "opacus_hooks": _opacus("hooks"),
    "opacus_ew": _opacus("ew"),
    "opacus_functorch": _opacus("functorch"),
    "opacus_ghost": opacus_ghost,
    **({"fastdp": fastdp} if importlib.util.find_spec("fastDP") else {}),
}
ENGINES: dict[str, Callable[[nn.Module, Row], Step]] = {"plain": plain, "ours": ours, **PEERS}


def start(name: str, row: Row, device: torch.device) -> Step:
    """Build the row's model on a device and an engine's step for it. Raises whatever the engine raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ENGINES[name](row.build().to(device), row)


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@contextlib.contextmanager
def _precision(row: Row, batch: Batch) -> Iterator[None]:
    if row.autocast:
        with torch.autocast(batch[0].device.type, torch.bfloat16):
            yield
    else:
        yield
