"""Exact confidence bounds on an error rate, from counts."""

from __future__ import annotations

from secure_train.dp.errors import InvalidParameterError


def upper_rate(errors: int, trials: int, failure: float) -> float:
    """The one-sided Clopper-Pearson bound: the rate is above it with probability at most `failure`.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial"
    (Biometrika 1934). Exact: it holds for every rate and number of trials, not only in the limit.

    Raises:
        InvalidParameterError: counts that cannot be, or a failure probability outside of (0, 1).
    """
    from scipy import stats

    if not 0 <= errors <= trials or trials < 1:
        raise InvalidParameterError(f"errors: must lie in 0 … trials, got {errors} of {trials}")
    if not 0 < failure < 1:
        raise InvalidParameterError(f"failure: must lie strictly between 0 and 1, got {failure!r}")
    if errors == trials:
        return 1.0
    return float(stats.beta.ppf(1 - failure, errors + 1, trials - errors))
