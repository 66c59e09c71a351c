"""Whether probabilities are right: what was predicted against what happened, bin by bin."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from counterpoint.metrics.groups import Labels

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """What was predicted against what happened, bin by bin; bins without rows are left out.

    Attributes:
        predicted: the mean probability in each bin,
        observed: the share of positive rows,
        rows: and their number.
    """

    predicted: Float[np.ndarray, " bins"]
    observed: Float[np.ndarray, " bins"]
    rows: Int[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """The expected calibration error: Σ_b n_b / n |predicted_b - observed_b|; NaN without rows."""
        if not len(self.rows):
            return float("nan")
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.rows))


def calibration(
    probabilities: Float[np.ndarray, " rows"],
    labels: Labels,
    *,
    bins: int = BINS,
    spacing: Literal["quantiles", "even"] = "quantiles",
) -> Calibration:
    """Return the calibration curve of a label.

        >>> import numpy as np
        >>> curve = calibration(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0, 0, 1, 1]), bins=2)
        >>> round(curve.error, 4)
        0.2

    Args:
        probabilities: that the label is 1.
        labels: 1 or 0.
        bins: how many.
        spacing: bins with equally many rows, which tell something of rare labels too, or equally wide ones
            from 0 to 1 (Guo et al., ICML 2017, eq. 3).
    """
    shares = np.linspace(0, 1, bins + 1)[1:-1]
    if not len(probabilities):
        return Calibration(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    values = probabilities.astype(np.float64)
    of_rows = np.searchsorted(np.quantile(values, shares) if spacing == "quantiles" else shares, values)
    rows = np.bincount(of_rows, minlength=bins)
    filled = rows > 0
    predicted, observed = (
        np.bincount(of_rows, weights=each, minlength=bins)[filled] / rows[filled]
        for each in (values, labels > 0)
    )
    return Calibration(predicted, observed, rows[filled])
