"""From a job's `model` section to a torch module whose initial weights depend on the public seed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from secure_train.spec import CnnModel, EntrypointModel, LinearModel, MlpModel, ModelSpec
from secure_train.training.entrypoint import load_factory
from secure_train.training.errors import ModelError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


def build_model(
    spec: ModelSpec, in_features: int, out_features: int, seed: int, *, code: Path | None = None
) -> nn.Module:
    """Build the model: float32 (rows, ``in_features``) to float32 (rows, ``out_features``).

    The same arguments give the same weights in every process, and the global random state stays as it was.

    Args:
        spec: the job's `model` section.
        in_features: ``DatasetSchema.encoded_width()``.
        out_features: ``Task.outputs``.
        seed: public seed of the initial weights.
        code: the unpacked working directory; needed by, and only by, kind ``entrypoint``.

    Raises:
        ModelError: the model does not fit the dataset, or the author's code is at fault.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(spec, EntrypointModel):
            model = _from_entrypoint(spec, in_features, out_features, code)
        elif isinstance(spec, CnnModel):
            model = _cnn(spec, in_features, out_features)
        else:
            model = _dense(spec, in_features, out_features)
    _check_shape(model, in_features, out_features)
    return model


def _dense(spec: LinearModel | MlpModel, in_features: int, out_features: int) -> nn.Module:
    if isinstance(spec, LinearModel):
        return nn.Linear(in_features, out_features)
    return nn.Sequential(*_layers(in_features, spec.hidden, out_features, ACTIVATIONS[spec.activation]))


def _cnn(spec: CnnModel, in_features: int, out_features: int) -> nn.Module:
    channels, height, width = spec.input_shape
    if channels * height * width != in_features:
        raise ModelError(
            f"model.inputShape {list(spec.input_shape)} has {channels * height * width} values, but the "
            f"dataset's features encode to {in_features}: make their product {in_features}"
        )
    activation = ACTIVATIONS[spec.activation]
    layers: list[nn.Module] = [nn.Unflatten(1, spec.input_shape)]
    for size in spec.channels:
        layers += [nn.Conv2d(channels, size, spec.kernel_size, padding=spec.kernel_size // 2), activation()]
        if spec.pool > 1:
            layers.append(nn.MaxPool2d(spec.pool))
        channels, height, width = size, height // spec.pool, width // spec.pool
    layers.append(nn.Flatten())
    return nn.Sequential(*layers, *_layers(channels * height * width, spec.hidden, out_features, activation))


def _layers(
    size: int, hidden: Sequence[int], out_features: int, activation: Callable[[], nn.Module]
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(size, width), activation()]
        size = width
    return [*layers, nn.Linear(size, out_features)]


def _from_entrypoint(
    spec: EntrypointModel, in_features: int, out_features: int, code: Path | None
) -> nn.Module:
    if code is None:
        raise ModelError(
            f"model.entrypoint {spec.entrypoint!r} needs the job's working directory to run from"
        )
    factory = load_factory(spec.entrypoint, code)
    model = factory(in_features=in_features, out_features=out_features, **spec.parameters)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model.entrypoint {spec.entrypoint!r} returned {type(model).__name__}: return a torch.nn.Module"
        )
    return model.float()


def _check_shape(model: nn.Module, in_features: int, out_features: int) -> None:
    """Run two all-zero rows through the model, so that a wrong shape is found before any record is read."""
    was_training = model.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        outputs = model.eval()(torch.zeros(2, in_features))
    model.train(was_training)
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != (2, out_features):
        raise ModelError(
            f"the model turns (2, {in_features}) inputs into {shape}; the dataset's target needs "
            f"(2, {out_features})"
        )
