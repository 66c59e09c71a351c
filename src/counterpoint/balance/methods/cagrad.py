"""The task that gains least, raised within a ball around the mean gradient."""

from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.quadratic import Units, hull_touches_zero, lifted, nonnegative_minimum
from counterpoint.balance.step import Step


@dataclass(eq=False, repr=False)
class CAGrad(BlockBalancer):
    """Raises the task that gains least, as far as a ball around the mean gradient allows.

        g = argmax min_k ⟨g_k, d⟩  over  ‖d - g_0‖ <= c ‖g_0‖        g_0 = (1/K) Σ g_k

    which is g_0 + c ‖g_0‖ g_w / ‖g_w‖ for the g_w = Σ w_k g_k, w >= 0, Σ w_k = 1, that minimises
    ⟨g_w, g_0⟩ + c ‖g_0‖ ‖g_w‖: CAGrad (Liu et al., NeurIPS 2021), algorithm 1. Solved exactly, by way of
    the largest t such that the nearest d to g_0 with ⟨g_k, d⟩ >= t lies in the ball; the authors' code adds
    1e-8 to all norms, which small gradients do not survive, and multiplies g by K to replace a sum of losses.

    Where g_w = 0, no direction helps all tasks, several d are best, and the one nearest to g_0 is taken: it
    hurts no task. With c < 1 the mean loss still falls. A task alone gets (1 + c) g_1. Costs one backward
    pass per task. Scales with the gradients.

    Attributes:
        c: the radius of the ball in lengths of g_0: 0 gives the mean gradient, a large one MGDA's direction.
        rescale: what g is divided by: 0, nothing, as published; 1, 1 + c², as in the authors' experiments;
            2, 1 + c.
    """

    name = "cagrad"
    family = "Pareto and fairness"
    source = "Liu et al., NeurIPS 2021, algorithm 1"
    promises = ("scales", "symmetric")
    length = "1 + c"

    c: float = 0.5
    rescale: Literal[0, 1, 2] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        options.from_zero("c", self.c)
        if self.rescale not in (0, 1, 2):
            raise ValueError(f"rescale must be 0, 1 or 2, not {self.rescale!r}.")

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the mean gradient and of what it is moved by."""
        tasks = len(step.gramian)
        weights = np.full(tasks, 1 / tasks)
        units = Units.of(step.gramian)
        if units.present.any():
            longest = units.norms.max()
            norms = units.norms / longest
            of_mean = norms / tasks
            length = sqrt(max(0.0, of_mean @ units.cosines @ of_mean))
            if length > 1e-8 * of_mean.sum():  # below, the gradients cancel but for rounding
                improvable = bool(units.present.all())  # a zero gradient gains nothing from any step
                added = _raise_least(lifted(units.cosines), of_mean, norms, self.c * length, improvable)
                weights += units.weights(longest * added)
        return weights / (1.0, 1 + self.c**2, 1 + self.c)[self.rescale]


def _raise_least(
    matrix: Float[np.ndarray, "units units"],
    start: Float[np.ndarray, " units"],
    norms: Float[np.ndarray, " units"],
    radius: float,
    improvable: bool,
) -> Float[np.ndarray, " units"]:
    """Return the addition to a vector that makes its least inner product with the rows the greatest.

    Vectors are combinations of unit rows. The shortest addition that takes the least product to a given
    level solves a quadratic program and grows with the level; as long as the same rows are at that level,
    the one of a given length follows from a quadratic equation.

    Args:
        matrix: the unit rows' cosines, lifted.
        start: the vector.
        norms: the rows' norms.
        radius: the greatest length of the addition.
        improvable: whether the least product could be positive.
    """
    inner, per_norm = matrix @ start, 1 / norms

    def addition(level: float) -> Float[np.ndarray, " units"]:
        found: Float[np.ndarray, " units"] = nonnegative_minimum(matrix, (inner - level * per_norm)[None])[0]
        return found

    low = float((norms * inner).min())
    high = float((norms * (inner + 1.001 * radius)).min())  # no single row gets there
    if high > 0 and (not improvable or hull_touches_zero(matrix)):
        high = 0.0
        added = addition(high)
        if added @ matrix @ added <= radius**2:
            return added
    level, active = high, np.zeros(0, dtype=bool)
    for _ in range(100):
        added = addition(level)
        square = float(added @ matrix @ added)
        if abs(square - radius**2) <= (1e-6 if np.array_equal(active, added > 0) else 1e-13) * radius**2:
            break
        low, high = (level, high) if square < radius**2 else (low, level)
        active = added > 0
        level = _level(matrix, inner, per_norm, radius, active)
        if not low < level < high:
            level, active = (low + high) / 2, np.zeros(0, dtype=bool)
    if square > radius**2:
        added *= radius / sqrt(square)
    return added


def _level(
    matrix: Float[np.ndarray, "units units"],
    inner: Float[np.ndarray, " units"],
    per_norm: Float[np.ndarray, " units"],
    radius: float,
    active: Bool[np.ndarray, " units"],
) -> float:
    """Return the level that takes an addition of length `radius` if these rows are active; inf if none is."""
    if not active.any():
        return inf
    rates, offset = np.linalg.solve(
        matrix[np.ix_(active, active)], np.stack((per_norm[active], inner[active]), axis=1)
    ).T  # the addition is level · rates - offset
    a, b = float(rates @ per_norm[active]), float(rates @ inner[active])
    c = float(offset @ inner[active]) - radius**2
    return (b + sqrt(max(0.0, b * b - a * c))) / a
