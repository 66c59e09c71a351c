"""The target against all auxiliary tasks together."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.step import Step, Tasks


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

    name = "mtrec"
    family = "Target first"
    source = "Bi et al., Findings of ACL 2022, eq. 10-11, figure 3"
    promises = ("scales", "symmetric", "agrees with the target", "alone")
    length = "1 + (K - 1) * scale"
    cost = "2"
    needs_target = True

    scale: float = 0.3
    project: Literal["both", "main", "aux"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        options.positive("scale", self.scale)
        options.one_of("project", self.project, ("both", "main", "aux"))

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return the target and λ times the sum of the others, whichever the batch has."""
        others = np.full((1, len(tasks.names)), self.scale)
        others[:, tasks.of_target] = 0.0
        rows = np.concatenate([np.eye(len(tasks.names))[tasks.of_target], others])
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
