"""ConFIG: the direction that has the same cosine with every gradient."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.methods.aligned_mtl import spectrum
from counterpoint.balance.quadratic import Units
from counterpoint.balance.step import Step

# Eigenvalues of cosines below this, times the number of rows and the largest, count as zero: rows that depend
# on each other.
_NEGLIGIBLE = 1e-9


@dataclass(eq=False, repr=False)
class ConFIG(BlockBalancer):
    """Takes the direction that has the same cosine with every gradient, as far as all of them reach along it.

        d = U⁺1 / ‖U⁺1‖        g = (Σ ⟨g_k, d⟩) d,  with the unit gradients as the rows of U

    ConFIG (Liu et al., ICLR 2025), eq. 2 and 3. Conflict shortens g and agreement lengthens it: equal
    gradients add up, opposite ones give 0.

    While the gradients are independent, ⟨g, g_k⟩ > 0 for every task. If they are not, U⁺1 comes nearest to
    equal cosines, of which some may be negative. Zero gradients count for nothing. Costs one backward pass
    per task. Scales with the gradients.
    """

    name = "config"
    family = "Pareto and fairness"
    source = "Liu et al., ICLR 2025, eq. 2-3"
    promises = ("scales", "symmetric", "alone")
    length = "K"

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the common direction at its length."""
        units = Units.of(step.gramian)
        values, vectors = spectrum(units.cosines, _NEGLIGIBLE)
        of_ones = vectors.sum(axis=0)
        if of_ones @ of_ones <= 1e-14 * len(units.norms):  # U⁺1 = 0 but for rounding
            return np.zeros(len(step.gramian))
        multiples = vectors @ (of_ones / values)
        reached = units.cosines @ multiples
        return units.weights(multiples * (units.norms @ reached) / (multiples @ reached))
