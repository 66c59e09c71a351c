"""Auxiliary gradients that conflict with the target's are dropped."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance.target_first import TargetFirst


@dataclass(eq=False, repr=False)
class GradSimilarity(TargetFirst):
    """Drops the auxiliary gradients that conflict with the target's.

        g = g_t + Σ 1[cos(g_t, g_i) ≥ 0] g_i,    with `weighted`  g = g_t + Σ max(0, cos(g_t, g_i)) g_i

    GradSimilarity (Du et al., "Adapting Auxiliary Losses Using Gradient Similarity", 2018); MetaBalance's
    authors compare themselves with the first form (He et al., WWW 2022, A.1.1), which is the default. Where
    one of the two gradients is zero, so is the cosine.

    Costs one backward pass through the trunk per task. Scales with the gradients. No step ascends the
    target's loss to first order: ⟨g, g_t⟩ ≥ ‖g_t‖². A batch without the target gives the plain sum.

    Attributes:
        weighted: weigh an auxiliary gradient by its cosine instead of taking it whole.
        granularity: where cosines are taken: over all shared parameters, or in each block by itself.
    """

    name = "grad_similarity"
    source = "Du et al., arXiv 2018; He et al., WWW 2022, A.1.1"
    promises = ("scales", "symmetric", "agrees with the target", "sum without conflict", "alone")
    length = "K"
    scales = True

    weighted: bool = False

    def pair(
        self,
        task: str,
        squares: Float[np.ndarray, " blocks"],
        inner: Float[np.ndarray, " blocks"],
        target: Float[np.ndarray, " blocks"],
    ) -> tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
        """Return 0 and the indicator or the cosine."""
        if not self.weighted:
            return np.zeros_like(inner), np.where(inner < 0, 0.0, 1.0)
        norms = np.sqrt(squares) * np.sqrt(target)
        cosines = np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0)
        return np.zeros_like(inner), np.clip(cosines, 0.0, 1.0)
