"""How far a difference can be trusted: bootstrap over impressions, spread and test over seeds, Holm."""

import math
from collections.abc import Mapping, Sequence
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
    return bootstraps((a - b)[:, None], resamples=resamples, seed=seed)[0]


def bootstraps(
    differences: Float[np.ndarray, "impressions columns"], *, resamples: int = 2000, seed: int = 0
) -> list[Interval]:
    """Return what `paired_bootstrap` says of every column, all of them judged on the same resamples.

    Impressions in which any column is NaN are dropped from all.

    Raises:
        CounterpointError: no impression is left.
    """
    known = differences[~np.isnan(differences).any(axis=1)].astype(np.float64)
    count = len(known)
    if not count:
        raise CounterpointError(
            "No impression is scored in both rankings; evaluate on impressions with clicks and non-clicks."
        )
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, known.shape[1]))
    rows = max(1, _DRAWS // count)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = rng.integers(count, size=(stop - start, count), dtype=np.int32)
        # How often each impression was drawn serves all columns, as one matrix product.
        drawn = drawn + count * np.arange(stop - start)[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        means[start:stop] = times.astype(np.float64) @ known / count
    lows, highs = np.quantile(means, [0.025, 0.975], axis=0)
    beyond = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    p_values = np.minimum(1.0, 2 * (1 + beyond) / (1 + resamples))
    columns = zip(known.mean(axis=0), lows, highs, p_values, strict=True)
    return [Interval(*map(float, column)) for column in columns]


class SeedTest(NamedTuple):
    """A paired t-test over seeds.

    Attributes:
        mean_difference: the mean of a − b over the seeds.
        t: that mean in units of its standard error.
        p_value: two-sided.
    """

    mean_difference: float
    t: float
    p_value: float


def paired_t_test(a: Sequence[float], b: Sequence[float]) -> SeedTest | None:
    """Test whether two recipes differ, seed by seed: t = d̄ √n / s with n − 1 degrees of freedom.

    Seeds stand in for trainings that might have been: this asks whether the recipe is better, where the
    bootstrap over impressions asks whether these very models are. Without at least two seeds there is no
    test. Differences without any spread give p = 0, or p = 1 if all are zero.

    Raises:
        ValueError: the two have different numbers of seeds.
    """
    differences = [first - second for first, second in zip(a, b, strict=True)]
    if len(differences) < 2 or not all(map(math.isfinite, differences)):
        return None
    mean, spread = mean_and_spread(differences)
    if spread == 0:
        return SeedTest(mean, math.copysign(math.inf, mean) if mean else 0.0, float(mean == 0))
    t = mean * math.sqrt(len(differences)) / spread
    return SeedTest(mean, t, _two_sided(t, len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being several (Holm 1979).

    With m of them in rising order, p̃_(i) = max_{j ≤ i} min(1, (m − j + 1) p_(j)): the chance that any is
    below α without there being a difference is at most α.
    """
    adjusted = [1.0] * len(p_values)
    least = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = least
    return adjusted


def intervals(per_unit: Mapping[str, Float[np.ndarray, " units"]]) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap interval of each metric's mean, the units drawn anew.

    Args:
        per_unit: from a metric's name to its value for each unit; all are NaN for the same units, those that
            are not scored, and where none is scored there is no interval.
    """
    values = np.stack(list(per_unit.values()), axis=1)
    if np.isnan(values).any(axis=1).all():
        return {}
    found = bootstraps(values, resamples=1000)
    return {name: (each.low, each.high) for name, each in zip(per_unit, found, strict=True)}


def _two_sided(t: float, degrees: int) -> float:
    """Return P(|T| ≥ |t|) of Student's distribution (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(abs(t) / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    total, term = 0.0, cosine if odd else 1.0
    for place in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine * cosine * (place - 1) / place
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, 1 - inside))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and the sample standard deviation (n − 1), NaN for a single seed.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("No values to average.")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
