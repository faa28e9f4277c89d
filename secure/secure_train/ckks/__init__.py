"""Linear layers on records that stay encrypted: CKKS keys, encrypted tensors, products, and their plan.

>>> context = KeyContext("acme", "patients@1", "ckks")  # doctest: +SKIP
>>> key = new_key(vault, context, Parameters.of_bits(2048, 51))  # doctest: +SKIP
>>> encryptor = HomoEncryptor(vault, key)  # doctest: +SKIP
>>> encryptor.decrypt(encryptor.encrypt([1.0, 2.0]))  # doctest: +SKIP
"""

from secure_train.ckks.compute import forward, gradient
from secure_train.ckks.encryptor import HomoEncryptor, PublicEncryptor
from secure_train.ckks.errors import (
    CKKSError,
    Corrupted,
    InsecureParameters,
    InvalidInput,
    KernelUnavailable,
    Mismatch,
    ScaleOverflow,
    WrongKey,
)
from secure_train.ckks.files import read_tensor, write_tensor
from secure_train.ckks.header import Content, Header
from secure_train.ckks.kernels import Kernel, best_kernel, kernel
from secure_train.ckks.keys import PublicKey, SealedKey, new_key
from secure_train.ckks.masking import mask
from secure_train.ckks.parameters import EncryptedBy, Parameters
from secure_train.ckks.tensor import CipherTensor, SeededCipherTensor, total

__all__ = [
    "CKKSError",
    "CipherTensor",
    "Content",
    "Corrupted",
    "EncryptedBy",
    "Header",
    "HomoEncryptor",
    "InsecureParameters",
    "InvalidInput",
    "Kernel",
    "KernelUnavailable",
    "Mismatch",
    "Parameters",
    "PublicEncryptor",
    "PublicKey",
    "ScaleOverflow",
    "SealedKey",
    "SeededCipherTensor",
    "WrongKey",
    "best_kernel",
    "forward",
    "gradient",
    "kernel",
    "mask",
    "new_key",
    "read_tensor",
    "total",
    "write_tensor",
]
