"""Quadratic programs over a handful of gradients of which only the inner products are known.

The rows come as unit rows, so that no threshold depends on how long a gradient is, beside another one or
at all.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from counterpoint.balance.report import cosines

# An eigenvalue of the cosines below this, times the number of rows, may be rounding alone.
_ROUNDING = 1e-14

# The convex hull of unit rows counts as touching 0 where the square of its distance is below this: the
# direction of its nearest point is then lost to the rounding of the inner products.
_TOUCHING = 1e-9


@dataclass(frozen=True, eq=False)
class Units:
    """The rows of a Gramian that are not zero, as unit rows and their norms.

    Attributes:
        present: which rows are not zero.
        norms: their norms.
        cosines: their inner products as unit rows.
    """

    present: Bool[np.ndarray, " rows"]
    norms: Float[np.ndarray, " units"]
    cosines: Float[np.ndarray, "units units"]

    @classmethod
    def of(cls, gramian: Float[np.ndarray, "rows rows"]) -> "Units":
        """Take a Gramian apart."""
        squares = np.diagonal(gramian)
        present = squares > 0
        return cls(present, np.sqrt(squares[present]), cosines(gramian)[np.ix_(present, present)])

    def weights(
        self, of_units: Float[np.ndarray, " units"], of_zeros: float = 0.0
    ) -> Float[np.ndarray, " rows"]:
        """Return the weights of all rows, given those of the unit rows."""
        weights = np.full(len(self.present), of_zeros)
        weights[self.present] = of_units / self.norms
        return weights


def lifted(
    matrix: Float[np.ndarray, "rows rows"], lowest: float | None = None
) -> Float[np.ndarray, "rows rows"]:
    """Return the cosines with their diagonal raised as far as it takes to have no eigenvalue below `lowest`.

    Rows that depend on each other, exactly or but for rounding, then share a weight evenly instead of
    leaving it undefined. The default is the size of rounding; cosines of independent rows come back as they
    are.
    """
    if lowest is None:
        lowest = _ROUNDING * len(matrix)
    missing = lowest - float(np.linalg.eigvalsh(matrix)[0]) if len(matrix) else 0.0
    return matrix + max(0.0, missing) * np.eye(len(matrix))


def nonnegative_minimum(
    matrix: Float[np.ndarray, "rows rows"], linear: Float[np.ndarray, "problems rows"]
) -> Float[np.ndarray, "problems rows"]:
    """Return the x >= 0 that minimises ½ xᵀAx + qᵀx, for a positive definite A and every q.

    The active-set method of Lawson and Hanson (1974), for all problems at once and with every coordinate
    that would lower the objective let in at a time: exact after a few linear systems. Every iterate is
    feasible and none is worse than the one before, so that rounding can end it early but not astray.
    """
    size = len(matrix)
    magnitudes = np.abs(matrix)
    x = np.zeros_like(linear)
    free = np.zeros(linear.shape, dtype=bool)
    settled = np.ones((len(linear), 1), dtype=bool)
    for _ in range(5 * size + 5):
        slope = x @ matrix + linear
        rounding = 4 * size * np.finfo(float).eps * (x @ magnitudes + np.abs(linear))
        entering = settled & ~free & (slope < -rounding)
        if settled.all() and not entering.any():
            break
        free |= entering
        both = free[:, :, None] & free[:, None, :]
        systems = np.where(both, matrix, np.eye(size))
        goal = np.linalg.solve(systems, np.where(free, -linear, 0.0)[:, :, None])[:, :, 0]
        short = free & (goal <= 0)
        reach = np.divide(x, x - goal, out=np.ones_like(x), where=short & (x > goal))
        step = reach.min(axis=1, keepdims=True)
        leaving = short & (reach <= step)
        x = np.where(leaving, 0.0, x + step * (goal - x))
        free &= ~leaving
        settled = np.logical_not(short.any(axis=1, keepdims=True))
    return x


def hull_touches_zero(matrix: Float[np.ndarray, "units units"]) -> bool:
    """Return whether some convex combination of unit rows vanishes, given their lifted cosines.

    Then no direction has a positive inner product with all of them.
    """
    multiples = nonnegative_minimum(matrix, -np.ones((1, len(matrix))))
    return bool(_TOUCHING * multiples.sum() >= 1)  # the sum is one over the squared distance
