"""The models a job can train."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, ValidationInfo, field_validator

from secure_train.spec.base import MAX_EXACT_INTEGER, Dimension, SpecModel, refusal

Activation = Literal["tanh", "relu", "gelu", "silu", "sigmoid"]
MAX_WEIGHTS = 1_000_000_000
MAX_PARAMETER_DEPTH = 16


def _refuse_giants(weights: int) -> None:
    if weights > MAX_WEIGHTS:
        raise refusal(
            f"makes a model of at least {weights:,} weights",
            allowed=f"at most {MAX_WEIGHTS:,} weights",
            hint="check the layer sizes for a typo; use kind `entrypoint` for a model this large",
        )


def _dense_weights(sizes: Iterable[int]) -> int:
    return sum(a * b for a, b in pairwise(sizes))


class LinearModel(SpecModel):
    """One linear layer: linear or logistic regression, by the task of the dataset."""

    kind: Literal["linear"] = Field(description="Linear or logistic regression.")


class MlpModel(SpecModel):
    """Fully connected layers, each followed by the activation, then a linear output layer."""

    kind: Literal["mlp"] = Field(description="Multi-layer perceptron.")
    hidden: Annotated[tuple[Dimension, ...], Field(strict=False, min_length=1, max_length=64)] = Field(
        description="Width of each hidden layer."
    )
    activation: Activation = Field(
        default="tanh",
        description="After each hidden layer; bounded ones such as tanh usually suit clipped gradients best.",
    )

    @field_validator("hidden")
    @classmethod
    def _affordable(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        _refuse_giants(_dense_weights(value))
        return value


class CnnModel(SpecModel):
    """Convolutions (stride 1, padding that keeps the size), each followed by the activation and max-pooling.

    A record's encoded features, in column order, are read as one image of `inputShape` in row-major order.
    """

    kind: Literal["cnn"] = Field(description="Convolutional network over image-shaped records.")
    input_shape: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], Dimension, Dimension], Field(strict=False)
    ] = Field(description="Channels, height and width; their product is the dataset's encoded width.")
    channels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(strict=False, min_length=1, max_length=32)
    ] = Field(description="Output channels of each convolution.")
    kernel_size: Literal[1, 3, 5, 7, 9, 11] = Field(
        default=3, description="Height and width of every convolution kernel."
    )
    pool: int = Field(
        default=2,
        ge=1,
        le=16,
        validate_default=True,
        description="Max-pooling window and stride after each convolution; 1 pools nothing.",
    )
    hidden: Annotated[tuple[Dimension, ...], Field(strict=False, max_length=64)] = Field(
        default=(),
        validate_default=True,
        description="Width of each fully connected layer between the convolutions and the output.",
    )
    activation: Activation = Field(
        default="tanh", description="After each convolution and each hidden layer."
    )

    @field_validator("pool")
    @classmethod
    def _something_remains(cls, value: int, info: ValidationInfo) -> int:
        shape, channels = info.data.get("input_shape"), info.data.get("channels")
        if shape and channels and min(shape[1:]) < value ** len(channels):
            raise refusal(
                f"pools an image of {shape[1]} x {shape[2]} away in {len(channels)} convolutions",
                allowed="pool ** number of convolutions at most the smaller side of inputShape",
                hint="lower `pool` or remove entries of `channels`",
            )
        return value

    @field_validator("hidden")
    @classmethod
    def _affordable(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        known = info.data
        if {"input_shape", "channels", "kernel_size", "pool"} <= known.keys():
            shape, channels = known["input_shape"], known["channels"]
            kernels = _dense_weights((shape[0], *channels)) * known["kernel_size"] ** 2
            shrink = known["pool"] ** len(channels)
            flat = channels[-1] * (shape[1] // shrink) * (shape[2] // shrink)
            _refuse_giants(kernels + _dense_weights((flat, *value)))
        return value


class EntrypointModel(SpecModel):
    """The author's own model: a factory that is called in every worker and returns a `torch.nn.Module`."""

    kind: Literal["entrypoint"] = Field(description="A model factory in the author's own code.")
    entrypoint: Annotated[
        str,
        StringConstraints(
            max_length=256,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
        ),
    ] = Field(
        description="Factory as `package.module:function`.",
        json_schema_extra={"x-allowed": "module:function, with dots between packages"},
    )
    working_dir: Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f\\]+$")] = Field(
        default=".",
        description="Folder of code that is packed and sent, relative to the job file.",
        json_schema_extra={"x-allowed": "a relative path with forward slashes"},
    )
    parameters: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=256,
        description="Keyword arguments of the factory: JSON values.",
    )

    @field_validator("working_dir")
    @classmethod
    def _relative(cls, value: str) -> str:
        if PurePosixPath(value).is_absolute():
            raise refusal(
                "is an absolute path",
                allowed="a path relative to the job file",
                hint="write it relative to the job file, so that the job means the same on every machine",
            )
        return value

    @field_validator("parameters")
    @classmethod
    def _exact_json(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return {key: exact_json(item, (key,)) for key, item in value.items()}


def exact_json(value: JsonValue, at: tuple[str | int, ...]) -> JsonValue:
    """The value, with integers beyond the range that JSON holds exactly as floats of the same digits."""
    if len(at) > MAX_PARAMETER_DEPTH:
        raise refusal(
            "is nested too deeply",
            allowed=f"at most {MAX_PARAMETER_DEPTH} levels",
            hint="flatten the parameters",
            at=at,
        )
    if isinstance(value, dict):
        return {key: exact_json(item, (*at, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [exact_json(item, (*at, index)) for index, item in enumerate(value)]
    if isinstance(value, int) and abs(value) > MAX_EXACT_INTEGER:
        # RFC 8785 writes the float 6e16 without point or exponent: what reads like that is that float.
        if abs(value) < 10**21 and Decimal(repr(float(value))) == value:
            return float(value)
        raise refusal(
            "cannot be held exactly by JSON",
            allowed=f"integers from {-MAX_EXACT_INTEGER} to {MAX_EXACT_INTEGER}",
            hint="write it as a string and convert it in the factory",
            at=at,
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise refusal("is not a finite number", allowed="a finite number", hint="remove it", at=at)
    return value


ModelSpec = Annotated[
    LinearModel | MlpModel | CnnModel | EntrypointModel,
    Field(discriminator="kind"),
]
