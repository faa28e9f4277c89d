"""What a worker does to a product before it sends it: hide everything in it that is no result.

A product's other coefficients are cross terms between records and features. And a product of two ciphertexts
is not a fresh one: whoever made the error signals knows b0 and b1, so that c2 = Σ a1·b1 gives away a1 where
few blocks were summed, c1 = Σ a0·b1 + a1·b0 then a0, and with the secret key the record itself. So what is
added is not a plain mask but a fresh public-key encryption of it: uniform numbers in the coefficients that
are no result make those independent of everything, and the encryption's own randomness hides c0 and c1 even
from who holds the secret key (decisional RLWE in the unknown u of pk·u + e).

What remains: the results themselves, with the encryption errors in their low bits. Those errors are products
of records and of noise that the encryptor of the error signals could know, about 2^-scale_bits of a record.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import replace

import numpy as np
import torch

from secure_train.ckks.encryptor import PublicEncryptor
from secure_train.ckks.errors import Mismatch
from secure_train.ckks.header import Content
from secure_train.ckks.keys import PublicKey
from secure_train.ckks.packing import Integers
from secure_train.ckks.parameters import EncryptedBy, Parameters
from secure_train.ckks.tensor import CipherTensor


def mask(product: CipherTensor, public: PublicKey) -> CipherTensor:
    """Hide every coefficient that is no result, and how the product came about; see the module's text.

    Results change by at most the error of a public-key encryption at the product's scale, which the header's
    error takes up.

    Raises:
        Mismatch: it is no product, or of another key.
    """
    header = product.header
    if header.content is Content.OUTPUTS:
        useful = header.packing.output_positions()
    elif header.content is Content.GRADIENT:
        useful = header.packing.gradient_positions()
    else:
        raise Mismatch(f"{header.content} is no product: there is nothing to mask")
    if header.key != public.fingerprint:
        raise Mismatch(
            f"a product of key {header.key} cannot be masked with the public key {public.fingerprint}"
        )
    noise = uniform((math.prod(header.grid), header.parameters.ring_degree), header.parameters)
    noise[:, useful] = 0
    words = torch.from_numpy(PublicEncryptor(public).encrypt_polynomials(noise))
    residues = product.residues.clone()
    fresh = residues[..., :2, :]
    fresh += words.reshape(fresh.shape).to(residues.device)
    fresh %= header.parameters.modulus
    bound = EncryptedBy.PUBLIC_KEY.noise_bound(header.parameters.ring_degree)
    masked = replace(header, error=header.error + math.ldexp(bound, -header.scale_bits))
    return CipherTensor(masked, residues)


def uniform(shape: tuple[int, ...], parameters: Parameters) -> Integers:
    """Uniform numbers in [0, q) from the operating system, by rejection."""
    count = math.prod(shape)
    found = np.empty(0, np.int64)
    while found.size < count:
        drawn = np.frombuffer(secrets.token_bytes(8 * (count - found.size) + 64), "<u8")
        candidates = (drawn >> np.uint64(64 - parameters.modulus_bits)).astype(np.int64)
        found = np.concatenate([found, candidates[candidates < parameters.modulus]])
    return found[:count].reshape(shape)
