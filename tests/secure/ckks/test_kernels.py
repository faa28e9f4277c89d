"""All kernels give the same integers as Python's own, whatever the shape and the residues."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_train.ckks import KernelUnavailable, Parameters, best_kernel, kernel
from secure_train.ckks.errors import InvalidInput
from secure_train.ckks.kernels.gemm import matmul

FUSED = Parameters.of_bits(2048, 51)
WIDE = Parameters.of_bits(2048, 54)
SMALL = Parameters.of_bits(1024, 27)
sizes = st.integers(1, 5)


def residues(seed: int, edges: float, shape: tuple[int, ...], modulus: int) -> torch.Tensor:
    """Random residues, a share of which are at the edges: 0, 1, q/2, q-1."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, modulus, shape)
    at_edge = rng.random(shape) < edges
    values[at_edge] = rng.choice([0, 1, modulus // 2, modulus // 2 + 1, modulus - 2, modulus - 1], shape)[
        at_edge
    ]
    return torch.from_numpy(values)


def exact_forward(records: torch.Tensor, weights: torch.Tensor, modulus: int) -> np.ndarray:
    x, w = records.numpy().astype(object), weights.numpy().astype(object)
    return np.stack(
        [np.stack([(x * w[None, :, j, None]).sum(1) % modulus], 1) for j in range(w.shape[1])], 1
    )[:, :, 0]


def exact_gradient(records: torch.Tensor, errors: torch.Tensor, modulus: int) -> np.ndarray:
    a, b = records.numpy().astype(object), errors.numpy().astype(object)
    pairs = [[(0, 0)], [(0, 1), (1, 0)], [(1, 1)]]
    parts = [sum(a[:, :, None, i] * b[:, None, :, j] for i, j in pair).sum(0) % modulus for pair in pairs]
    return np.stack(parts, 2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([FUSED, WIDE, SMALL]),
    sizes,
    sizes,
    sizes,
    st.booleans(),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_every_kernel_computes_the_exact_products(
    parameters: Parameters, blocks: int, width: int, outputs: int, constant: bool, edges: float, seed: int
) -> None:
    q, n = parameters.modulus, parameters.ring_degree
    records = residues(seed, edges, (blocks, width, 2, n), q)
    weights = residues(seed + 1, edges, (width, outputs, 1 if constant else n), q)
    errors = residues(seed + 2, edges, (blocks, outputs, 2, n), q)
    z, g = exact_forward(records, weights, q), exact_gradient(records, errors, q)
    for name in ("torch", "fused") if q.bit_length() <= 51 else ("torch",):
        chosen = kernel(name)
        assert (chosen.forward(records, weights, q).numpy() == z).all(), name
        assert (chosen.gradient(records, errors, q).numpy() == g).all(), name


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([FUSED, WIDE, SMALL]), sizes, sizes, sizes, st.booleans(), st.integers(0, 2**32))
def test_seal_agrees(
    parameters: Parameters, blocks: int, width: int, outputs: int, constant: bool, seed: int
) -> None:
    q, n = parameters.modulus, parameters.ring_degree
    records = residues(seed, 0.3, (blocks, width, 2, n), q)
    weights = residues(seed + 1, 0.3, (width, outputs, 1 if constant else n), q)
    errors = residues(seed + 2, 0.3, (blocks, outputs, 2, n), q)
    ours, theirs = kernel("torch"), kernel("seal")
    assert (ours.forward(records, weights, q) == theirs.forward(records, weights, q)).all()
    assert (ours.gradient(records, errors, q) == theirs.gradient(records, errors, q)).all()


@pytest.mark.parametrize("terms", [2048, 2049, 4096, 4100])
def test_sums_longer_than_an_accumulator_are_exact_for_the_largest_residues(terms: int) -> None:
    q = FUSED.modulus
    for name in ("torch", "fused"):
        chosen = kernel(name)
        long = torch.full((1, terms, 2, 64), q - 1)
        assert (chosen.forward(long, torch.full((terms, 1, 1), q - 1), q) == terms % q).all()
        long = torch.full((terms, 1, 2, 64), q - 1)
        sums = chosen.gradient(long, torch.full((terms, 1, 2, 64), q - 1), q)
        assert (sums == torch.tensor([terms, 2 * terms, terms])[:, None]).all()


def test_the_gemm_is_exact_for_more_terms_than_one_float64_sum_takes() -> None:
    q, terms = WIDE.modulus, (1 << 15) + 7
    product = matmul(torch.full((1, terms), q - 1), torch.full((terms, 1), q - 1), q)
    assert int(product) == terms


def test_threads_change_nothing() -> None:
    q = FUSED.modulus
    records, weights = residues(1, 0.1, (5, 3, 2, 2048), q), residues(2, 0.1, (3, 3, 2048), q)
    errors = residues(3, 0.1, (5, 3, 2, 2048), q)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(
                (kernel("fused").forward(records, weights, q), kernel("fused").gradient(records, errors, q))
            )
    finally:
        torch.set_num_threads(before)
    for z, g in found[1:]:
        assert torch.equal(z, found[0][0])
        assert torch.equal(g, found[0][1])


def test_a_kernel_refuses_what_it_would_compute_wrongly() -> None:
    records, weights = (
        torch.zeros((1, 1, 2, 2048), dtype=torch.int64),
        torch.zeros((1, 1, 2048), dtype=torch.int64),
    )
    with pytest.raises(KernelUnavailable, match="at most 51 bits"):
        kernel("fused").forward(records, weights, WIDE.modulus)
    assert best_kernel(torch.device("cpu"), WIDE.modulus).name == "torch"
    assert best_kernel(torch.device("cpu"), FUSED.modulus).name == "fused"
    with pytest.raises(InvalidInput, match="does not fit"):
        kernel("fused").forward(records, torch.zeros((2, 1, 2048), dtype=torch.int64), FUSED.modulus)
    with pytest.raises(InvalidInput, match="none of"):
        kernel("fast")
