"""What each primitive costs, so that a plan can say how long a step takes and which packing is quickest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from secure_train.ckks.encryptor import HomoEncryptor, PublicEncryptor
from secure_train.ckks.kernels import best_kernel
from secure_train.ckks.keys import new_key
from secure_train.ckks.parameters import Parameters
from secure_train.ckks.seal_ring import ring
from secure_train.vault import DataKey, KeyContext, WrappedKey

_BLOCKS, _OUTPUTS = 8, 10


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds on one core.

    Attributes:
        encrypt: a ciphertext under the secret key, from numbers.
        encrypt_public: a ciphertext under the public key, from numbers; also masks one product.
        encode: a polynomial of weights into NTT form.
        decrypt: a ciphertext, to numbers.
        multiply_add: one modular multiply-add at one position, ten outputs at a time.
        reduce: one residue of a result.
    """

    encrypt: float
    encrypt_public: float
    encode: float
    decrypt: float
    multiply_add: float
    reduce: float


REFERENCE = Costs(
    encrypt=5.5e-4,
    encrypt_public=7.1e-4,
    encode=1.2e-4,
    decrypt=3.7e-4,
    multiply_add=4.0e-10,
    reduce=3.3e-9,
)
"""By `measure`, at N = 2048 and 51 bits on one core of an AMD EPYC (Zen 2) with other work on the machine."""


def measure(parameters: Parameters) -> Costs:
    """Measure the primitives here, in a few seconds, with a key that is thrown away."""
    secret = _throwaway(parameters)
    public = PublicEncryptor(secret.public)
    rng = np.random.default_rng(0)
    degree = parameters.ring_degree
    count = 30
    numbers = rng.normal(size=count * degree)
    tensor = secret.encrypt(numbers, scale_bits=10)
    coefficients = rng.integers(-1000, 1000, (count, degree))
    here = ring(parameters)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        short, long = _product(parameters, 1), _product(parameters, 33)
    finally:
        torch.set_num_threads(threads)
    residues = degree * 2 * _BLOCKS * _OUTPUTS
    multiply_add = (long - short) / (32 * residues)
    return Costs(
        encrypt=_seconds(lambda: secret.encrypt(numbers, scale_bits=10)) / count,
        encrypt_public=_seconds(lambda: public.encrypt(numbers, scale_bits=10)) / count,
        encode=_seconds(lambda: here.to_ntt(coefficients)) / count,
        decrypt=_seconds(lambda: secret.decrypt(tensor)) / count,
        multiply_add=multiply_add,
        reduce=max(short / residues - multiply_add, 0.0),
    )


def _throwaway(parameters: Parameters) -> HomoEncryptor:
    class Vault:
        """Wraps nothing: the key is used once, here, on random numbers."""

        def __init__(self) -> None:
            self._key = DataKey.generate()

        def new_data_key(self, context: KeyContext) -> tuple[DataKey, WrappedKey]:
            return self._key, WrappedKey(1, b"")

        def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> DataKey:
            return self._key

    vault = Vault()
    return HomoEncryptor(vault, new_key(vault, KeyContext("measure", "measure", "ckks"), parameters))


def _product(parameters: Parameters, terms: int) -> float:
    rng = np.random.default_rng(1)
    q, degree = parameters.modulus, parameters.ring_degree
    records = torch.from_numpy(rng.integers(0, q, (_BLOCKS, terms, 2, degree)))
    weights = torch.from_numpy(rng.integers(0, q, (terms, _OUTPUTS, degree)))
    chosen = best_kernel(records.device, q)
    return _seconds(lambda: chosen.forward(records, weights, q))


def _seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """The best of some rounds, after one to warm up: other work on the machine only ever adds."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
