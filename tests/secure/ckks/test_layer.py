"""Encrypted layers train as plain ones do, and their clipped sums are those of per-record clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from secure_train.ckks import HomoEncryptor, InvalidInput
from secure_train.ckks.clipping import clipped_gradients
from secure_train.ckks.encoding import to_reals
from secure_train.ckks.layer import EncryptedLinear, encrypt_linear_layers
from secure_train.ckks.plan import Limits
from secure_train.ckks.session import EncryptedRows
from secure_train.ckks.workers import LocalWorkers

TOLERANCE = 5e-3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Linear(12, 8), nn.Linear(8, 3), nn.GELU()

    def forward(self, x: torch.Tensor | EncryptedRows) -> torch.Tensor:
        hidden: torch.Tensor = self.second(self.act(self.first(x)))
        return hidden


def pair(encryptor: HomoEncryptor, batch: int, **limits: float) -> tuple[Net, Net]:
    torch.manual_seed(3)
    plain = Net().double()
    encrypted = Net().double()
    encrypted.load_state_dict(plain.state_dict())
    bounds = Limits(**({"records": 4.0, "errors": 4.0, "weights": 4.0, "clip": 1.0} | limits))
    encrypt_linear_layers(encrypted, "*", encryptor, LocalWorkers(encryptor.public), batch, limits=bounds)
    return plain, encrypted


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def losses(outputs: torch.Tensor) -> torch.Tensor:
    labels = torch.arange(outputs.shape[0]) % 3
    logits = outputs if outputs.ndim == 2 else outputs.mean(1)
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def reference(model: Net, x: torch.Tensor, clip: float) -> dict[str, np.ndarray]:
    """Per-record clipping by definition: one record at a time."""
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    labels = torch.arange(x.shape[0]) % 3
    for i in range(x.shape[0]):
        if not x[i].isfinite().all():
            continue
        out = model(x[i : i + 1])
        logits = out if out.ndim == 2 else out.mean(1)
        loss = nn.functional.cross_entropy(logits, labels[i : i + 1])
        found = torch.autograd.grad(loss, list(model.parameters()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in found))
        for total, g in zip(sums.values(), found, strict=True):
            total += g * min(1.0, clip / norm)
    return {name: total.numpy() for name, total in sums.items()}


def test_forward_and_all_gradients_are_those_of_the_plain_model(encryptor: HomoEncryptor) -> None:
    plain, encrypted = pair(encryptor, 20, clip=16.0)
    x, y = inputs(20, 12).requires_grad_(), inputs(20, 12).requires_grad_()
    losses(plain(x)).sum().backward()
    losses(encrypted(y)).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(plain(x), encrypted(y), atol=TOLERANCE)
    assert torch.allclose(x.grad, y.grad, atol=TOLERANCE)
    for (name, p), (_, e) in zip(plain.named_parameters(), encrypted.named_parameters(), strict=True):
        assert p.grad is not None
        assert e.grad is not None
        assert torch.allclose(p.grad, e.grad, atol=TOLERANCE), name


@pytest.mark.parametrize("clip", [0.3, 1.0, 50.0])
def test_clipped_sums_are_those_of_clipping_each_record(encryptor: HomoEncryptor, clip: float) -> None:
    plain, encrypted = pair(encryptor, 20, clip=clip)
    x = inputs(20, 12)
    expected = reference(plain, x, clip)
    found = clipped_gradients(encrypted, losses(encrypted(x)), clip)
    assert set(found) == set(expected)
    for name, gradient in found.items():
        numbers = to_reals(gradient.integers, gradient.scale_bits)
        numbers = numbers.T if numbers.ndim == 2 else numbers
        assert np.abs(numbers - expected[name]).max() < TOLERANCE, name


def test_sequences_are_clipped_by_the_norm_over_all_positions(encryptor: HomoEncryptor) -> None:
    plain, encrypted = pair(encryptor, 24)
    x = inputs(6, 4, 12)
    expected = reference(plain, x, 0.5)
    found = clipped_gradients(encrypted, losses(encrypted(x)), 0.5)
    for name, gradient in found.items():
        numbers = to_reals(gradient.integers, gradient.scale_bits)
        numbers = numbers.T if numbers.ndim == 2 else numbers
        assert np.abs(numbers - expected[name]).max() < TOLERANCE, name


def test_a_record_that_is_not_finite_contributes_nothing(encryptor: HomoEncryptor) -> None:
    plain, encrypted = pair(encryptor, 9)
    x = inputs(9, 12)
    x[2, 3], x[5] = math.inf, math.nan
    expected = reference(plain, x, 1.0)
    found = clipped_gradients(encrypted, losses(encrypted(x)), 1.0)
    for name, gradient in found.items():
        numbers = to_reals(gradient.integers, gradient.scale_bits)
        numbers = numbers.T if numbers.ndim == 2 else numbers
        assert np.abs(numbers - expected[name]).max() < TOLERANCE, name


def test_rows_beyond_every_bound_still_sum_to_at_most_c_each(
    encryptor: HomoEncryptor,
) -> None:
    _, encrypted = pair(encryptor, 5, records=0.01, errors=0.01, weights=4.0)
    x = 1e3 * inputs(5, 12)
    found = clipped_gradients(encrypted, losses(encrypted(x)), 1.0)
    squared = sum(np.square(to_reals(g.integers, g.scale_bits)).sum() for g in found.values())
    assert math.sqrt(squared) <= 5 * 1.0 + 0.1


def test_records_encrypted_beforehand_give_the_same_with_known_norms_and_no_more_without(
    encryptor: HomoEncryptor,
) -> None:
    plain, encrypted = pair(encryptor, 20)
    x = inputs(20, 12)
    x = x / x.norm(dim=1, keepdim=True) * torch.linspace(0.2, 1, 20)[:, None]
    layer = encrypted.first
    assert isinstance(layer, EncryptedLinear)
    made = layer.session.plan
    stored = encryptor.encrypt_records(
        x.numpy(), bound=1.0, samples_per_block=made.packing.samples, scale_bits=made.record_scale_bits
    )
    expected = reference(plain, x, 0.4)
    known = EncryptedRows.of_records(stored, x.norm(dim=1).numpy())
    found = clipped_gradients(encrypted, losses(encrypted(known)), 0.4)
    for name, gradient in found.items():
        numbers = to_reals(gradient.integers, gradient.scale_bits)
        numbers = numbers.T if numbers.ndim == 2 else numbers
        assert np.abs(numbers - expected[name]).max() < TOLERANCE, name
    pooled = clipped_gradients(encrypted, losses(encrypted(EncryptedRows.of_records(stored))), 0.4)
    length = math.sqrt(sum(np.square(to_reals(g.integers, g.scale_bits)).sum() for g in pooled.values()))
    assert 0 < length <= 20 * 0.4


def test_a_model_that_cannot_be_clipped_is_refused(encryptor: HomoEncryptor) -> None:
    _, encrypted = pair(encryptor, 4)
    mixed = nn.Sequential(encrypted, nn.Linear(3, 3).double())
    with pytest.raises(InvalidInput, match=r"1\.weight, 1\.bias is trainable"):
        clipped_gradients(mixed, losses(mixed(inputs(4, 12))), 1.0)
    with pytest.raises(InvalidInput, match="matches no"):
        encrypt_linear_layers(Net(), "third", encryptor, LocalWorkers(encryptor.public), 4)
    with pytest.raises(InvalidInput, match="12"):
        encrypted(inputs(4, 11))
    with pytest.raises(InvalidInput, match="clip"):
        clipped_gradients(encrypted, losses(encrypted(inputs(4, 12))), math.inf)


def test_only_layers_that_match_are_replaced(encryptor: HomoEncryptor) -> None:
    net = Net()
    weight = net.second.weight
    encrypt_linear_layers(net, "sec*", encryptor, LocalWorkers(encryptor.public), 4)
    assert type(net.first) is nn.Linear
    assert isinstance(net.second, EncryptedLinear)
    assert net.second.weight is weight
