"""A linear layer whose products are computed on ciphertexts, inside an ordinary torch autograd graph."""

from __future__ import annotations

import fnmatch
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from secure_train.ckks.encoding import to_reals
from secure_train.ckks.encryptor import HomoEncryptor
from secure_train.ckks.errors import InvalidInput
from secure_train.ckks.parameters import EncryptedBy
from secure_train.ckks.plan import Limits, plan
from secure_train.ckks.session import EncryptedRows, Session
from secure_train.ckks.workers import Workers


class EncryptedLinear(nn.Module):
    """y = x·Wᵀ + b, where x and the error signal reach the workers encrypted, and W as it is.

    Runs at the custodian. `weight` and `bias` are ordinary parameters of the shapes of `nn.Linear`; b is
    added in the clear. Backward computes the input gradient and the weight gradient, both on ciphertexts. A
    plain `.backward()` leaves the *un-noised* gradient in `.grad`: what may leave the custodian comes from
    `clipping` and `release`.

    Attributes:
        rows: what the last call saw, as the workers have it.
        product: x·Wᵀ of the last call, with its graph.
        signals_only: backward passes error signals on, and leaves the weight gradient out.

    Args:
        session: who encrypts, who multiplies, and the plan; d_in and d_out are the plan's.
        bias: whether there is a b.
    """

    def __init__(self, session: Session, *, bias: bool = True) -> None:
        super().__init__()
        self.session = session
        self.in_features, self.out_features = session.plan.d_in, session.plan.d_out
        self.weight = nn.Parameter(torch.empty(self.out_features, self.in_features))
        self.bias = nn.Parameter(torch.zeros(self.out_features)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.rows: EncryptedRows | None = None
        self.product: Tensor | None = None
        self.signals_only = False

    def forward(self, inputs: Tensor | EncryptedRows) -> Tensor:
        """Activations (..., d_in), or records that were encrypted beforehand, to (..., d_out).

        Raises:
            InvalidInput: the last dimension is not d_in.
        """
        if isinstance(inputs, EncryptedRows):
            rows, leading, plain = inputs, inputs.tensor.header.shape[:1], self.weight.new_empty(0)
            width = inputs.tensor.header.shape[1]
        else:
            leading, width, plain = inputs.shape[:-1], inputs.shape[-1], inputs
        if width != self.in_features:
            raise InvalidInput(f"inputs: have {width} features, the layer takes {self.in_features}")
        if not isinstance(inputs, EncryptedRows):
            flat = inputs.detach().reshape(-1, self.in_features)
            rows = self.session.encrypt(_numbers(flat))
        self.rows = rows
        product: Tensor = _Product.apply(plain, self.weight, rows, self)  # type: ignore[no-untyped-call]
        self.product = product.reshape(*leading, self.out_features)
        return self.product if self.bias is None else self.product + self.bias

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, rows: EncryptedRows, layer: EncryptedLinear
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.rows, ctx.layer, ctx.shape = rows, layer, inputs.shape
        return _tensor(layer.session.forward(rows, _numbers(weight).T), weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (weight,) = ctx.saved_tensors
        layer: EncryptedLinear = ctx.layer
        session = layer.session
        errors = _numbers(gradients[0])
        inputs_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            found = session.forward(session.encrypt(errors), _numbers(weight))
            inputs_gradient = _tensor(found, weight).reshape(ctx.shape)
        if ctx.needs_input_grad[1] and not layer.signals_only:
            integers, bits = session.gradient(ctx.rows, errors)
            weight_gradient = _tensor(to_reals(integers, bits).T, weight)
        return inputs_gradient, weight_gradient, None, None


def encrypt_linear_layers(
    model: nn.Module,
    pattern: str,
    encryptor: HomoEncryptor,
    workers: Workers,
    batch: int,
    *,
    sampling_rate: float = 1.0,
    limits: Limits | None = None,
) -> nn.Module:
    """Replace the `nn.Linear` layers whose dotted names match a pattern (`fnmatch`), keeping their weights.

    Args:
        model: changed in place, and returned.
        pattern: such as "*" or "encoder.*.dense".
        encryptor: the custodian's.
        workers: the compute side.
        batch: rows that a layer sees at once, at most.
        sampling_rate: each record's probability to be in a step.
        limits: public bounds; see `plan`.

    Raises:
        InvalidInput: no linear layer matches.
        ScaleOverflow: a layer has no plan.
    """
    chosen = [
        (name, module)
        for name, module in model.named_modules()
        if type(module) is nn.Linear and name and fnmatch.fnmatchcase(name, pattern)
    ]
    if not chosen:
        raise InvalidInput(f"pattern: {pattern!r} matches no nn.Linear of {type(model).__name__}")
    for name, linear in chosen:
        made = plan(
            linear.in_features,
            linear.out_features,
            batch,
            sampling_rate,
            EncryptedBy.SECRET_KEY,
            limits=limits,
            ring_degree=encryptor.parameters.ring_degree,
            modulus_bits=encryptor.parameters.modulus_bits,
        )
        layer = EncryptedLinear(Session(encryptor, workers, made), bias=linear.bias is not None)
        layer.weight = cast("nn.Parameter", linear.weight)
        layer.register_parameter("bias", linear.bias)
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer)
    return model


def _numbers(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return tensor.detach().double().cpu().numpy()


def _tensor(numbers: np.ndarray[Any, np.dtype[np.float64]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers)).to(like)
