"""Gradients turned until their cosines are what they usually were."""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.methods.pcgrad import random_orders
from counterpoint.balance.state import kept_of_blocks
from counterpoint.balance.step import Tasks


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

    name = "gradvac"
    source = "Wang et al., ICLR 2021, algorithm 1"
    promises = ("scales", "alone")
    length = "K"
    by_place = True
    stateful = ("draws", "usual")

    beta: float = 0.01
    seed: int = 0
    draws: int = field(default=0, init=False)
    usual: dict[str, dict[str, Float[np.ndarray, " blocks"]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        options.within("beta", self.beta, 0, 1)

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
        orders = random_orders(self.seed, self.draws, len(gramian))
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
