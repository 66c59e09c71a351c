"""The plain sum of the gradients, or their mean."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.engine import Balancer
from counterpoint.balance.options import Reduction
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class Equal(Balancer):
    """Gives every task the same weight: g = Σ g_k, or their mean with `reduction="mean"`."""

    name = "equal"
    source = "the plain sum"
    promises = ("scales", "symmetric", "sum without conflict", "alone")
    length = "K"
    cost = "1"

    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        options.one_of("reduction", self.reduction, ("sum", "mean"))

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks."""
        return np.full((1, len(tasks.names)), 1 / len(tasks.names) if self.reduction == "mean" else 1.0)
