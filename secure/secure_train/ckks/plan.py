"""Which ring, scale and packing to take for an encrypted linear layer, and what a training step then costs.

A plan either holds in the worst case, or is refused with what to change: 128-bit security by the standard's
table, and no sum that could reach q/2 however adverse the records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from secure_train.ckks.bounds import Fresh, forward_deviation, gradient_deviation, gradient_error
from secure_train.ckks.costs import REFERENCE, Costs
from secure_train.ckks.encoding import rounding_error
from secure_train.ckks.errors import InvalidInput, ScaleOverflow
from secure_train.ckks.header import Content, Header
from secure_train.ckks.packing import Packing
from secure_train.ckks.parameters import SECURITY_BITS, EncryptedBy, Parameters
from secure_train.ckks.prediction import Prediction, predict

_RING_DEGREE = 2048
_MODULUS_BITS = (51, 54)
"""Tried in this order: the fused CPU kernel takes 51 bits, the torch kernel 54."""
_SCALE_BITS = range(24, 5, -1)
_SKEW_BITS = {EncryptedBy.SECRET_KEY: 0, EncryptedBy.PUBLIC_KEY: 3}
"""What is encrypted with more noise gets the larger share of a product's scale."""
_DEVIATIONS = 6.0
_SETUP_STEPS = 100
"""Encrypting the records once is spread over this many steps when packings are compared."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Public bounds that a plan rests on; encryption and products enforce them.

    Attributes:
        records: R, of each record's L2 norm.
        errors: D, of each row of error signals' L2 norm; √2 holds for softmax and logistic losses.
        weights: of each column of weights' L2 norm.
        clip: C, of each record's gradient norm |x_i|·|d_i|.
        tolerance: the error of an output, and of a gradient over C, that is acceptable (six deviations).
    """

    records: float = 1.0
    errors: float = math.sqrt(2)
    weights: float = 8.0
    clip: float = 1.0
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        for name in ("records", "errors", "weights", "clip", "tolerance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name}: must be positive and finite, got {value!r}")


@dataclass(frozen=True, slots=True)
class Plan:
    """An encrypted linear layer that is secure, cannot overflow, and is as quick as the packings allow.

    Attributes:
        d_in: features d.
        d_out: outputs k.
        batch: records B that are encrypted. Every step computes on all of them: leaving out the blocks
            without a sampled record would tell the compute side who was sampled.
        sampling_rate: each record's probability to be in a step; the others' error signals are zero.
        encryptor: who encrypts the records.
        limits: what is assumed of records, weights and error signals.
        parameters: N and q.
        packing: n samples in a block.
        record_scale_bits: records are multiplied by two to this power.
        scale_bits: weights and error signals are.
        output_error: six standard deviations of an output's error.
        gradient_error: six standard deviations of an error in a number of the summed gradient.
        worst_output_error: what it can be at all.
        worst_gradient_error: what it can be at all.
        headroom_bits: between the largest possible sum and q/2.
        step: operations, bytes and seconds of a step.
    """

    d_in: int
    d_out: int
    batch: int
    sampling_rate: float
    encryptor: EncryptedBy
    limits: Limits
    parameters: Parameters
    packing: Packing
    record_scale_bits: int
    scale_bits: int
    output_error: float
    gradient_error: float
    worst_output_error: float
    worst_gradient_error: float
    headroom_bits: float
    step: Prediction

    @property
    def security_bits(self) -> int:
        """At least that, against classical attacks; see `parameters.MOST_MODULUS_BITS`."""
        return SECURITY_BITS

    @property
    def expected_batch(self) -> float:
        """The public normaliser of a step: sampling_rate·batch, never how many were sampled."""
        return self.sampling_rate * self.batch

    def flooding_margin(self, noise_deviation: float, releases: int) -> float:
        """A bound of the information (KL, nats) that releases give about encryption errors, and so the key.

        |e|²/(2·deviation²) for each release with Gaussian noise of that deviation on every number (σ·C); |e|
        is the most that the error vector can be long. Li and Micciancio, EUROCRYPT 2021.

        Raises:
            InvalidInput: the deviation or the number of releases is not positive.
        """
        if not (math.isfinite(noise_deviation) and noise_deviation > 0 and releases >= 1):
            raise InvalidInput("flooding_margin: needs a positive deviation and at least one release")
        squared = self.d_in * self.d_out * self.worst_gradient_error**2
        return releases * squared / (2 * noise_deviation**2)


def plan(
    d_in: int,
    d_out: int,
    batch: int,
    sampling_rate: float,
    encryptor: EncryptedBy,
    *,
    limits: Limits | None = None,
    ring_degree: int = _RING_DEGREE,
    modulus_bits: int | None = None,
    scale_bits: int | None = None,
    samples_per_block: int | None = None,
    costs: Costs = REFERENCE,
) -> Plan:
    """Plan a linear layer of d_in × d_out weights over `batch` encrypted records.

    What is None is chosen: the narrowest of the supported primes that the tolerance allows, the largest scale
    that cannot overflow, and the number of samples in a block with the quickest step.

    Raises:
        InvalidInput: a number is out of range, or there is no such ring.
        InsecureParameters: N and the modulus are below 128-bit security.
        ScaleOverflow: no scale, or not the one given, leaves room for the worst case at that tolerance.
    """
    if min(d_in, d_out, batch) < 1 or not 0 < sampling_rate <= 1:
        raise InvalidInput("plan: needs d_in, d_out and batch of at least 1, and a sampling rate in (0, 1]")
    bounds = limits or Limits()
    reasons = []
    for bits in _MODULUS_BITS if modulus_bits is None else (modulus_bits,):
        parameters = Parameters.of_bits(ring_degree, bits)
        found: list[tuple[float, Plan]] = []
        for samples in _candidates(ring_degree, samples_per_block):
            base = _Attempt(d_in, d_out, batch, sampling_rate, encryptor, bounds, parameters, samples)
            for scale in _SCALE_BITS if scale_bits is None else (scale_bits,):
                try:
                    complete = base.at_scale(scale, costs)
                except ScaleOverflow as overflow:
                    reasons.append(str(overflow))
                    continue
                complaint = _imprecise(complete)
                if complaint is None:
                    setup = complete.step.setup_seconds / _SETUP_STEPS
                    found.append((complete.step.seconds + setup, complete))
                else:
                    reasons.append(complaint)
                # A smaller scale is less precise, and no quicker.
                break
        if found:
            return min(found, key=lambda pair: pair[0])[1]
    raise ScaleOverflow(
        f"no plan for {d_in} x {d_out} weights over {batch} records: {reasons[-1]}. Lower the batch or the "
        "clipping norm, raise the tolerance, or encrypt with the secret key where the public one is used"
    )


@dataclass(frozen=True, slots=True)
class _Attempt:
    d_in: int
    d_out: int
    batch: int
    sampling_rate: float
    encryptor: EncryptedBy
    limits: Limits
    parameters: Parameters
    samples: int

    def at_scale(self, scale_bits: int, costs: Costs) -> Plan:
        """Complete the plan; its products' headers raise ScaleOverflow where the worst case is too large."""
        record_bits = scale_bits + 2 * _SKEW_BITS[self.encryptor]
        product_bits = record_bits + scale_bits
        limits, packing = self.limits, Packing(self.parameters.ring_degree, self.samples)
        # Error signals are always encrypted by the custodian.
        records = Fresh.at(self.encryptor, packing.ring_degree, record_bits)
        errors = Fresh.at(EncryptedBy.SECRET_KEY, packing.ring_degree, scale_bits)
        worst_output = records.worst * limits.weights * math.sqrt(self.d_in) + rounding_error(scale_bits) * (
            limits.records * math.sqrt(self.d_in) + self.d_in * records.worst
        )
        worst_gradient = gradient_error(
            records.worst, errors.worst, limits.records, limits.errors, self.batch, packing
        )
        largest_gradient = self.batch * min(limits.clip, limits.records * limits.errors)
        headers = [
            self._header(Content.OUTPUTS, product_bits, limits.records * limits.weights, worst_output),
            self._header(Content.GRADIENT, product_bits, largest_gradient, worst_gradient),
        ]
        fullest = max(header.bound + header.error for header in headers)
        return Plan(
            d_in=self.d_in,
            d_out=self.d_out,
            batch=self.batch,
            sampling_rate=self.sampling_rate,
            encryptor=self.encryptor,
            limits=limits,
            parameters=self.parameters,
            packing=packing,
            record_scale_bits=record_bits,
            scale_bits=scale_bits,
            output_error=_DEVIATIONS * forward_deviation(records, limits.weights, limits.records, scale_bits),
            gradient_error=_DEVIATIONS
            * gradient_deviation(records, errors, limits.records, limits.errors, self.batch, packing),
            worst_output_error=worst_output,
            worst_gradient_error=worst_gradient,
            headroom_bits=math.log2(self.parameters.modulus / 2) - math.log2(fullest) - product_bits,
            step=predict(packing, self.d_in, self.d_out, self.batch, self.encryptor, costs),
        )

    def _header(self, content: Content, scale_bits: int, bound: float, error: float) -> Header:
        outputs = content is Content.OUTPUTS
        return Header(
            key="0" * 32,
            parameters=self.parameters,
            content=content,
            shape=(self.batch if outputs else self.d_in, self.d_out),
            samples_per_block=self.samples,
            scale_bits=scale_bits,
            bound=bound,
            error=error,
        )


def _candidates(ring_degree: int, samples: int | None) -> list[int]:
    if samples is not None:
        return [Packing(ring_degree, samples).samples]
    return [1 << power for power in range(ring_degree.bit_length())]


def _imprecise(complete: Plan) -> str | None:
    limits = complete.limits
    worst = max(complete.output_error, complete.gradient_error / limits.clip)
    if worst <= limits.tolerance:
        return None
    return (
        f"at scale 2^{complete.scale_bits}, the largest without overflow in "
        f"{complete.parameters.modulus_bits} bits, errors reach {worst:.2g}, beyond the tolerance "
        f"{limits.tolerance:g}"
    )
