"""The same projection of the result onto every gradient."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks, options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.learned import LARGEST_LOG, Learned, descend, values
from counterpoint.balance.step import Step, Tasks

_DEPENDENT = 1e-9
"""Eigenvalues of a matrix of cosines below this share of the largest count as zero.

Smaller ones are not known well enough to divide by. Gradients at an angle below its root count as parallel.
"""


@dataclass(eq=False, repr=False)
class IMTL(BlockBalancer):
    """Merges gradients so that the result has the same projection onto every one, of losses brought to 1.

    Impartial multi-task learning (Liu et al., ICLR 2021), algorithm 1. "loss" (IMTL-L, eq. 6) descends on

        Σ e^{s_k} L_k - s_k,   so  w_k = e^{s_k},   with e^{s_k} L_k = 1 at the optimum,

    where s starts at 0 and takes a step of Adam here after every step's weights have been read off (in the
    paper the step is the network's optimizer's). "gradient" (IMTL-G, eq. 1-2) finds the w with

        ⟨g, g_k⟩ / ‖g_k‖ the same for all k,   g = Σ w_k g_k,   Σ w_k = 1.

    "both" does this to the gradients of the losses e^{s_k} L_k. Factors on losses do not change the direction
    of IMTL-G's result, so s has a say in its length alone: in the paper it is the heads that need s, which
    keep their plain gradient here.

    With C the cosines of the gradients, w_k ∝ (C⁻¹ 1)_k / ‖g_k‖. Where C is singular this is the limit of
    (C + ε)⁻¹ as ε → 0: repeated gradients share their weight, and opposite ones leave nothing, since equal
    projections then are zero. (A pseudo-inverse of the Gramian, as in other implementations, gives the longer
    of parallel gradients the larger weight, and so jumps where they become parallel.) A gradient that is zero
    has weight 0. Weights may be negative, and for gradients of very different sizes in few dimensions even
    their sum before it is brought to 1; that division would turn the result against every task. So the
    weights are divided by |Σ w|, which leaves no projection negative, and by no less than a hundredth of
    Σ |w|, which keeps them bounded where Σ w vanishes: where Σ w is negative, they add up to -1.

    "loss" costs one backward pass, the others one per task. With `passes="representation"` the projections
    are those at the trunk's output, as in the paper, which finds them as good as the exact ones. "gradient"
    scales with the gradients, and so do the others for given losses; but e^{s} follows a change in a loss's
    scale only at Adam's pace. One task alone has weight 1, or e^{s}.

    Attributes:
        variant: "both", "gradient" or "loss".
        lr: the step size of s.
        granularity: where projections are equal: over all shared parameters, or in each block by itself.

    Raises:
        ValueError: a negative loss with "both" or "loss", for which the objective has no minimum.
    """

    name = "imtl"
    family = "Magnitudes"
    source = "Liu et al., ICLR 2021, eq. 1-2 and 6, algorithm 1"
    promises = ("scales", "symmetric", "agrees")
    length = "1"
    needs_losses = True
    stateful = ("log_scales",)

    variant: Literal["both", "gradient", "loss"] = "both"
    lr: float = 0.025
    log_scales: Learned = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        options.one_of("variant", self.variant, ("both", "gradient", "loss"))
        options.positive("lr", self.lr)
        self.needs_losses = self.variant != "gradient"  # type: ignore[misc]

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return the scaled losses, in one row for "loss"; learn the scales."""
        if self.variant == "gradient":
            return np.eye(len(tasks.names))
        checks.losses_from_zero(self, tasks)
        losses = tasks.values
        scales = np.exp(values(self.log_scales, tasks.names))
        descend(self.log_scales, tasks.names, scales * losses - 1, self.lr, bound=LARGEST_LOG)
        return scales[None] if self.variant == "loss" else np.diag(scales)

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights with equal projections; of one row, 1."""
        return np.ones(1) if len(step.gramian) == 1 else _impartial(step.gramian)


def _impartial(gramian: Float[np.ndarray, "rows rows"]) -> Float[np.ndarray, " rows"]:
    """Return the weights of a sum with the same projection onto every row that is not zero."""
    norms = np.sqrt(np.diagonal(gramian))
    weights = np.zeros(len(norms))
    there = norms > 0
    if there.any():
        lengths = norms[there]
        cosines = gramian[np.ix_(there, there)] / lengths[:, None] / lengths
        parts = _ones_divided_by(cosines) / (lengths / lengths.max())
        weights[there] = parts / max(abs(parts.sum()), abs(parts).sum() / 100)
    return weights


def _ones_divided_by(cosines: Float[np.ndarray, "rows rows"]) -> Float[np.ndarray, " rows"]:
    """Return (C + ε)⁻¹ 1 for ε → 0, without its factor 1/ε if it has one."""
    eigenvalues, vectors = np.linalg.eigh(cosines)
    ones = vectors.sum(axis=0)  # in the basis of the eigenvectors
    zero = eigenvalues <= _DEPENDENT * eigenvalues[-1]
    if (ones[zero] ** 2).sum() > _DEPENDENT * len(ones):
        divided = np.where(zero, ones, 0.0)
    else:
        divided = np.divide(ones, eigenvalues, out=np.zeros_like(ones), where=~zero)
    solution: Float[np.ndarray, " rows"] = vectors @ divided
    return solution
