"""The target, followed as closely as progress for all others allows."""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.quadratic import Units, hull_touches_zero, lifted, nonnegative_minimum
from counterpoint.balance.state import kept_of_blocks
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class PCD(BlockBalancer):
    """Follows the target as closely as a guaranteed share of progress for every other task allows.

    With g̃_k = g_k / √v_k and the moving average v_k of ‖g_k‖², corrected for starting at 0,

        d = argmin ½ ‖d - g̃_t‖²  over  ⟨g̃_i, d⟩ >= τ ‖g̃_i‖² for all i ≠ t        g = ‖g_t‖ d / ‖d‖

    PCD (Varam & AlHajri, TMLR 2026), definitions 4.1 and 4.5 and algorithm 1; without its ε under the root.
    Where no d satisfies all constraints, as with two opposite auxiliary gradients, they are dropped and
    g = g_t; where g_t = 0 or d = 0, g = 0. As published, the promise holds for d: g has its direction, and
    the norm of g_t, however short d is. Where the progress asked for goes against the target, its loss rises
    by such a step. A zero auxiliary gradient asks for nothing.

    The averages are a task's own, and each block's: a batch that lacks a task leaves it as it is, and one
    without the target gives the plain sum. Costs one backward pass per task. Scales with the gradients if
    they all do, the past ones included; an auxiliary loss may be multiplied by any constant.

    Attributes:
        tau: τ, from 0 (no auxiliary loss rises) to 1.
        beta: the decay of the averages, from 0 to below 1.
    """

    name = "pcd"
    family = "Target first"
    source = "Varam & AlHajri, TMLR 2026, definitions 4.1 and 4.5, algorithm 1"
    promises = ("scales", "symmetric", "alone")
    length = "1"
    needs_target = True
    by_place = True
    stateful = ("averages", "counts")

    tau: float = 0.02
    beta: float = 0.999
    averages: dict[str, Float[np.ndarray, " blocks"]] = field(default_factory=dict, init=False)
    counts: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        options.within("tau", self.tau, 0, 1)
        options.below_one("beta", self.beta)

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Return the weights in every block, and move the averages on."""
        squares = np.diagonal(products, axis1=1, axis2=2)
        pasts = [kept_of_blocks(self.averages, task, 0.0, squares[:, 0]) for task in rows.names]
        each = zip(rows.names, pasts, squares.T, strict=True)
        usual = np.stack([self._averaged(*of_task) for of_task in each], axis=1)
        if rows.target is None:
            return np.ones(products.shape[:2])
        blocks = zip(products, usual, strict=True)
        return np.stack([_follow(rows.target, gramian, norms, self.tau) for gramian, norms in blocks])

    def _averaged(
        self, task: str, past: Float[np.ndarray, " blocks"], squares: Float[np.ndarray, " blocks"]
    ) -> Float[np.ndarray, " blocks"]:
        """Return the root of a task's average, this step's squares included."""
        self.averages[task] = self.beta * past + (1 - self.beta) * squares
        self.counts[task] = self.counts.get(task, 0) + 1
        roots: Float[np.ndarray, " blocks"] = np.sqrt(
            self.averages[task] / (1 - self.beta ** self.counts[task])
        )
        return roots


def _follow(
    target: int, gramian: Float[np.ndarray, "rows rows"], usual: Float[np.ndarray, " rows"], tau: float
) -> Float[np.ndarray, " rows"]:
    """Return PCD's weights in one block, given the roots of the averages."""
    units = Units.of(gramian)
    weights = np.zeros(len(gramian))
    if not units.present[target]:
        return weights
    first = np.count_nonzero(units.present[:target])
    lengths = units.norms / usual[units.present]
    cosines = np.delete(units.cosines[first], first)
    others = lifted(np.delete(np.delete(units.cosines, first, axis=0), first, axis=1))
    slack = lengths[first] * cosines - tau * np.delete(lengths, first)
    multipliers = np.zeros(len(slack))
    if (slack < 0).any():
        if tau > 0 and hull_touches_zero(others):
            weights[target] = 1.0
            return weights
        multipliers = nonnegative_minimum(others, slack[None])[0]
    multiples = np.insert(multipliers, first, lengths[first])
    square = multiples @ units.cosines @ multiples
    if square <= 1e-14 * len(multiples) * multiples.sum() ** 2:  # d = 0 but for rounding
        return weights
    return units.weights(multiples * units.norms[first] / sqrt(square))
