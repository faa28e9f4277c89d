"""What one training step of an encrypted linear layer does: operations, bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass

from secure_train.ckks.costs import Costs
from secure_train.ckks.packing import Packing
from secure_train.ckks.parameters import EncryptedBy

_WORD = 8
_SEEDED = 81


@dataclass(frozen=True, slots=True)
class Prediction:
    """One step: forward, masked outputs, error signals, gradient, masked gradient.

    Attributes:
        ciphertext_plain: products of a ciphertext and weights.
        ciphertext_ciphertext: products of two ciphertexts.
        encryptions: of error signals.
        encodings: of weights, in polynomials.
        decryptions: of outputs and gradients.
        multiply_adds: modular, at single positions.
        record_bytes: of the encrypted records, sent and stored once.
        bytes_up: custodian to workers: error signals, seeded.
        bytes_down: workers to custodian: outputs and one summed gradient.
        compute_seconds: workers, on one core, masking included.
        custodian_seconds: encrypting and decrypting, on one core.
        setup_seconds: encrypting the records, once, on one core.
    """

    ciphertext_plain: int
    ciphertext_ciphertext: int
    encryptions: int
    encodings: int
    decryptions: int
    multiply_adds: int
    record_bytes: int
    bytes_up: int
    bytes_down: int
    compute_seconds: float
    custodian_seconds: float
    setup_seconds: float

    @property
    def seconds(self) -> float:
        """A whole step with one worker on one core."""
        return self.compute_seconds + self.custodian_seconds


def predict(
    packing: Packing, d_in: int, d_out: int, batch: int, encryptor: EncryptedBy, costs: Costs
) -> Prediction:
    """Count a step's operations and price them."""
    degree = packing.ring_degree
    blocks, width = packing.sample_blocks(batch), packing.feature_blocks(d_in)
    products, outputs, gradients = blocks * width * d_out, blocks * d_out, width * d_out
    encodings = 0 if packing.constant_weights else gradients
    multiply_adds = degree * products * (2 + 4)
    by_secret_key = encryptor is EncryptedBy.SECRET_KEY
    return Prediction(
        ciphertext_plain=products,
        ciphertext_ciphertext=products,
        encryptions=outputs,
        encodings=encodings,
        decryptions=outputs + gradients,
        multiply_adds=multiply_adds,
        record_bytes=blocks * width * (degree * _WORD + _SEEDED if by_secret_key else 2 * degree * _WORD),
        bytes_up=outputs * (degree * _WORD + _SEEDED),
        bytes_down=(2 * outputs + 3 * gradients) * degree * _WORD,
        compute_seconds=(
            encodings * costs.encode
            + multiply_adds * costs.multiply_add
            + degree * (2 * outputs + 3 * gradients) * costs.reduce
            + (outputs + gradients) * costs.encrypt_public
        ),
        custodian_seconds=outputs * costs.encrypt + (outputs + gradients) * costs.decrypt,
        setup_seconds=blocks * width * (costs.encrypt if by_secret_key else costs.encrypt_public),
    )
