"""Auxiliary gradients projected off the target's."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance.target_first import TargetFirst


@dataclass(eq=False, repr=False)
class GradSurgery(TargetFirst):
    """Projects every auxiliary gradient that conflicts with the target's off it and leaves the target's be.

    Where ⟨g_i, g_t⟩ < 0,

        g_i ← g_i - ⟨g_i, g_t⟩ / ‖g_t‖² g_t        g = g_t + Σ g_i

    PCGrad (Yu et al., NeurIPS 2020) for a target with auxiliary tasks, as in MetaBalance (He et al., WWW
    2022, eq. 7). Unlike in PCGrad the auxiliary tasks may conflict with each other, and nothing is random.

    Costs one backward pass through the trunk per task. Scales with the gradients. No step ascends the
    target's loss to first order: ⟨g, g_t⟩ ≥ ‖g_t‖². A batch without the target gives the plain sum.

    Attributes:
        granularity: where conflicts are judged: over all shared parameters, or in each block by itself.
    """

    name = "grad_surgery"
    source = "He et al., WWW 2022, eq. 7, after Yu et al., NeurIPS 2020"
    promises = ("scales", "symmetric", "agrees with the target", "sum without conflict", "alone")
    length = "K"

    def pair(
        self,
        task: str,
        squares: Float[np.ndarray, " blocks"],
        inner: Float[np.ndarray, " blocks"],
        target: Float[np.ndarray, " blocks"],
    ) -> tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
        """Return how much of the target's gradient a projection adds, and 1."""
        conflict = (inner < 0) & (target > 0)
        added = np.divide(-inner, target, out=np.zeros_like(inner), where=conflict)
        return added, np.ones_like(inner)
