"""Clipped gradient sums of models with encrypted layers, without per-record gradients.

For a linear layer a record's gradient is Σ_t x_t·d_tᵀ over its positions t (one, unless it is a sequence), so
its squared norm is Σ_{t,u} ⟨x_t,x_u⟩·⟨d_t,d_u⟩ and the custodian knows it. The record's factor
c = min(1, C/norm), with the norm over all layers, is multiplied into its error signals before they are
encrypted. Clipping costs no operation on ciphertexts.

Where only an upper bound of |x_t| is known (pooled owners), Σ_t |x_t|·|d_t| takes the norm's place: never
less than the norm, so sensitivity is still at most C.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from secure_train.ckks.encoding import Reals
from secure_train.ckks.errors import InvalidInput
from secure_train.ckks.layer import EncryptedLinear
from secure_train.ckks.packing import Integers
from secure_train.ckks.release import BIAS_BITS


@dataclass(frozen=True, slots=True)
class ClippedGradient:
    """One parameter's clipped sum. Private: for `release` only.

    Attributes:
        integers: in units of 2^-scale_bits; weights as (d_in, d_out), biases as (d_out,).
        scale_bits: of the integers.
    """

    integers: Integers = field(repr=False)
    scale_bits: int


def clipped_gradients(model: nn.Module, losses: Tensor, clip: float) -> dict[str, ClippedGradient]:
    """Sum every record's gradient, clipped to norm C over all parameters together.

    A record whose loss or gradient is not finite contributes exactly zero.

    Args:
        model: all its trainable parameters belong to `EncryptedLinear` layers, each called once for `losses`.
        losses: shape (B,), one for each record, with the graph that made them.
        clip: C, public.

    Returns:
        By parameter name.

    Raises:
        InvalidInput: the model has other trainable parameters, or a layer was not part of the forward pass.
    """
    if not (math.isfinite(clip) and clip > 0):
        raise InvalidInput(f"clip: must be positive and finite, got {clip!r}")
    layers = _layers(model)
    products = [_product(name, layer) for name, layer in layers.items()]
    usable = losses.detach().isfinite()
    # Zero times NaN is NaN: what is not finite is left out of the sum rather than weighted.
    with _signals_only(layers):
        errors = torch.autograd.grad(losses[usable].sum(), products, allow_unused=True)
    records = losses.shape[0]
    signals = {
        name: _signals(name, error, product, records)
        for (name, error), product in zip(zip(layers, errors, strict=True), products, strict=True)
    }
    squared = np.zeros(records)
    for name, layer in layers.items():
        squared += _squared_norms(layer, signals[name], clip)
    norms = np.sqrt(squared)
    kept = usable.cpu().numpy() & np.isfinite(norms)
    weights = np.where(kept, np.minimum(1.0, clip / np.maximum(norms, np.finfo(np.float64).tiny)), 0.0)
    gradients: dict[str, ClippedGradient] = {}
    for name, layer in layers.items():
        scaled = np.where(kept[:, None, None], signals[name] * weights[:, None, None], 0.0)
        flat = scaled.reshape(-1, layer.out_features)
        rows = layer.rows
        if layer.weight.requires_grad and rows is not None:
            # A number of the sum is at most C for a record, and a record is one row or more of them.
            integers, bits = layer.session.gradient(rows, flat, clip)
            gradients[f"{name}.weight"] = ClippedGradient(integers, bits)
        if layer.bias is not None and layer.bias.requires_grad:
            total = np.rint(np.ldexp(flat.sum(axis=0), BIAS_BITS)).astype(np.int64)
            gradients[f"{name}.bias"] = ClippedGradient(total, BIAS_BITS)
    return gradients


@contextmanager
def _signals_only(layers: dict[str, EncryptedLinear]) -> Iterator[None]:
    """Autograd would compute every layer's un-clipped weight gradient, on ciphertexts, for nothing."""
    for layer in layers.values():
        layer.signals_only = True
    try:
        yield
    finally:
        for layer in layers.values():
            layer.signals_only = False


def _layers(model: nn.Module) -> dict[str, EncryptedLinear]:
    layers = {name: module for name, module in model.named_modules() if isinstance(module, EncryptedLinear)}
    owned = {id(parameter) for layer in layers.values() for parameter in layer.parameters(recurse=False)}
    others = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in owned]
    if others or not layers:
        names = ", ".join(others) or "nothing"
        raise InvalidInput(
            f"{type(model).__name__}: {names} is trainable and in no encrypted layer; "
            "set requires_grad=False, or encrypt the layer"
        )
    if len(owned) != sum(len(list(layer.parameters(recurse=False))) for layer in layers.values()):
        raise InvalidInput(f"{type(model).__name__}: two layers share a parameter; give each its own")
    return layers


def _product(name: str, layer: EncryptedLinear) -> Tensor:
    if layer.product is None or not layer.product.requires_grad:
        raise InvalidInput(f"{name}: was not called for these losses, or under no_grad")
    return layer.product


def _signals(name: str, error: Tensor | None, product: Tensor, records: int) -> Reals:
    """Error signals as (B, positions, d_out)."""
    if product.shape[0] != records:
        raise InvalidInput(f"{name}: saw {product.shape[0]} records, there are {records} losses")
    found = torch.zeros_like(product) if error is None else error
    return found.detach().double().cpu().numpy().reshape(records, -1, product.shape[-1])


def _squared_norms(layer: EncryptedLinear, signals: Reals, clip: float) -> Reals:
    """Upper bounds of each record's squared gradient norm in a layer, such that error signals fit too.

    After clipping, an error signal times its row's factor is at most D, the plan's bound, because the norm
    counts as at least (C/D)·factor·|d_t|.
    """
    rows = layer.rows
    if rows is None:
        raise InvalidInput("the layer holds no rows: call the model first")
    records, positions, _ = signals.shape
    lengths = np.linalg.norm(signals, axis=2)
    norms = rows.norms.reshape(records, positions)
    factors = rows.factors.reshape(records, positions)
    # |Σ x_t d_tᵀ| <= Σ |x_t||d_t|, with equality where there is one position.
    upper = (norms * lengths).sum(axis=1)
    if rows.values is not None and positions > 1:
        inputs = rows.values.reshape(records, positions, -1)
        ghost = (inputs @ inputs.swapaxes(1, 2)) * (signals @ signals.swapaxes(1, 2))
        upper = np.sqrt(np.maximum(ghost.sum(axis=(1, 2)), 0.0))
    floor = (clip / layer.session.plan.limits.errors) * (factors * lengths).max(axis=1, initial=0.0)
    squared: Reals = np.maximum(upper, floor) ** 2
    if layer.bias is not None and layer.bias.requires_grad:
        squared = squared + np.square(signals.sum(axis=1)).sum(axis=1)
    return squared
