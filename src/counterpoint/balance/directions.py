"""Methods that change the directions of gradients and treat all tasks alike."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks
from counterpoint.balance.batch import Step
from counterpoint.balance.blocks import BlockBalancer
from counterpoint.balance.losses import Reduction


@dataclass(eq=False, repr=False)
class PCGrad(BlockBalancer):
    """Projects every task's gradient off each other task's that it conflicts with, then adds them up.

    For every task i, v starts as g_i and meets the other tasks j in random order: where ⟨v, g_j⟩ < 0,

        v ← v - ⟨v, g_j⟩ / ‖g_j‖² g_j

    with g_j as it was before any projection: PCGrad (Yu et al., NeurIPS 2020), algorithm 1. The order is
    drawn afresh for every task, step and block and never contains i itself (in the authors' code it is
    fixed, with i). The draws follow from `seed` and from how many came before, so ranks agree and resumed
    runs continue. Costs one backward pass per task. Scales with the gradients.

    Attributes:
        reduction: "sum", as published, or "mean" over the batch's tasks.
        seed: what the random orders follow from.
        granularity: where conflicts are judged: over all shared parameters, or in each block by itself.
    """

    reduction: Reduction = "sum"
    seed: int = 0
    draws: int = field(default=0, init=False)
    stateful: ClassVar[tuple[str, ...]] = ("draws",)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("reduction", self.reduction, ("sum", "mean"))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the projected gradients' sum or mean."""
        random = np.random.default_rng((self.seed, self.draws))
        self.draws += 1
        tasks = len(step.gramian)
        projected = np.eye(tasks)  # row i: v as a combination of the gradients
        for i, v in enumerate(projected):
            for j in random.permutation(np.delete(np.arange(tasks), i)):
                inner = v @ step.gramian[:, j]
                if inner < 0 < step.gramian[j, j]:
                    v[j] -= inner / step.gramian[j, j]
        merged: Float[np.ndarray, " rows"] = projected.sum(axis=0)
        return merged / tasks if self.reduction == "mean" else merged
