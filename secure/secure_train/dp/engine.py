"""Opacus' ghost-clipping hooks, installed with layer rules that this project can vouch for.

Opacus computes each record's gradient norm during a first backward pass without materialising per-record
gradients of Linear and Embedding layers (Li et al., ICLR 2022), and materialises them one layer at a time
elsewhere. What is replaced here, and why:

* Linear norms in Opacus exist for 2-D and 3-D inputs only, and as float32 products that can over- or
  underflow where the gradient itself does not. Here: any number of middle dimensions, accumulated in float64.
* Embedding norms in Opacus count the gradient of the padding row, which autograd leaves at zero.
* LayerNorm gradients in Opacus fail on `bias=False`.
"""

from __future__ import annotations

from typing import Any

import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.grad_sample.embedding_norm_sample import compute_embedding_norm_sample
from opacus.utils.tensor_utils import sum_over_all_but_batch_and_last_n
from torch import Tensor, nn
from torch.nn import functional

from secure_train.dp.errors import UnsupportedModel


def _linear_norms(layer: nn.Linear, activations: list[Tensor], backprops: Tensor) -> dict[Tensor, Tensor]:
    records = backprops.shape[0]
    outputs = backprops.reshape(records, -1, backprops.shape[-1]).double()
    inputs = activations[0].reshape(records, -1, activations[0].shape[-1]).double()
    norms: dict[Tensor, Tensor] = {}
    if layer.weight.requires_grad:
        if outputs.shape[1] == 1:
            squared = outputs.square().sum((1, 2)) * inputs.square().sum((1, 2))
        else:
            squared = ((outputs @ outputs.mT) * (inputs @ inputs.mT)).sum((1, 2))
        norms[layer.weight] = squared.clamp(min=0).sqrt()
    if layer.bias is not None and layer.bias.requires_grad:
        norms[layer.bias] = outputs.sum(1).norm(dim=1)
    return norms


def _embedding_norms(
    layer: nn.Embedding, activations: list[Tensor], backprops: Tensor
) -> dict[Tensor, Tensor]:
    backprops = backprops.double()
    if layer.padding_idx is not None:
        backprops = backprops.masked_fill((activations[0] == layer.padding_idx).unsqueeze(-1), 0)
    return dict(compute_embedding_norm_sample(layer, activations, backprops))


def _layer_norm_gradients(
    layer: nn.LayerNorm, activations: list[Tensor], backprops: Tensor
) -> dict[Tensor, Tensor]:
    gradients: dict[Tensor, Tensor] = {}
    if layer.weight.requires_grad:
        normalised = functional.layer_norm(activations[0], layer.normalized_shape, eps=layer.eps)
        gradients[layer.weight] = sum_over_all_but_batch_and_last_n(
            normalised * backprops, layer.weight.dim()
        )
    if layer.bias is not None and layer.bias.requires_grad:
        gradients[layer.bias] = sum_over_all_but_batch_and_last_n(backprops, layer.bias.dim())
    return gradients


class NormEngine:
    """Records, for one forward and backward pass, the L2 norm of every record's gradient.

    Hooks are installed at construction and removed by `close`. The model must not be wrapped twice.
    """

    def __init__(self, model: nn.Module, max_grad_norm: float) -> None:
        if hasattr(model, "autograd_grad_sample_hooks"):
            raise UnsupportedModel(
                f"{type(model).__name__}: has a clipper already; close that one, or use it"
            )
        self._model = model
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        # Opacus is untyped; strict=True makes it refuse trainable layers with buffers.
        self._hooks: Any = GradSampleModuleFastGradientClipping(
            model, loss_reduction="sum", max_grad_norm=max_grad_norm, strict=True
        )
        self._hooks.NORM_SAMPLERS = {nn.Linear: _linear_norms, nn.Embedding: _embedding_norms}
        self._hooks.GRAD_SAMPLERS = {**self._hooks.GRAD_SAMPLERS, nn.LayerNorm: _layer_norm_gradients}
        self._hooks.disable_hooks()

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's outputs, with the activations kept that the norms need."""
        self._forget()
        self._hooks.enable_hooks()
        try:
            outputs = self._model(inputs)
        except NotImplementedError as error:
            raise UnsupportedModel(
                f"{type(self._model).__name__}: {error}. A layer or parameter is used more than once in one "
                "forward pass; give each use its own layer"
            ) from error
        finally:
            self._hooks.disable_hooks()
        if not isinstance(outputs, Tensor):
            raise UnsupportedModel(
                f"{type(self._model).__name__}: returned {type(outputs).__name__}; return one tensor from "
                "forward"
            )
        return outputs

    def norms(self, losses: Tensor) -> Tensor:
        """Every record's gradient norm over all trainable parameters, shape (B,), float64. Keeps the graph.

        Raises:
            UnsupportedModel: a parameter received a gradient outside the layer that owns it.
        """
        self._hooks.enable_hooks()
        try:
            gradients = torch.autograd.grad(
                losses.sum(), self._parameters, retain_graph=True, allow_unused=True
            )
        finally:
            self._hooks.disable_hooks()
        squared = losses.new_zeros(losses.shape, dtype=torch.float64)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is None:
                continue
            norms = getattr(parameter, "_norm_sample", None)
            if norms is None or norms.shape != losses.shape:
                raise UnsupportedModel(
                    f"{self._name(parameter)}: gets a gradient that its layer does not account for. Use "
                    "parameters only by calling the layer that owns them, once per forward pass and with "
                    "the batch as first dimension; do not tie weights"
                )
            squared += norms.detach().double().square()
        self._forget()
        return squared.sqrt()

    def close(self) -> None:
        """Removes every hook and attribute that was added to the model."""
        self._forget()
        self._hooks.cleanup()

    def _forget(self) -> None:
        """Drops what an earlier, perhaps interrupted, pass left: stale norms would be taken for new ones."""
        for module in self._model.modules():
            for attribute in ("activations", "max_batch_len"):
                module.__dict__.pop(attribute, None)
        for parameter in self._parameters:
            parameter.__dict__.update(grad_sample=None, _forward_counter=0)
            for attribute in ("_norm_sample", "_current_grad_sample"):
                parameter.__dict__.pop(attribute, None)

    def _name(self, parameter: Tensor) -> str:
        return next(name for name, candidate in self._model.named_parameters() if candidate is parameter)
