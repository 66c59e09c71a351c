"""Gradients projected onto the directions that conflict with no task."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.options import Reduction
from counterpoint.balance.quadratic import Units, lifted, nonnegative_minimum
from counterpoint.balance.step import Step


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

    name = "upgrad"
    family = "Pareto and fairness"
    source = "Quinton & Rey, arXiv 2406.16232, 2024, proposition 1"
    promises = ("scales", "symmetric", "agrees", "alone")
    length = "1"

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        options.one_of("reduction", self.reduction, ("mean", "sum"))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the projections' mean or sum."""
        units = Units.of(step.gramian)
        added = nonnegative_minimum(lifted(units.cosines), units.cosines)
        weights = 1 + units.weights(units.norms @ added)
        return weights / len(weights) if self.reduction == "mean" else weights
