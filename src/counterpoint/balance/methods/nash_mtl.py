"""The step that tasks agree on in bargaining."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.methods.fairgrad import DEPENDENT, fair
from counterpoint.balance.quadratic import Units, lifted
from counterpoint.balance.step import Step


@dataclass(eq=False, repr=False)
class NashMTL(BlockBalancer):
    """Takes the step that tasks would agree on in bargaining: no other gains them more in proportion.

        g = Σ a_k g_k        M a = 1 / a,  a > 0,  with M the Gramian

    Nash-MTL (Navon et al., ICML 2022), claim 3.1 and algorithm 1, by Newton's method on the convex
    ½ aᵀMa - Σ log a_k, of which this is the minimum. The authors' code linearises another problem, and where
    that fails, as for three gradients in conflict with each other, leaves the weights at 1 unnoticed.

    Does *not* scale with the gradients: a turns smaller as they grow, and ‖g‖ = √K for K tasks, however
    near to an optimum. A `max_norm` below √K then is the norm of every step, the radius of the ball in which
    the paper has the tasks bargain; without it g is what the equation gives. (The code divides M by its
    Frobenius norm first: there g grows with the gradients up to `max_norm`.) With `every`, the weights are
    held as they were clipped.

    While the gradients are independent, ⟨g, g_k⟩ > 0 for every task. If they are not, and no g would do,
    there is no solution; the cosines' matrix is lifted to a lowest eigenvalue of 1e-8 where it has a lower
    one, so opposite gradients cancel. Zero gradients have weight 0 and no say. A task alone gets
    g_1 / ‖g_1‖. Costs one backward pass per task.

    Attributes:
        max_norm: the greatest norm of g; the default is that of the authors' code. `None` is the equation
            itself, which published derivations test against.
    """

    name = "nash_mtl"
    family = "Pareto and fairness"
    source = "Navon et al., ICML 2022, claim 3.1, algorithm 1"
    promises = ("symmetric",)
    length = "1 / norm"

    max_norm: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_norm is not None:
            options.positive("max_norm", self.max_norm)

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights agreed on, clipped."""
        units = Units.of(step.gramian)
        multiples = fair(lifted(units.cosines, DEPENDENT), np.ones_like(units.norms), 1.0)
        norm = sqrt(max(0.0, multiples @ units.cosines @ multiples))
        if self.max_norm is not None and norm > self.max_norm:
            multiples *= self.max_norm / norm
        return units.weights(multiples)
