"""Architectures as people train them, small and with random weights, against one record at a time."""

from __future__ import annotations

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.layers import DPLSTM
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from secure_train.dp import UnsupportedModel

# peft asks transformers under a name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

BERT = BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=8,
    num_labels=3,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
GPT2 = GPT2Config(
    vocab_size=40,
    n_embd=16,
    n_layer=2,
    n_head=2,
    n_positions=8,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)
LLAMA = LlamaConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=24,
    max_position_embeddings=8,
)
VIT = ViTConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    image_size=8,
    patch_size=4,
    num_labels=3,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def texts():
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.randint(1, 40, (5, 6), generator=generator),
        "position_ids": torch.arange(6).expand(5, 6).contiguous(),
        "labels": torch.randint(0, 3, (5,), generator=generator),
    }


def images():
    return {"pixel_values": torch.randn(5, 3, 8, 8), "labels": torch.arange(5) % 3}


def classify(model, batch):
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if "input_ids" in inputs and "token_type_ids" not in inputs:
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return functional.cross_entropy(model(**inputs).logits, batch["labels"], reduction="none")


def predict_tokens(model, batch):
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if isinstance(model, BertForMaskedLM):
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    logits = model(**inputs).logits[:, :-1]
    return functional.cross_entropy(logits.mT, batch["input_ids"][:, 1:], reduction="none").mean(1)


def lora():
    config = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"])
    model = get_peft_model(BertForSequenceClassification(BERT), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = DPLSTM(3, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, pixel_values):
        return self.out(self.lstm(pixel_values.flatten(2).mT[:, :5])[0][:, -1])


def classify_outputs(model, batch):
    return functional.cross_entropy(model(batch["pixel_values"]), batch["labels"], reduction="none")


ARCHITECTURES = {
    "BERT": (lambda: BertForSequenceClassification(BERT), classify, texts),
    "BERT with a tied head": (lambda: BertForMaskedLM(BERT), predict_tokens, texts),
    "GPT-2 with a tied head": (lambda: GPT2LMHeadModel(GPT2), predict_tokens, texts),
    "Llama": (lambda: LlamaForCausalLM(LLAMA), predict_tokens, texts),
    "ViT": (lambda: ViTForImageClassification(VIT), classify, images),
    "LoRA": (lora, classify, texts),
    "LSTM of Linear layers": (Recurrent, classify_outputs, images),
}


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    build, loss, data = ARCHITECTURES[request.param]
    torch.manual_seed(0)
    return build().train(), loss, data()


@pytest.mark.parametrize("clip", [0.1, 1e6])
def test_architectures_are_clipped_exactly(tools, architecture, clip):
    model, loss, batch = architecture
    expected = tools.naive_clipped_sum(model, loss, batch, clip)
    clipped = tools.clipped_sum(model, loss, batch, clip, physical_batch_size=3)
    assert tools.difference(clipped, expected) <= 1e-5


def test_a_frozen_base_gets_no_gradient(tools):
    model = lora().train()
    clipped = tools.clipped_sum(model, classify, texts(), 1.0)
    assert {name for name in clipped if "lora_" not in name and "classifier" not in name} == set()


@pytest.mark.parametrize("build", [lambda: LlamaForCausalLM(LLAMA), lambda: GPT2LMHeadModel(GPT2)])
def test_gradient_checkpointing_changes_nothing(tools, build):
    torch.manual_seed(0)
    model, batch = build().train(), texts()
    plain = tools.clipped_sum(model, predict_tokens, batch, 0.1)
    model.config.use_cache = False
    model.activation_checkpointing_enable({"use_reentrant": False})
    assert model.is_activation_checkpointing
    assert tools.difference(tools.clipped_sum(model, predict_tokens, batch, 0.1), plain) <= 1e-6


def test_positions_that_are_broadcast_over_records_are_refused_with_the_remedy(tools):
    batch = texts()
    del batch["position_ids"]
    with pytest.raises(UnsupportedModel, match=r"wpe: .*pass position_ids of shape \(B, L\)"):
        tools.clipped_sum(GPT2LMHeadModel(GPT2).train(), predict_tokens, batch, 1.0)


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 8),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    )


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_gradients_are_those_of_opacus_where_opacus_is_right(tools):
    torch.manual_seed(0)
    model, batch = cnn(), images()
    ours = tools.clipped_sum(model, classify_outputs, batch, 0.1)
    theirs = GradSampleModule(model, loss_reduction="sum")
    classify_outputs(theirs, batch).sum().backward()
    samples = {name: p.grad_sample for name, p in model.named_parameters()}
    norms = torch.stack([s.flatten(1).norm(dim=1) for s in samples.values()]).norm(dim=0)
    scale = (0.1 / norms).clamp(max=1)
    expected = {name: torch.tensordot(scale, sample, 1) for name, sample in samples.items()}
    assert tools.difference(ours, expected) <= 1e-5
