"""Methods with a target task, which the other tasks are there to help."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks
from counterpoint.balance.batch import Step, Tasks
from counterpoint.balance.blocks import BlockBalancer, TargetFirst
from counterpoint.balance.engine import Balancer


@dataclass(eq=False, repr=False)
class Single(Balancer):
    """Trains the shared parameters on the target alone: g = g_t.

    The heads of the other tasks still learn from their losses, which never pass the trunk, so that their
    metrics tell what a trunk trained for the target knows of them. A batch without the target gives the
    shared parameters nothing.
    """

    needs_target: ClassVar[bool] = True

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with the target, or none."""
        return np.eye(len(tasks.names))[_only(tasks.target)]


@dataclass(eq=False, repr=False)
class MTRec(BlockBalancer):
    """Sets the target against all auxiliary tasks together and projects the two off each other in conflict.

    With g_t the target's gradient and a = λ Σ g_i (eq. 11) that of the auxiliary tasks, if ⟨g_t, a⟩ < 0

        g_t' = g_t - ⟨g_t, a⟩ / ‖a‖² a        a' = a - ⟨a, g_t⟩ / ‖g_t‖² g_t        g = g_t' + a'

    (eq. 10 both ways), and g = g_t + a otherwise: MTRec (Bi et al., Findings of ACL 2022), figure 3. The
    text leaves open which of the two is projected; the figure as its reproduction on EB-NeRD describes it,
    and that one's code, project both (the default), while equation 7 there writes `project="main"`. That
    code then halves the shared gradient, which is not done here.

    Costs two backward passes through the trunk whatever the number of tasks. Scales with the gradients. The
    heads of the auxiliary tasks keep their plain gradient, without λ. A batch without the target gives a, one
    with the target alone g_t.

    Attributes:
        scale: λ, the weight of the auxiliary tasks.
        project: which gradient loses its conflicting part: "both", "main" (the target's) or "aux".
        granularity: where conflicts are judged: over all shared parameters, or in each block by itself.
    """

    scale: float = 0.3
    project: Literal["both", "main", "aux"] = "both"
    needs_target: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("scale", self.scale)
        checks.one_of("project", self.project, ("both", "main", "aux"))

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return the target and λ times the sum of the others, whichever the batch has."""
        others = np.full((1, len(tasks.names)), self.scale)
        others[:, _only(tasks.target)] = 0.0
        rows = np.concatenate([np.eye(len(tasks.names))[_only(tasks.target)], others])
        return rows[rows.any(axis=1)]

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the projected gradients, 1 each without conflict."""
        weights = np.ones(len(step.gramian))
        if len(weights) < 2:
            return weights
        (main, inner), (_, aux) = step.gramian
        if not inner < 0 < min(main, aux):
            return weights
        if self.project != "aux":
            weights[1] -= inner / aux
        if self.project != "main":
            weights[0] -= inner / main
        return weights


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

    weighted: bool = False
    scales: ClassVar[bool] = True

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


def _only(target: int | None) -> list[int]:
    return [] if target is None else [target]
