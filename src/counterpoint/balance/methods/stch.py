"""A smooth maximum of the losses."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks, options
from counterpoint.balance.engine import Balancer
from counterpoint.balance.learned import softmax
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class STCH(Balancer):
    """Descends on a smooth maximum of how far the losses are from where they were after a warm-up.

        K μ log Σ exp(log(L_k / nadir_k) / μ),   so  w_k = K softmax(log(L / nadir) / μ)_k / L_k

    the smooth Tchebycheff scalarization (Lin et al., ICML 2024) of log losses with equal preferences, in the
    form of the authors' code for multi-task learning. As μ → 0 the task with the largest ratio takes all.
    During its first `warmup` steps a task counts with log L_k, so w_k = 1 / L_k; its mean loss over the last
    fifth of them is its nadir. (The code warms up for four epochs and takes the means over a fifth.) K is
    the number of the batch's tasks that are past their warm-up, and the softmax is over these.

    Costs one backward pass. The weights are those of log losses: losses c times as large have weights 1/c as
    large and the same merged gradient, whatever c of every task. Merged for given losses, the result scales
    with the gradients. Heads keep their plain gradient; in the code they are weighted too. One task alone has
    weight 1 / L.

    Attributes:
        mu: μ; the default is the code's, the paper tries 0.01 to 1.
        warmup: the steps up to a task's nadir; the steps of five epochs for the published schedule.

    Raises:
        ValueError: a loss that is not positive; the code adds 1e-20.
    """

    name = "stch"
    source = "Lin et al., ICML 2024, the authors' multi-task form"
    promises = ("scales", "symmetric")
    length = "K"
    cost = "1"
    needs_losses = True
    stateful = ("steps", "sums")

    mu: float = 1.0
    warmup: int = 500
    steps: dict[str, int] = field(default_factory=dict, init=False)  # of the warm-up
    sums: dict[str, float] = field(default_factory=dict, init=False)  # of the losses in its last fifth

    def __post_init__(self) -> None:
        options.positive("mu", self.mu)
        options.count("warmup", self.warmup)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted; count the steps of tasks that are warming up."""
        checks.positive_losses(self, tasks)
        losses = tasks.values
        averaged = -(-self.warmup // 5)  # rounded up
        past = np.array([self.steps.get(task, 0) == self.warmup for task in tasks.names])
        nadirs = np.array([self.sums.get(task, 0.0) / averaged for task in tasks.names])
        weights = 1 / losses
        if past.any():
            ratios = np.log(losses[past]) - np.log(nadirs[past])
            weights[past] *= past.sum() * softmax(ratios / self.mu)
        for task, loss, done in zip(tasks.names, losses.tolist(), past, strict=True):
            if not done:
                self.steps[task] = self.steps.get(task, 0) + 1
                if self.steps[task] > self.warmup - averaged:
                    self.sums[task] = self.sums.get(task, 0.0) + loss
        return weights[None]
