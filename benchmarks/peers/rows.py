"""The models that a step is timed on. Inputs are random: a step's time does not depend on what it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """One model with the batch that it is timed on.

    Attributes:
        build: makes the model, the same weights each time; in training mode, float32, on the CPU.
        batch: makes (inputs, targets) of ``records`` records.
        records: B, the logical and the physical batch.
        tokens: positions per record that the layers see (T), for reading the figures.
        autocast: whether the row is run under bf16 autocast.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[int], Batch]
    records: int
    tokens: int
    autocast: bool = False


class Classifier(nn.Module):
    """A transformers model seen as a function from one tensor to logits."""

    def __init__(self, inner: nn.Module, *, tokens: bool) -> None:
        super().__init__()
        self.inner, self.tokens = inner, tokens

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of shape (B, 10)."""
        named = {"pixel_values": inputs}
        if self.tokens:
            # Positions of shape (B, L): broadcast ones would mix the records' gradients.
            positions = torch.arange(inputs.shape[1], device=inputs.device).expand(inputs.shape).contiguous()
            named = {
                "input_ids": inputs,
                "position_ids": positions,
                "token_type_ids": torch.zeros_like(inputs),
            }
        logits: Tensor = self.inner(**named).logits
        return logits


def losses(model: nn.Module, batch: Batch) -> Tensor:
    """Cross entropy of each record, shape (B,)."""
    inputs, targets = batch
    return functional.cross_entropy(model(inputs).float(), targets, reduction="none")


def _mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def _cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.GroupNorm(8, 32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.GroupNorm(8, 64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 8 * 8, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def _vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config: Any = ViTConfig(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=32,
        patch_size=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = 10
    model = Classifier(ViTForImageClassification(config), tokens=False).train()
    for name, parameter in model.named_parameters():
        # Used outside any layer, broadcast over the batch: no engine compared here clips these two.
        if name.endswith(("cls_token", "position_embeddings")):
            parameter.requires_grad_(False)
    return model


def _bert(hidden: int, layers: int, heads: int, vocabulary: int = 30522) -> Classifier:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config: Any = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = 10
    return Classifier(BertForSequenceClassification(config), tokens=True).train()


def _lora(model: Classifier) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], modules_to_save=["classifier"])
    model.inner = get_peft_model(cast(Any, model.inner), config)
    return model.train()


def _images(size: int) -> Callable[[int], Batch]:
    return lambda records: (torch.randn(records, 3, size, size), torch.randint(0, 10, (records,)))


def _texts(length: int, vocabulary: int = 30522) -> Callable[[int], Batch]:
    return lambda records: (
        torch.randint(0, vocabulary, (records, length)),
        torch.randint(0, 10, (records,)),
    )


SMALL = Row(lambda: nn.Linear(4, 10), lambda n: (torch.randn(n, 4), torch.randint(0, 10, (n,))), 4, 1)
"""Makes libraries and thread pools take the memory that is not a model's."""

ON_CPU = {
    "mlp": Row(_mlp, lambda n: (torch.randn(n, 784), torch.randint(0, 10, (n,))), 512, 1),
    "cnn": Row(_cnn, _images(32), 128, 1024),
    "vit": Row(_vit, _images(32), 32, 65),
    "minilm": Row(lambda: _bert(384, 6, 12), _texts(64), 16, 64),
    "minilm_lora": Row(lambda: _lora(_bert(384, 6, 12)), _texts(64), 16, 64),
}
"""Rows that a laptop can run."""

ON_GPU = {
    "mlp": Row(_mlp, lambda n: (torch.randn(n, 784), torch.randint(0, 10, (n,))), 4096, 1),
    "cnn": Row(_cnn, _images(32), 1024, 1024),
    "transformer": Row(lambda: _bert(768, 12, 12, 8192), _texts(128, 8192), 128, 128, autocast=True),
    "transformer_lora": Row(
        lambda: _lora(_bert(768, 12, 12, 8192)), _texts(128, 8192), 128, 128, autocast=True
    ),
}
"""Rows for one large GPU; "transformer" has 92 million parameters."""
