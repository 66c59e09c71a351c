"""Gradients projected off those they conflict with, one after the other: PCGrad and PCGrad+."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.options import Reduction
from counterpoint.balance.step import Step


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

    name = "pcgrad"
    source = "Yu et al., NeurIPS 2020, algorithm 1"
    promises = ("scales", "sum without conflict", "alone")
    length = "K"
    stateful = ("draws",)

    reduction: Reduction = "sum"
    seed: int = 0
    draws: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        options.one_of("reduction", self.reduction, ("sum", "mean"))

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

    name = "pcgrad_plus"
    source = "baseline PCGrad+ of Bai et al., KDD 2024, eq. 5"
    promises = ("scales", "alone")
    length = "1"
    stateful = ("draws",)

    tau: float = 0.1
    reduction: Reduction = "mean"
    seed: int = 0
    draws: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        options.within("tau", self.tau, 0, 1)
        options.one_of("reduction", self.reduction, ("sum", "mean"))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the projected gradients' mean or sum."""
        factors = towards_longest(norms_of(step.gramian), self.tau)
        adjusted = factors[:, None] * step.gramian * factors
        weights: Float[np.ndarray, " rows"] = factors * _projected_sum(adjusted, self.seed, self.draws)
        self.draws += 1
        return weights / len(weights) if self.reduction == "mean" else weights


def _projected_sum(
    gramian: Float[np.ndarray, "rows rows"], seed: int, draws: int
) -> Float[np.ndarray, " rows"]:
    """Return the weights of the sum of all gradients, each projected off those it conflicts with."""
    products = gramian.tolist()  # so few numbers that lists are faster than arrays
    weights = [1.0] * len(products)
    if min(map(min, products)) >= 0:
        return np.array(weights)
    squares = [row[i] for i, row in enumerate(products)]
    for i, order in enumerate(random_orders(seed, draws, len(products))):
        inner = products[i]  # of v with every gradient
        for j in order:
            if inner[j] < 0 < squares[j]:
                factor = -inner[j] / squares[j]
                weights[j] += factor
                inner = [old + factor * new for old, new in zip(inner, products[j], strict=True)]
    return np.array(weights)


def random_orders(seed: int, draws: int, tasks: int) -> list[list[int]]:
    """Return for every task the others in random order."""
    order = np.random.default_rng((seed, draws)).random((tasks, tasks - 1)).argsort(axis=1)
    order += order >= np.arange(tasks)[:, None]
    orders: list[list[int]] = order.tolist()
    return orders


def norms_of(products: Float[np.ndarray, "*blocks rows rows"]) -> Float[np.ndarray, "*blocks rows"]:
    """Return the rows' norms."""
    norms: Float[np.ndarray, "*blocks rows"] = np.sqrt(np.diagonal(products, axis1=-2, axis2=-1))
    return norms


def towards_longest(
    norms: Float[np.ndarray, "*blocks rows"], tau: float
) -> Float[np.ndarray, "*blocks rows"]:
    """Return what every gradient is multiplied by: τ max_j ‖g_j‖ / ‖g_i‖ + 1 - τ; a zero one by 1."""
    longest = norms.max(axis=-1, keepdims=True)
    ratios: Float[np.ndarray, "*blocks rows"] = np.divide(
        longest, norms, out=np.ones_like(norms), where=norms > 0
    )
    return tau * ratios + (1 - tau)
