"""How far a difference can be trusted: paired bootstrap over impressions, spread over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from counterpoint.errors import CounterpointError

_DRAWS = 1 << 22  # indices drawn at once: 16 MB, whatever the number of impressions


class Interval(NamedTuple):
    """A mean difference with its 95 % bootstrap interval.

    Attributes:
        mean_difference: the mean of a − b.
        low: its 2.5 % quantile over the resamples.
        high: its 97.5 % quantile.
        p_value: two-sided; the share of resamples on the far side of zero, doubled.
    """

    mean_difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    a: Float[np.ndarray, " impressions"],
    b: Float[np.ndarray, " impressions"],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compare two rankings of the same impressions by resampling the impressions with replacement.

    Percentile interval of the mean of a − b; p = 2 (1 + min(#{≤ 0}, #{≥ 0})) / (1 + resamples), at most 1.
    Impressions that either leaves unscored (NaN) are dropped from both. With zeros for ``b`` it is the
    interval of the mean of ``a`` itself.

    Raises:
        CounterpointError: the two cover different impressions, or none is scored in both.
    """
    if a.shape != b.shape:
        raise CounterpointError(
            f"The two rankings cover {len(a)} and {len(b)} impressions; evaluate both on the same split."
        )
    difference = (a - b)[~np.isnan(a) & ~np.isnan(b)].astype(np.float64)
    if not len(difference):
        raise CounterpointError(
            "No impression is scored in both rankings; evaluate on impressions with clicks and non-clicks."
        )
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, _DRAWS // len(difference))
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = rng.integers(len(difference), size=(stop - start, len(difference)), dtype=np.int32)
        means[start:stop] = difference[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return Interval(
        mean_difference=float(difference.mean()),
        low=float(low),
        high=float(high),
        p_value=min(1.0, float(2 * (1 + beyond) / (1 + resamples))),
    )


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and the sample standard deviation (n − 1), NaN for a single seed.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("No values to average.")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
