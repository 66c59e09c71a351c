"""Methods that change the directions of gradients and treat all tasks alike."""

from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks
from counterpoint.balance.auxiliaries import kept_of_blocks
from counterpoint.balance.batch import Step, Tasks
from counterpoint.balance.blocks import BlockBalancer
from counterpoint.balance.losses import Reduction


@dataclass(eq=False, repr=False)
class PCGrad(BlockBalancer):
    """Projects every task's gradient off each other task's that it conflicts with, then adds them up.

    For every task i, v starts as g_i and meets the other tasks j in random order: where ⟨v, g_j⟩ < 0,

        v ← v - ⟨v, g_j⟩ / ‖g_j‖² g_j

    with g_j as it was before any projection: PCGrad (Yu et al., NeurIPS 2020), algorithm 1. The order is
    drawn afresh for every task, step and block and never contains i itself (in the authors' code it is
    fixed, with i). The draws follow from `seed` and from how many came before, so ranks agree and resumed
    runs continue. Costs one backward pass per task. Scales with the gradients.

    Attributes:
        reduction: "sum", as published, or "mean" over the batch's tasks.
        seed: what the random orders follow from.
        granularity: where conflicts are judged: over all shared parameters, or in each block by itself.
    """

    reduction: Reduction = "sum"
    seed: int = 0
    draws: int = field(default=0, init=False)
    stateful: ClassVar[tuple[str, ...]] = ("draws",)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("reduction", self.reduction, ("sum", "mean"))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the projected gradients' sum or mean."""
        weights = _projected_sum(step.gramian, self.seed, self.draws)
        self.draws += 1
        return weights / len(weights) if self.reduction == "mean" else weights


@dataclass(eq=False, repr=False)
class PCGradPlus(BlockBalancer):
    """Brings the gradients nearer to the longest one's length before PCGrad projects them.

        ĝ_i = τ max_j ‖g_j‖ / ‖g_i‖ g_i + (1 - τ) g_i

    (eq. 5), then algorithm 1 of PCGrad on the ĝ: the baseline PCGrad+ of GradCraft (Bai et al., KDD 2024),
    averaged over the tasks like GradCraft itself (eq. 10). With τ = 0 it is PCGrad. The published code knows
    a similarity to aim for as well, which it adds to every coordinate as a number; that is left out. Costs
    one backward pass per task. Scales with the gradients; a zero gradient stays zero.

    Attributes:
        tau: how far the norms move to the greatest, from 0 to 1; the paper tunes it by tenths.
        reduction: "mean" over the batch's tasks, as published, or "sum".
        seed: what the random orders follow from, as in PCGrad.
        granularity: where norms and conflicts are taken: over all shared parameters, or in each block.
    """

    tau: float = 0.1
    reduction: Reduction = "mean"
    seed: int = 0
    draws: int = field(default=0, init=False)
    stateful: ClassVar[tuple[str, ...]] = ("draws",)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.within("tau", self.tau, 0, 1)
        checks.one_of("reduction", self.reduction, ("sum", "mean"))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the projected gradients' mean or sum."""
        factors = _towards_longest(_norms(step.gramian), self.tau)
        adjusted = factors[:, None] * step.gramian * factors
        weights: Float[np.ndarray, " rows"] = factors * _projected_sum(adjusted, self.seed, self.draws)
        self.draws += 1
        return weights / len(weights) if self.reduction == "mean" else weights


@dataclass(eq=False, repr=False)
class GradVac(BlockBalancer):
    """Turns every task's gradient towards each other task's until their cosine is what it usually was.

    For every task i, v starts as g_i and meets the other tasks j in random order. With φ = cos(v, g_j),
    where φ < ρ_ij,

        v ← v + ‖v‖ (ρ_ij √(1 - φ²) - φ √(1 - ρ_ij²)) / (‖g_j‖ √(1 - ρ_ij²)) g_j

    after which the cosine is ρ_ij, and at every visit, changed or not, ρ_ij ← (1 - β) ρ_ij + β φ with φ from
    before the change: Gradient Vaccine (Wang et al., ICLR 2021), algorithm 1. The v are added up. All ρ
    start at 0, so that the first step is PCGrad's; positive ones then draw tasks together that do not
    conflict. Some published code moves ρ_ij only when v was changed, and averages.

    ρ is kept for every ordered pair of tasks and every block; a task the batch lacks keeps its own. Where v
    or g_j is zero there is no cosine, and where ρ_ij is within 1e-12 of ±1 no multiple of g_j to reach it:
    then v stays. Costs one backward pass per task. Scales with the gradients.

    Attributes:
        beta: β, the pace of ρ.
        seed: what the random orders follow from, as in PCGrad.
        granularity: where cosines are taken: over all shared parameters, or in each block by itself.

    Raises:
        ValueError: blocks other than those that ρ is kept for.
    """

    beta: float = 0.01
    seed: int = 0
    draws: int = field(default=0, init=False)
    usual: dict[str, dict[str, Float[np.ndarray, " blocks"]]] = field(default_factory=dict, init=False)
    by_place: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("draws", "usual")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.within("beta", self.beta, 0, 1)

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Return the weights of the turned gradients' sum, and move ρ on."""
        usual = self._recalled(products.shape, rows.names)
        weights = [self._turned(gramian, of_block) for gramian, of_block in zip(products, usual, strict=True)]
        for i, task in enumerate(rows.names):
            kept = self.usual.setdefault(task, {})
            kept |= {other: usual[:, i, j].copy() for j, other in enumerate(rows.names) if j != i}
        return np.array(weights).reshape(products.shape[:2])

    def _recalled(
        self, shape: tuple[int, ...], names: tuple[str, ...]
    ) -> Float[np.ndarray, "blocks rows rows"]:
        """Return ρ, which is 0 for new pairs."""
        usual = np.zeros(shape)
        for i, task in enumerate(names):
            kept = self.usual.get(task, {})
            for j, other in enumerate(names):
                if other in kept:
                    usual[:, i, j] = kept_of_blocks(kept, other, 0.0, usual[:, i, j])
        return usual

    def _turned(
        self, gramian: Float[np.ndarray, "rows rows"], usual: Float[np.ndarray, "rows rows"]
    ) -> Float[np.ndarray, " rows"]:
        """Return the weights of one block; writes the new ρ into `usual`."""
        orders = _orders(self.seed, self.draws, len(gramian))
        self.draws += 1
        products = gramian.tolist()
        squares = [row[i] for i, row in enumerate(products)]
        weights = [1.0] * len(products)
        for i, order in enumerate(orders):
            inner, square = products[i], squares[i]  # of v with every gradient, and with itself
            longest = square  # what v was or was given, by which to tell a v that is no more than rounding
            for j in order:
                if not (square > 1e-16 * longest and squares[j] > 0):
                    continue
                ratio = sqrt(square / squares[j])
                cosine = min(1.0, max(-1.0, inner[j] / sqrt(square) / sqrt(squares[j])))
                aim = float(usual[i, j])
                usual[i, j] = (1 - self.beta) * aim + self.beta * cosine
                if cosine < aim and 1 - aim * aim > 1e-12:
                    factor = ratio * (sqrt(1 - cosine * cosine) * aim / sqrt(1 - aim * aim) - cosine)
                    weights[j] += factor
                    square += factor * (2 * inner[j] + factor * squares[j])
                    longest = max(longest, square, factor * factor * squares[j])
                    inner = [old + factor * new for old, new in zip(inner, products[j], strict=True)]
        return np.array(weights)


@dataclass(eq=False, repr=False)
class GradCraft(BlockBalancer):
    """Brings the gradients nearer to one length, then projects each off all that it conflicts with at once.

        ĝ_i = τ max_j ‖g_j‖ / ‖g_i‖ g_i + (1 - τ) g_i                                     (eq. 5)
        g̃_i = ĝ_i + wᵀG_i    with    G_i G_iᵀ w = z - G_i ĝ_i,    z_j = ε ‖ĝ_i‖ ‖ĝ_j‖    (eq. 6, 7, 9)

    where the rows of G_i are the ĝ_j with ⟨ĝ_i, ĝ_j⟩ < 0, and the merged gradient is the mean of the g̃_i
    (eq. 10): GradCraft (Bai et al., KDD 2024), algorithm 1. In print, eq. 8 has g̃_i where eq. 9 rightly has
    the second G_i, and the denominator of eq. 11 lacks its square. Norms and conflicts are those of the
    shared parameters; the authors' code takes the heads' gradients in, adjusts them too, and takes a
    gradient whose coordinates add up to 0 for none.

    For two tasks and ε = 0 it is PCGrad+. Linearly dependent gradients, which have no inverse in eq. 9, get
    the least-squares solution. The default ε lies so low that gradients in single precision do not show it.

    It does not promise that nothing conflicts in the end: g̃_i agrees with those that ĝ_i conflicted with,
    and may come to conflict with others by that. Of (2, 0, -1), (-1, 1, 0) and (0, -1, 0), with τ = ε = 0,
    the first becomes (1, 1, -1), against the third, with which it was at a right angle, and the mean
    (1/10, 1/6, -7/15) raises the third's loss. Costs one backward pass per task. Scales with the gradients;
    a zero gradient stays zero.

    Attributes:
        tau: τ, how far the norms move to the greatest, from 0 to 1.
        epsilon: ε, the cosine to aim for with the gradients conflicting, by the norm of ĝ_i.
        granularity: where norms and conflicts are taken: over all shared parameters, or in each block.
    """

    tau: float = 0.1
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.within("tau", self.tau, 0, 1)
        checks.within("epsilon", self.epsilon, 0, 1)

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Return the weights of the mean of the gradients without their conflicts."""
        norms = _norms(products)
        lengths = np.where(norms > 0, norms, 1.0)
        cosines = products / lengths[:, :, None] / lengths[:, None]  # of the g as of the ĝ
        against = cosines < 0
        # Every task's G Gᵀ in rows of length 1, with the identity in the places of those not in G.
        inside = against[:, :, :, None] & against[:, :, None]
        systems = np.where(inside, cosines[:, None], np.eye(len(rows.names)))
        missing = np.where(against, self.epsilon - cosines, 0.0)
        inverses = np.linalg.pinv(systems, rcond=_SMALLEST_ANGLE, hermitian=True)
        units = (inverses @ missing[..., None])[..., 0]
        factors = _towards_longest(norms, self.tau)
        added = ((factors * norms)[:, :, None] * units).sum(axis=1) / lengths
        weights: Float[np.ndarray, "blocks rows"] = (factors + added) / len(rows.names)
        return weights


_SMALLEST_ANGLE = 1e-8
"""Eigenvalues of a matrix of cosines, relative to the largest, that single precision cannot tell from 0."""


def _norms(products: Float[np.ndarray, "*blocks rows rows"]) -> Float[np.ndarray, "*blocks rows"]:
    norms: Float[np.ndarray, "*blocks rows"] = np.sqrt(np.diagonal(products, axis1=-2, axis2=-1))
    return norms


def _towards_longest(
    norms: Float[np.ndarray, "*blocks rows"], tau: float
) -> Float[np.ndarray, "*blocks rows"]:
    """Return what every gradient is multiplied by: τ max_j ‖g_j‖ / ‖g_i‖ + 1 - τ; a zero one by 1."""
    longest = norms.max(axis=-1, keepdims=True)
    ratios: Float[np.ndarray, "*blocks rows"] = np.divide(
        longest, norms, out=np.ones_like(norms), where=norms > 0
    )
    return tau * ratios + (1 - tau)


def _orders(seed: int, draws: int, tasks: int) -> list[list[int]]:
    """Return for every task the others in random order."""
    order = np.random.default_rng((seed, draws)).random((tasks, tasks - 1)).argsort(axis=1)
    order += order >= np.arange(tasks)[:, None]
    orders: list[list[int]] = order.tolist()
    return orders


def _projected_sum(
    gramian: Float[np.ndarray, "rows rows"], seed: int, draws: int
) -> Float[np.ndarray, " rows"]:
    """Return the weights of the sum of all gradients, each projected off those it conflicts with."""
    products = gramian.tolist()  # so few numbers that lists are faster than arrays
    weights = [1.0] * len(products)
    if min(map(min, products)) >= 0:
        return np.array(weights)
    squares = [row[i] for i, row in enumerate(products)]
    for i, order in enumerate(_orders(seed, draws, len(products))):
        inner = products[i]  # of v with every gradient
        for j in order:
            if inner[j] < 0 < squares[j]:
                factor = -inner[j] / squares[j]
                weights[j] += factor
                inner = [old + factor * new for old, new in zip(inner, products[j], strict=True)]
    return np.array(weights)
