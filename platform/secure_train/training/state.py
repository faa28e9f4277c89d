"""The whole state of training at a step, as tensors and JSON, and back.

Sampling and noise are pure functions of the step, so the position is all there is to keep of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from secure_train.blocks import Stored
from secure_train.dp import PrivateStep
from secure_train.spec import Adam, Sgd
from secure_train.training.collective import fingerprint
from secure_train.training.errors import TrainingError
from secure_train.training.failures import PermanentFailure

KIND = "checkpoint"
_MODEL, _OPTIMIZER = "model/", "optimizer/"


@dataclass(frozen=True)
class Snapshot:
    """A copy in CPU memory that training does not change any more.

    Attributes:
        step: steps done.
        noise_epoch: in which the last of them was done.
        state_digest: identifies everything that can become durable of this step: SHA-256, hexadecimal, over
            noise epoch, step, weights and optimizer state. Equal digests mean that what escaped is equal.
        tensors: weights and optimizer state, by name.
        meta: what else a checkpoint holds.
    """

    step: int
    noise_epoch: int
    state_digest: str
    tensors: dict[str, Tensor]
    meta: dict[str, JsonValue]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's ``state_dict``."""
        return {
            name.removeprefix(_MODEL): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(_MODEL)
        }


def state_digest(tensors: Mapping[str, Tensor], step: int, noise_epoch: int) -> str:
    """SHA-256 over (noise epoch, step, fingerprint of the tensors), integers as 8 bytes big endian."""
    position = noise_epoch.to_bytes(8, "big") + step.to_bytes(8, "big")
    return hashlib.sha256(position + fingerprint(tensors)).hexdigest()


def make_optimizer(spec: Adam | Sgd, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the job asks for, over the trainable parameters."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if isinstance(spec, Adam):
        return torch.optim.Adam(
            parameters,
            lr=spec.learning_rate,
            betas=(spec.beta1, spec.beta2),
            eps=spec.eps,
            weight_decay=spec.weight_decay,
        )
    return torch.optim.SGD(
        parameters, lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay
    )


class TrainingState:
    """Model, optimizer and private step of one worker. The same on all ranks at every step."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, stepper: PrivateStep) -> None:
        self.model = model
        self._optimizer = optimizer
        self._stepper = stepper
        self._trained = {
            _MODEL + name
            for name, parameter in model.named_parameters(remove_duplicate=False)
            if parameter.requires_grad
        }
        self._untrained = fingerprint(self._not_trained(self.tensors()))

    def snapshot(self, step: int, noise_epoch: int) -> Snapshot:
        """Copy everything as it is after ``step`` steps.

        Raises:
            PermanentFailure: something other than noised updates has changed the model.
        """
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.tensors().items()}
        if fingerprint(self._not_trained(tensors)) != self._untrained:
            raise PermanentFailure(
                "the model changed a buffer or a frozen parameter of its own: what it holds now is not "
                "protected by noise. Remove state that is kept between batches"
            )
        digest = state_digest(tensors, step, noise_epoch)
        return Snapshot(
            step=step,
            noise_epoch=noise_epoch,
            state_digest=digest,
            tensors=tensors,
            meta={"step": step, "noise_epoch": noise_epoch, "state_digest": digest},
        )

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer state, by name; not copied."""
        found: dict[str, Tensor] = {_MODEL + name: tensor for name, tensor in self.model.state_dict().items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if not isinstance(value, Tensor):
                    raise TrainingError(
                        f"optimizer state {name!r} is not a tensor and cannot be checkpointed"
                    )
                found[f"{_OPTIMIZER}{index}/{name}"] = value
        return found

    def _not_trained(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: tensor
            for name, tensor in tensors.items()
            if name.startswith(_MODEL) and name not in self._trained
        }

    def load(self, stored: Stored) -> None:
        """Take over a checkpoint. What the specification says (such as the learning rate) is not in it."""
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in stored.tensors.items():
            if name.startswith(_MODEL):
                weights[name.removeprefix(_MODEL)] = tensor
            else:
                index, _, field = name.removeprefix(_OPTIMIZER).partition("/")
                moments.setdefault(int(index), {})[field] = tensor
        self.model.load_state_dict(weights)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._stepper.load_state_dict(_position(stored.meta))


def _position(meta: Mapping[str, JsonValue]) -> dict[str, object]:
    step, noise_epoch = _integer(meta["step"]), _integer(meta["noise_epoch"])
    return {"last": [noise_epoch, step - 1]}


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TrainingError(f"a checkpoint's position is {type(value).__name__}, not an integer")
    return value
