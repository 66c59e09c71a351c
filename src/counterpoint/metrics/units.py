"""What evaluation files hold of metrics that were measured unit by unit: impressions, or users."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from counterpoint.comparison.significance import bootstraps

_RESAMPLES = 1000


def told(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as files hold them: nothing where there was nothing to measure."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def intervals(per_unit: Mapping[str, Float[np.ndarray, " units"]]) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap interval of each metric's mean, the units drawn anew.

    Args:
        per_unit: from a metric's name to its value for each unit; all are NaN for the same units, those that
            are not scored, and where none is scored there is no interval.
    """
    values = np.stack(list(per_unit.values()), axis=1)
    if np.isnan(values).any(axis=1).all():
        return {}
    found = bootstraps(values, resamples=_RESAMPLES)
    return {name: (each.low, each.high) for name, each in zip(per_unit, found, strict=True)}
