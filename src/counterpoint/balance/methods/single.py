"""The target's gradient alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance.engine import Balancer
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class Single(Balancer):
    """Trains the shared parameters on the target alone: g = g_t.

    The heads of the other tasks still learn from their losses, which never pass the trunk, so that their
    metrics tell what a trunk trained for the target knows of them. A batch without the target gives the
    shared parameters nothing.
    """

    name = "single"
    family = "Target first"
    source = "the target's gradient alone"
    promises = ("scales", "symmetric", "agrees with the target", "alone")
    length = "1"
    cost = "1"
    needs_target = True

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with the target, or none."""
        return np.eye(len(tasks.names))[tasks.of_target]
