"""OL-AUX: weights that follow how auxiliary gradients went along with the target's."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.state import kept_of_blocks
from counterpoint.balance.target_first import TargetFirst


@dataclass(eq=False, repr=False)
class OLAux(TargetFirst):
    """Raises the weight of an auxiliary task whose gradients went along with the target's, and lowers others.

    With w_i = 1 at first, after every N steps

        w_i ← w_i + β Σ ⟨g_t, g_i⟩ over these N steps        g = g_t + Σ w_i g_i

    OL-AUX (Lin et al., NeurIPS 2019), as MetaBalance's authors state it (He et al., WWW 2022, eq. 8-9),
    without the learning rate, which the original multiplies the inner products with: it is part of β here.
    Weights are not clipped and may turn negative. A step in which a task or the target is absent adds
    nothing to the task's sum; a step without the target gives the plain sum and does not count.

    Costs one backward pass through the trunk per task at every step. Does *not* scale with the gradients:
    inner products are quadratic in them, so β has to fit their size, and gradients too large for it let the
    weights run away.

    Attributes:
        beta: β; MetaBalance's authors found 0.1 (IJCAI-2015) and 1 (UserBehavior-2017).
        period: N, the steps from one change of the weights to the next; 5 in the original.
        granularity: where weights are kept: one per task, or one in each block.
    """

    name = "ol_aux"
    source = "Lin et al., NeurIPS 2019; He et al., WWW 2022, eq. 8-9"
    promises = ("symmetric", "alone")
    length = "K"
    by_place = True
    stateful = ("factors", "sums", "steps")
    scales = True

    beta: float = 0.1
    period: int = 5
    factors: dict[str, Float[np.ndarray, " blocks"]] = field(default_factory=dict, init=False)
    sums: dict[str, Float[np.ndarray, " blocks"]] = field(default_factory=dict, init=False)
    steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        options.positive("beta", self.beta)
        options.count("period", self.period)

    def begin(self, target: str, squares: Float[np.ndarray, " blocks"]) -> None:
        """Move the weights if the last step was the Nth, and count this one."""
        if self.steps == self.period:
            for task, total in self.sums.items():
                self.factors[task] = kept_of_blocks(self.factors, task, 1.0, total) + self.beta * total
            self.sums, self.steps = {}, 0
        self.steps += 1

    def pair(
        self,
        task: str,
        squares: Float[np.ndarray, " blocks"],
        inner: Float[np.ndarray, " blocks"],
        target: Float[np.ndarray, " blocks"],
    ) -> tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
        """Return 0 and the weight."""
        self.sums[task] = kept_of_blocks(self.sums, task, 0.0, inner) + inner
        return np.zeros_like(inner), kept_of_blocks(self.factors, task, 1.0, inner)
