"""Gradients of nearer lengths, each projected off all it conflicts with at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.methods.pcgrad import norms_of, towards_longest
from counterpoint.balance.step import Tasks

_SMALLEST_ANGLE = 1e-8
"""Eigenvalues of a matrix of cosines, relative to the largest, that single precision cannot tell from 0."""


@dataclass(eq=False, repr=False)
class GradCraft(BlockBalancer):
    """Brings the gradients nearer to one length, then projects each off all that it conflicts with at once.

        ĝ_i = τ max_j ‖g_j‖ / ‖g_i‖ g_i + (1 - τ) g_i                                     (eq. 5)
        g̃_i = ĝ_i + wᵀG_i    with    G_i G_iᵀ w = z - G_i ĝ_i,    z_j = ε ‖ĝ_i‖ ‖ĝ_j‖    (eq. 6, 7, 9)

    where the rows of G_i are the ĝ_j with ⟨ĝ_i, ĝ_j⟩ < 0, and the merged gradient is the mean of the g̃_i
    (eq. 10): GradCraft (Bai et al., KDD 2024), algorithm 1. In print, eq. 8 has g̃_i where eq. 9 rightly has
    the second G_i, and the denominator of eq. 11 lacks its square. Norms and conflicts are those of the
    shared parameters; the authors' code takes the heads' gradients in, adjusts them too, and takes a
    gradient whose coordinates add up to 0 for none.

    For two tasks and ε = 0 it is PCGrad+. Linearly dependent gradients, which have no inverse in eq. 9, get
    the least-squares solution. The default ε lies so low that gradients in single precision do not show it.

    It does not promise that nothing conflicts in the end: g̃_i agrees with those that ĝ_i conflicted with,
    and may come to conflict with others by that. Of (2, 0, -1), (-1, 1, 0) and (0, -1, 0), with τ = ε = 0,
    the first becomes (1, 1, -1), against the third, with which it was at a right angle, and the mean
    (1/10, 1/6, -7/15) raises the third's loss. Costs one backward pass per task. Scales with the gradients;
    a zero gradient stays zero.

    Attributes:
        tau: τ, how far the norms move to the greatest, from 0 to 1.
        epsilon: ε, the cosine to aim for with the gradients conflicting, by the norm of ĝ_i.
        granularity: where norms and conflicts are taken: over all shared parameters, or in each block.
    """

    name = "gradcraft"
    source = "Bai et al., KDD 2024, eq. 5-10, algorithm 1"
    promises = ("scales", "symmetric", "alone")
    length = "1"

    tau: float = 0.1
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        options.within("tau", self.tau, 0, 1)
        options.within("epsilon", self.epsilon, 0, 1)

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Return the weights of the mean of the gradients without their conflicts."""
        norms = norms_of(products)
        lengths = np.where(norms > 0, norms, 1.0)
        cosines = products / lengths[:, :, None] / lengths[:, None]  # of the g as of the ĝ
        against = cosines < 0
        # Every task's G Gᵀ in rows of length 1, with the identity in the places of those not in G.
        inside = against[:, :, :, None] & against[:, :, None]
        systems = np.where(inside, cosines[:, None], np.eye(len(rows.names)))
        missing = np.where(against, self.epsilon - cosines, 0.0)
        inverses = np.linalg.pinv(systems, rcond=_SMALLEST_ANGLE, hermitian=True)
        units = (inverses @ missing[..., None])[..., 0]
        factors = towards_longest(norms, self.tau)
        added = ((factors * norms)[:, :, None] * units).sum(axis=1) / lengths
        weights: Float[np.ndarray, "blocks rows"] = (factors + added) / len(rows.names)
        return weights
