"""Quantities over training, made fit to be drawn."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from counterpoint.runs.records import Series


def thinned(series: Series, points: int) -> Series:
    """Return at most ``points`` evenly spaced points, the first and the last among them."""
    if len(series.steps) <= points:
        return series
    kept = np.linspace(0, len(series.steps) - 1, max(2, points)).round().astype(np.int64)
    return Series(series.steps[kept], series.values[kept])


def smoothed(series: Series, share: float = 0.05) -> Series:
    """Return the centred moving mean over ``share`` of the points; at both ends, over those there are."""
    count = len(series.values)
    reach = int(count * share / 2)
    places = np.arange(count)
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach, count - 1) + 1
    total = np.concatenate([[0.0], np.cumsum(series.values)])
    return Series(series.steps, (total[last] - total[first]) / (last - first))


def averaged(several: Sequence[Series]) -> Series | None:
    """Return the mean of several series at the steps that all of them have; nothing where there are none."""
    steps = several[0].steps
    for series in several[1:]:
        steps = np.intersect1d(steps, series.steps)
    if not len(steps):
        return None
    values = [series.values[np.searchsorted(series.steps, steps)] for series in several]
    return Series(steps, np.mean(values, axis=0))


def conflict_share(cosines: Float[np.ndarray, " steps"]) -> float:
    """Return the share of steps whose gradients conflict: a negative cosine."""
    return float((cosines < 0).mean())
