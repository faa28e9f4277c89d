"""The two products of a linear layer on encrypted records. No key is needed, and none is here."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from secure_train.ckks.bounds import forward_bound, forward_error, gradient_error
from secure_train.ckks.encoding import to_integers
from secure_train.ckks.errors import InvalidInput, Mismatch
from secure_train.ckks.header import Content, Header, require_same
from secure_train.ckks.kernels import Kernel, best_kernel
from secure_train.ckks.packing import Integers
from secure_train.ckks.tensor import CipherTensor


def forward(
    records: CipherTensor, weights: npt.ArrayLike, *, scale_bits: int, kernel: Kernel | None = None
) -> CipherTensor:
    """Records (B, d) times plaintext weights (d, k): encrypted outputs (B, k).

    Args:
        records: content `records`.
        weights: public, or noised.
        scale_bits: precision of the weights.
        kernel: the fastest for the device, unless given.

    Raises:
        InvalidInput: weights are not finite, or their shape does not fit.
        Mismatch: these are no records.
        ScaleOverflow: an output may wrap around in the worst case.
    """
    header = _of_content(records, Content.RECORDS)
    values = np.asarray(weights, np.float64)
    if values.ndim != 2 or values.shape[0] != header.shape[1] or not np.isfinite(values).all():
        raise InvalidInput(f"weights: need a finite ({header.shape[1]}, k) matrix, got shape {values.shape}")
    result = Header(
        key=header.key,
        parameters=header.parameters,
        content=Content.OUTPUTS,
        shape=(header.shape[0], values.shape[1]),
        samples_per_block=header.samples_per_block,
        scale_bits=header.scale_bits + scale_bits,
        bound=forward_bound(header.bound, values),
        error=forward_error(header.error, header.bound, values, scale_bits),
    )
    encoded = _encode_weights(header, to_integers(values, scale_bits)).to(records.residues.device)
    chosen = kernel or best_kernel(records.residues.device, header.parameters.modulus)
    return CipherTensor(result, chosen.forward(records.residues, encoded, header.parameters.modulus))


def gradient(
    records: CipherTensor,
    errors: CipherTensor,
    *,
    clip: float | None = None,
    kernel: Kernel | None = None,
) -> CipherTensor:
    """Records (B, d) transposed times error signals (B, k): the encrypted gradient (d, k), a sum of records'.

    Args:
        records: content `records`.
        errors: content `errors`, of the same samples in the same order.
        clip: public C with |x_i|·|d_i| <= C for every record, where error signals were clipped so; it bounds
            each number of the sum by B·C, which may be less than their separate bounds say.
        kernel: the fastest for the device, unless given.

    Raises:
        InvalidInput: clip is not positive.
        Mismatch: the two do not belong together; every difference is named.
        ScaleOverflow: a gradient may wrap around in the worst case.
    """
    left, right = _of_content(records, Content.RECORDS), _of_content(errors, Content.ERRORS)
    require_same(left, right, ["key", "parameters", "samples_per_block"])
    samples = left.shape[0]
    if right.shape[0] != samples:
        raise Mismatch(f"{samples} records and error signals of {right.shape[0]} do not belong together")
    if clip is not None and not (math.isfinite(clip) and clip > 0):
        raise InvalidInput(f"clip: must be positive and finite, got {clip!r}")
    product = left.bound * right.bound
    worst = gradient_error(left.error, right.error, left.bound, right.bound, samples, left.packing)
    result = Header(
        key=left.key,
        parameters=left.parameters,
        content=Content.GRADIENT,
        shape=(left.shape[1], right.shape[1]),
        samples_per_block=left.samples_per_block,
        scale_bits=left.scale_bits + right.scale_bits,
        bound=samples * (product if clip is None else min(product, clip)),
        error=worst,
    )
    chosen = kernel or best_kernel(records.residues.device, left.parameters.modulus)
    residues = chosen.gradient(
        records.residues, errors.residues.to(records.residues.device), left.parameters.modulus
    )
    return CipherTensor(result, residues)


def _encode_weights(header: Header, integers: Integers) -> torch.Tensor:
    """(d, k) integers in NTT form: (F, k, N); (F, k, 1) for constants, whose NTT is the same everywhere."""
    modulus = header.parameters.modulus
    if header.packing.constant_weights:
        return torch.from_numpy(np.mod(integers, modulus))[..., None]
    from secure_train.ckks.seal_ring import ring

    return torch.from_numpy(ring(header.parameters).to_ntt(header.packing.pack_weights(integers)))


def _of_content(tensor: CipherTensor, content: Content) -> Header:
    if tensor.header.content is not content:
        raise Mismatch(f"need encrypted {content}, got {tensor.header.content}")
    return tensor.header
