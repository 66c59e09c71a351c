"""The geometric mean of the losses."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks
from counterpoint.balance.engine import Balancer
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class GeometricMean(Balancer):
    """Descends on the geometric mean of the losses: (Π L_k)^{1/K}, so w_k = (Π L_j)^{1/K} / (K L_k).

    The geometric loss strategy (Chennupati et al., CVPR workshops 2019). Costs one backward pass. The
    weights are the same for losses c times as large, so the merged gradient scales; a factor c on a single
    loss lengthens it by c^{1/K} and leaves its direction. Heads keep their plain gradient; in the paper they
    are weighted too. One task alone has weight 1.

    Raises:
        ValueError: a loss that is not positive.
    """

    name = "geometric_mean"
    source = "Chennupati et al., CVPR workshops 2019"
    promises = ("scales", "symmetric", "alone")
    length = "1"
    cost = "1"
    needs_losses = True

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted."""
        checks.positive_losses(self, tasks)
        logs = np.log(tasks.values)
        return np.array([np.exp(logs.mean() - logs) / len(logs)])
