"""Look-up tables."""

from __future__ import annotations

from torch import nn

from secure_train.dp.clipping.factors import Factor, Lookup
from secure_train.dp.clipping.tape import Use


def embedding(use: Use) -> dict[str, Factor]:
    """torch.nn.Embedding; the padding row gets no gradient, as in autograd."""
    layer, index = use.layer, use.input
    assert isinstance(layer, nn.Embedding)  # noqa: S101  (how rules are chosen)
    records = index.shape[0]
    gradient = use.gradient
    if layer.padding_idx is not None:
        gradient = gradient.masked_fill((index == layer.padding_idx).unsqueeze(-1), 0)
    flat = gradient.reshape(records, -1, gradient.shape[-1])
    return {"weight": Lookup(index.reshape(records, -1), flat, layer.num_embeddings)}
