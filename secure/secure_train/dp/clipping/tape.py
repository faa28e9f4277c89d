"""How layers' inputs and the gradients of their outputs are captured, and nothing else is computed.

Each layer that owns trainable parameters gets a *tap* on its output: an autograd function that is the
identity and saves the layer's inputs. The backward pass asks for the gradient of an anchor that every tap,
and nothing else, depends on, so autograd runs the chain from the losses through all taps and never computes
a gradient of a weight. Since the inputs are saved as autograd saves things, `torch.utils.checkpoint`
(non-reentrant) drops and recomputes them as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Use:
    """One call of a layer, after the backward pass has been through it. Private.

    Attributes:
        layer: the module that was called.
        path: its name within the model.
        args: positional arguments, detached.
        kwargs: keyword arguments, detached.
        gradients: of the sum of losses, one for each differentiable tensor of the output; None where none
            arrived.
        outputs: which leaves of the output those tensors are.
        autocast: the dtype of autocast at the call, None if it was off.
    """

    layer: nn.Module
    path: str
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    gradients: tuple[Tensor | None, ...] = field(repr=False)
    outputs: tuple[int, ...] = (0,)
    autocast: torch.dtype | None = None

    @property
    def input(self) -> Tensor:
        """The first argument, for layers that take one tensor."""
        value = self.args[0] if self.args else next(iter(self.kwargs.values()))
        assert isinstance(value, Tensor)  # noqa: S101  (a fact about the layers that call this)
        return value

    @property
    def gradient(self) -> Tensor:
        """The gradient of the output, for layers that return one tensor."""
        value = self.gradients[0]
        assert value is not None  # noqa: S101  (autograd calls a tap of one output only with its gradient)
        return value


class Tape:
    """Records the uses of given layers. Installed until `remove`; idle outside `recording`.

    Args:
        layers: by path.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._on = False
        self._listening = False
        self._anchor = torch.zeros((), requires_grad=True)
        self._uses: list[Use] = []
        self._handles: list[RemovableHandle] = [
            layer.register_forward_hook(self._hook(path), with_kwargs=True) for path, layer in layers.items()
        ]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within this, calls of the layers get taps."""
        self._on = True
        try:
            yield
        finally:
            self._on = False
            self._uses.clear()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within this, layers are called without taps."""
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before

    def uses(self, losses: Tensor, *, keep_graph: bool) -> list[Use]:
        """Run the backward pass of `losses.sum()` through the taps; every use that a gradient reached."""
        self._uses.clear()
        self._listening = True
        try:
            torch.autograd.grad(losses.sum(), [self._anchor], retain_graph=keep_graph, allow_unused=True)
            return list(self._uses)
        finally:
            self._listening = False
            self._uses.clear()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, path: str) -> Callable[..., Any]:
        def tap(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if not self._on:
                return None
            leaves, shape = pytree.tree_flatten(output)
            places = tuple(i for i, leaf in enumerate(leaves) if _differentiable(leaf))
            if not places:
                return None
            call, tensors = _split(self, layer, path, (args, kwargs), places)
            tapped: tuple[Tensor, ...] = _Tap.apply(  # type: ignore[no-untyped-call]
                self._anchor, call, *[leaves[i] for i in places], *tensors
            )
            for place, tensor in zip(places, tapped, strict=True):
                leaves[place] = tensor
            return pytree.tree_unflatten(leaves, shape)

        # A compiled graph would leave out what the backward pass notes: compilation ends before a tap and
        # starts again after it.
        return torch.compiler.disable(tap)  # type: ignore[no-untyped-call, no-any-return]

    def note(self, use: Use) -> None:
        """Called by taps in the backward pass."""
        if self._listening:
            self._uses.append(use)


@dataclass(frozen=True)
class _Call:
    """A call without its tensors, which only autograd may hold: checkpointing has to be able to drop them."""

    tape: Tape
    layer: nn.Module
    path: str
    outputs: tuple[int, ...]
    constants: tuple[Any, ...]
    places: tuple[int, ...]
    shape: pytree.TreeSpec
    autocast: torch.dtype | None

    def use(self, tensors: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]) -> Use:
        leaves = list(self.constants)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.shape)
        return Use(self.layer, self.path, args, kwargs, gradients, self.outputs, self.autocast)


def _split(
    tape: Tape, layer: nn.Module, path: str, arguments: Any, outputs: tuple[int, ...]
) -> tuple[_Call, list[Tensor]]:
    leaves, shape = pytree.tree_flatten(arguments)
    places = tuple(i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
    constants = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves)
    tensors = [leaves[i].detach() for i in places]
    kind = tensors[0].device.type if tensors else "cpu"
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return _Call(tape, layer, path, outputs, constants, places, shape, autocast), tensors


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _anchor: Tensor, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.call = call
        ctx.save_for_backward(*tensors[len(call.outputs) :])
        return tuple(tensor.view_as(tensor) for tensor in tensors[: len(call.outputs)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        saved = ctx.saved_tensors
        if any(gradient is not None for gradient in gradients):
            call.tape.note(call.use(saved, gradients))
        return (None, None, *gradients, *[None] * len(saved))


def _differentiable(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad
