"""Weights drawn afresh at every step."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from counterpoint.balance.engine import Balancer
from counterpoint.balance.learned import softmax
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class RandomLossWeighting(Balancer):
    """Draws the weights afresh at every step: w = softmax(z) with z_k from N(0, 1).

    RLW (Lin et al., TMLR 2022), algorithm 2 with the normal distribution. The weights add up to 1, so the
    gradient is as long as the mean's, not the sum's. The draws follow from `seed` and from how many came
    before, so ranks agree and resumed runs continue. Costs one backward pass. Looks at no loss: the weights
    do not change with the losses' scale, and the merged gradient scales with the gradients. Heads keep their
    plain gradient; in the paper they are weighted too. One task alone has weight 1.

    Attributes:
        seed: what the weights follow from.
    """

    name = "random_loss_weighting"
    source = "RLW: Lin et al., TMLR 2022, algorithm 2"
    promises = ("scales", "alone")
    length = "1"
    cost = "1"
    stateful = ("draws",)

    seed: int = 0
    draws: int = field(default=0, init=False)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with weights drawn for all tasks."""
        random = np.random.default_rng((self.seed, self.draws))
        self.draws += 1
        return softmax(random.standard_normal(len(tasks.names)))[None]
