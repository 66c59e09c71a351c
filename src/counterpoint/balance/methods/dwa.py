"""Dynamic weight average: tasks whose losses fall more slowly weigh more."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks, options
from counterpoint.balance.engine import Balancer
from counterpoint.balance.learned import softmax
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class DWA(Balancer):
    """Gives more weight to the tasks whose losses fall more slowly.

        w = K softmax(r / T),   r_k = L_k(t-1) / L_k(t-2)

    with L_k(t) the mean loss over a window of steps, K the number of tasks in the batch, and r_k = 1 while a
    task has not completed two windows, which makes all weights 1 at first: dynamic weight average (Liu et
    al., CVPR 2019), also MetaBalance's eq. 13 (He et al., WWW 2022). A window is an epoch in the former, 5 or
    10 steps in the latter: set `window` to the steps per epoch for an epoch. Every task counts its own steps,
    so one that comes more rarely has longer windows. After a mean of exactly 0 a task counts as unchanged
    (r = 1).

    Costs one backward pass. Free of scale: multiplying a loss by a constant changes no weight. Heads keep
    their plain gradient; in the paper they are weighted too. One task alone has weight 1.

    Attributes:
        temperature: T; larger ones bring the weights closer together.
        window: the steps that a mean is over: enough to tell a trend from the noise of batches.

    Raises:
        ValueError: a negative loss, whose ratios would mean the opposite.
    """

    name = "dwa"
    source = "Liu et al., CVPR 2019; He et al., WWW 2022, eq. 13"
    promises = ("scales", "symmetric", "alone")
    length = "K"
    cost = "1"
    needs_losses = True
    stateful = ("sums", "counts", "means")

    temperature: float = 2.0
    window: int = 100
    sums: dict[str, float] = field(default_factory=dict, init=False)
    counts: dict[str, int] = field(default_factory=dict, init=False)
    means: dict[str, list[float]] = field(default_factory=dict, init=False)  # of the last two windows

    def __post_init__(self) -> None:
        options.positive("temperature", self.temperature)
        options.count("window", self.window)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with weights from the windows completed; add the losses to the present ones."""
        checks.losses_from_zero(self, tasks)
        losses = tasks.values
        ratios = np.array([self._ratio(task) for task in tasks.names])
        for task, loss in zip(tasks.names, losses.tolist(), strict=True):
            self._add(task, loss)
        return len(ratios) * softmax(ratios / self.temperature)[None]

    def _ratio(self, task: str) -> float:
        means = self.means.get(task, [])
        return means[1] / means[0] if len(means) == 2 and means[0] > 0 else 1.0

    def _add(self, task: str, loss: float) -> None:
        self.sums[task] = self.sums.get(task, 0.0) + loss
        self.counts[task] = self.counts.get(task, 0) + 1
        if self.counts[task] == self.window:
            self.means[task] = [*self.means.get(task, []), self.sums[task] / self.window][-2:]
            self.sums[task], self.counts[task] = 0.0, 0
