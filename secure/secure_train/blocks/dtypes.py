"""Tensors as bytes: the types that can be stored, under the names that safetensors gives them.

Bytes are little-endian and row-major whatever the tensor's own layout was.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import UnsupportedTensor

if sys.byteorder != "little":
    raise ImportError(
        "secure_train.blocks stores tensors in little-endian order, which this machine does not use"
    )

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_NUMPY_NAMES = {
    np.dtype(kind): name
    for kind, name in {
        "?": "BOOL",
        "u1": "U8",
        "i1": "I8",
        "u2": "U16",
        "i2": "I16",
        "f2": "F16",
        "u4": "U32",
        "i4": "I32",
        "f4": "F32",
        "u8": "U64",
        "i8": "I64",
        "f8": "F64",
        "c8": "C64",
    }.items()
}

Array = NDArray[np.generic]


def itemsize(dtype: str) -> int:
    """Return how many bytes one element has."""
    return DTYPES[dtype].itemsize


def describe(name: str, tensor: torch.Tensor | Array) -> tuple[str, tuple[int, ...]]:
    """Return the type's name and the shape; raises UnsupportedTensor naming the tensor."""
    if isinstance(tensor, torch.Tensor):
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
            raise UnsupportedTensor(
                f"tensor {name!r} is sparse, quantised or without data: store a dense one"
            )
        dtype = _NAMES.get(tensor.dtype)
    elif isinstance(tensor, np.ndarray):
        dtype = _NUMPY_NAMES.get(tensor.dtype.newbyteorder("="))
    else:
        raise UnsupportedTensor(
            f"{name!r} is a {type(tensor).__name__}: store a torch tensor or a NumPy array"
        )
    if dtype is None:
        raise UnsupportedTensor(f"tensor {name!r} has type {tensor.dtype}; it can be {', '.join(DTYPES)}")
    return dtype, tuple(tensor.shape)


def to_bytes(tensor: torch.Tensor | Array) -> NDArray[np.uint8]:
    """Return the elements as flat bytes: a view where the layout allows it, else a copy."""
    if isinstance(tensor, torch.Tensor):
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return plain.reshape(-1).view(torch.uint8).numpy()
    native = tensor.astype(tensor.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native).reshape(-1).view(np.uint8)


def from_bytes(data: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Reinterpret a flat uint8 tensor, without copying it."""
    return data.view(DTYPES[dtype]).reshape(shape)
