"""How much a noised sum speaks for a record's having been in the data."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from secure_train.dp.accounting import Mechanism

Values = npt.NDArray[np.float64]


def evidence_of_inclusion(projections: Values, mechanism: Mechanism) -> Values:
    """The log-likelihood ratio of one step, which by Neyman and Pearson no other score beats.

    Between (1-q) N(0, σ²) + q N(1, σ²), where the record is in the data, and N(0, σ²), where it is not:
    log(1 - q + q exp((x - 1/2)/σ²)). For q = 1 it is the inner product, up to scale. Steps add up.

    Args:
        projections: the noised sum's inner product with the record's clipped gradient, in units of C².
        mechanism: as claimed.
    """
    rate = mechanism.sampling_rate
    exponent = (projections - 0.5) / mechanism.noise_multiplier**2
    if rate == 1:
        return exponent
    return np.logaddexp(math.log1p(-rate), math.log(rate) + exponent)
