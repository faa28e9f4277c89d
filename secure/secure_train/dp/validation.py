"""Which models per-record clipping is correct for, as far as the structure of a model tells."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize

from secure_train.dp.errors import UnsupportedModel


def check_model(model: nn.Module) -> None:
    """Refuses models whose per-record gradients cannot be clipped correctly; lists every reason at once.

    Refused: batch normalisation in any mode, layers that keep running statistics, layers whose gradient
    depends on other records, re-parametrised weights, in-place activations (they overwrite what the norms
    need), recurrent layers (their gradients cannot be had record by record), parameters of reduced precision
    and wrappers that communicate gradients. The structure does not tell everything; `removal_test` tries the
    model on data.

    Raises:
        UnsupportedModel: one line per reason: module path, what is wrong, what to do.
    """
    problems = [
        f"{path or type(module).__name__}: {problem}"
        for path, module in model.named_modules()
        for problem in _module_problems(module)
    ]
    problems += _parameter_problems(model)
    if problems:
        raise UnsupportedModel(
            f"{type(model).__name__} cannot be trained privately:\n  " + "\n  ".join(problems)
        )


def _module_problems(module: nn.Module) -> list[str]:
    kind = type(module).__name__
    found = []
    if isinstance(module, _BatchNorm):
        found.append(f"{kind} mixes records and keeps their statistics, trainable or frozen; use GroupNorm")
    if isinstance(module, _InstanceNorm) and module.track_running_stats:
        found.append(f"{kind} keeps running statistics; set track_running_stats=False")
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        if module.max_norm is not None:
            found.append(f"{kind} renormalises weights by what the batch looks up; set max_norm=None")
        if module.scale_grad_by_freq:
            found.append(f"{kind} scales gradients by counts over the batch; set scale_grad_by_freq=False")
        if module.sparse:
            found.append(f"{kind} makes sparse gradients, which reveal what was looked up; set sparse=False")
    if isinstance(module, DataParallel | DistributedDataParallel):
        found.append(f"{kind} moves gradients between workers before noise is added; pass the bare module")
    if parametrize.is_parametrized(module):
        found.append(f"{kind} is re-parametrised; remove the parametrisation")
    if getattr(module, "inplace", False) is True:
        found.append(f"{kind} works in place; set inplace=False")
    trainable = any(p.requires_grad for p in module.parameters(recurse=False))
    if trainable and isinstance(module, nn.RNNBase):
        found.append(
            f"{kind} hides its time steps, over which gradients add up; use a recurrent layer made of Linear "
            f"layers, such as opacus.layers.DP{kind}"
        )
    if trainable and not module.training:
        found.append(f"{kind} has trainable parameters but is in evaluation mode; call .train()")
    return found


def _parameter_problems(model: nn.Module) -> list[str]:
    found = []
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trainable:
        found.append("no parameter is trainable; set requires_grad=True on those to train")
    for name, parameter in trainable:
        if parameter.dtype not in (torch.float32, torch.float64):
            found.append(
                f"{name}: is {parameter.dtype}, too coarse for noised updates; call .float(), and use "
                "autocast for speed"
            )
    if len({(p.dtype, p.device) for _, p in trainable}) > 1:
        found.append("parameters have several dtypes or devices; move the model to one of each")
    return found
