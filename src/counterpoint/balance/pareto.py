"""Methods that look for a direction along which no task, or none but the target, is worse off."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from counterpoint.balance import checks
from counterpoint.balance.auxiliaries import kept_of_blocks
from counterpoint.balance.batch import Step, Tasks
from counterpoint.balance.blocks import BlockBalancer
from counterpoint.balance.losses import Reduction
from counterpoint.balance.quadratic import Units, hull_touches_zero, lifted, nonnegative_minimum

Normalization = Literal["none", "l2", "loss", "loss+"]


@dataclass(eq=False, repr=False)
class MGDA(BlockBalancer):
    """Takes the shortest convex combination of the gradients, along which no loss rises.

        g = Σ w_k g_k        w = argmin ‖Σ w_k g_k / c_k‖²  over  w >= 0, Σ w_k = 1

    with c_k = 1: MGDA (Désidéri, C. R. Math. 2012) for networks (Sener & Koltun, NeurIPS 2018), eq. 3. The
    other c_k are options of Sener and Koltun's code, not in the paper; as there, they decide on w, which
    then weighs the gradients as they are (LibMTL weighs the normalised ones). The minimum is exact; that code
    keeps the weights of two tasks within 0.001 and 0.999, others stop a Frank-Wolfe search early.

    Without normalisation ⟨g, g_k⟩ >= ‖g‖² for every task, and g = 0 just where no direction helps all. One
    zero gradient is enough for that: leave out a task that has none. The shorter a gradient, the more it
    weighs. Costs one backward pass per task. Scales with the gradients.

    Attributes:
        normalization: what c_k is: 1 ("none"), ‖g_k‖ ("l2"), |L_k| ("loss") or |L_k| ‖g_k‖ ("loss+").
    """

    normalization: Normalization = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("normalization", self.normalization, tuple(_DIVISORS))
        self.needs_losses = "loss" in self.normalization  # type: ignore[misc]

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the shortest combination."""
        units = Units.of(step.gramian)
        if not units.present.all():
            return ~units.present / np.count_nonzero(~units.present)
        # In multiples u of unit rows the constraint reads ⟨u, s⟩ = 1 with the s below, and its minimum is
        # that of ½ uᵀCu - ⟨u, s⟩ but for a factor.
        shares = _DIVISORS[self.normalization](units.norms, step) / units.norms
        if not shares.any():  # every loss is zero
            shares = 1 / units.norms
        shares /= shares.max()
        multiples = nonnegative_minimum(lifted(units.cosines), -shares[None])[0]
        weights: Float[np.ndarray, " rows"] = multiples * shares / (multiples @ shares)
        return weights


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

    c: float = 0.5
    rescale: Literal[0, 1, 2] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.from_zero("c", self.c)
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


@dataclass(eq=False, repr=False)
class UPGrad(BlockBalancer):
    """Projects every gradient onto the directions that conflict with no task, then averages them.

        g = (1/K) Σ_i argmin ‖d - g_i‖²  over  ⟨g_k, d⟩ >= 0 for all k

    UPGrad (Quinton & Rey, arXiv 2406.16232, 2024), with the projections as combinations g_i + Σ v_j g_j,
    v >= 0, of proposition 1. They are exact; the authors' code adds 1e-4 to the normalised Gramian, and takes
    the plain mean of gradients that are shorter than 0.01 together.

    Promises ⟨g, g_k⟩ >= 0 for every task, however many and however dependent on each other, and that g is
    linear in the gradients' lengths. For two tasks it is the mean of PCGrad. Costs one backward pass per
    task. Scales with the gradients.

    Attributes:
        reduction: "mean", as published, or "sum" over the batch's tasks, zero gradients included.
    """

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("reduction", self.reduction, ("mean", "sum"))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the projections' mean or sum."""
        units = Units.of(step.gramian)
        added = nonnegative_minimum(lifted(units.cosines), units.cosines)
        weights = 1 + units.weights(units.norms @ added)
        return weights / len(weights) if self.reduction == "mean" else weights


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

    tau: float = 0.02
    beta: float = 0.999
    averages: dict[str, Float[np.ndarray, " blocks"]] = field(default_factory=dict, init=False)
    counts: dict[str, int] = field(default_factory=dict, init=False)
    needs_target: ClassVar[bool] = True
    by_place: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("averages", "counts")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.within("tau", self.tau, 0, 1)
        checks.below_one("beta", self.beta)

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


_DIVISORS: Mapping[str, Callable[[Float[np.ndarray, " rows"], Step], Float[np.ndarray, " rows"]]] = {
    "none": lambda norms, step: np.ones_like(norms),
    "l2": lambda norms, step: norms,
    "loss": lambda norms, step: np.abs(step.values),
    "loss+": lambda norms, step: np.abs(step.values) * norms,
}


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
