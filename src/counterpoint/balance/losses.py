"""Methods that add the losses up and look at no gradient: one backward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks
from counterpoint.balance.batch import Tasks
from counterpoint.balance.engine import Balancer

Reduction = Literal["sum", "mean"]


@dataclass(eq=False, repr=False)
class Equal(Balancer):
    """Gives every task the same weight: g = Σ g_k, or their mean with `reduction="mean"`."""

    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        checks.one_of("reduction", self.reduction, ("sum", "mean"))

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks."""
        return np.full((1, len(tasks.names)), 1 / len(tasks.names) if self.reduction == "mean" else 1.0)


class Fixed(Balancer):
    """Gives every task a weight of its own: g = Σ w_k g_k.

    The weights are for the shared parameters; every head keeps its plain gradient.

    Args:
        weights: a finite number per task; a step with a task that has none raises `ValueError`.

    Raises:
        ValueError: no weights, or one that is not finite.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        if not weights or not all(isfinite(weight) for weight in weights.values()):
            raise ValueError(f"weights must give every task a finite number, not {dict(weights)!r}.")
        self._weight_of = dict(weights)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted."""
        for task in tasks.names:
            if task not in self._weight_of:
                raise ValueError(
                    f"Task {task!r} has no weight{checks.near(task, self._weight_of)}; give it one."
                )
        return np.array([[self._weight_of[task] for task in tasks.names]])

    def __repr__(self) -> str:
        return f"Fixed(weights={self._weight_of!r})"
