"""A weight per task, given."""

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks
from counterpoint.balance.engine import Balancer
from counterpoint.balance.step import Tasks


class Fixed(Balancer):
    """Gives every task a weight of its own: g = Σ w_k g_k.

    The weights are for the shared parameters; every head keeps its plain gradient.

    Args:
        weights: a finite number per task; a step with a task that has none raises `ValueError`.

    Raises:
        TypeError: anything but a mapping of names to numbers.
        ValueError: no weights, or one that is not finite.
    """

    name = "fixed"
    source = "a weight per task, found by search"
    promises = ("scales", "symmetric")
    cost = "1"

    def __init__(self, weights: Mapping[str, float]) -> None:
        _named_numbers(weights)
        if not weights or not all(isfinite(weight) for weight in weights.values()):
            raise ValueError(f"weights must give every task a finite number, not {dict(weights)!r}.")
        self._weight_of = {task: float(weight) for task, weight in weights.items()}

    def check_tasks(self, names: Sequence[str]) -> None:
        """Raise `ValueError` if a task has no weight."""
        for task in names:
            if task not in self._weight_of:
                raise ValueError(
                    f"Task {task!r} has no weight{checks.near(task, self._weight_of)}; give it one."
                )

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted."""
        self.check_tasks(tasks.names)
        return np.array([[self._weight_of[task] for task in tasks.names]])

    def __repr__(self) -> str:
        return f"Fixed(weights={self._weight_of!r})"


def _named_numbers(weights: object) -> None:
    """Raise unless it is a mapping of names to numbers."""
    if not isinstance(weights, Mapping) or not all(
        isinstance(task, str) and isinstance(weight, Real) for task, weight in weights.items()
    ):
        raise TypeError(
            f"weights must be a number by the name of every task, like {{'click': 1.0, 'like': 0.5}}, not"
            f" {weights!r}."
        )
