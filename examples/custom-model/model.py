"""A model of one's own: a gated residual network for rows of features.

`secure-train submit` packs this folder and sends it; the workers import it and call `build`.
"""

import torch
from torch import nn


class GatedBlock(nn.Module):
    """Adds a gated transformation to its input. LayerNorm normalises each record by itself.

    Batch normalisation would mix the records of a batch: one record's gradient would depend on the others, no
    clipping could bound its influence, and the platform refuses it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.value = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (rows, width) to (rows, width)."""
        normed = self.norm(x)
        return x + torch.tanh(self.value(normed)) * torch.sigmoid(self.gate(normed))


def build(in_features: int, out_features: int, width: int = 32, blocks: int = 2) -> nn.Module:
    """Build the model. The platform passes the two sizes, `model.parameters` of job.yaml the rest."""
    layers: list[nn.Module] = [nn.Linear(in_features, width)]
    layers += [GatedBlock(width) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Linear(width, out_features))
