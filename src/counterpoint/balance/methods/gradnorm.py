"""Loss weights learned so that gradient norms come together."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks, options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.learned import Learned, descend, keep, values
from counterpoint.balance.step import Step, Tasks


@dataclass(eq=False, repr=False)
class GradNorm(BlockBalancer):
    """Learns loss weights that bring gradient norms together, tasks that lag behind getting larger ones.

    With n_k = ‖g_k‖ over the shared parameters and r_k how much of its first loss a task has left, relative
    to the others,

        descend on Σ | w_k n_k - mean(w n) r_k^α |,   r = ℓ / mean(ℓ),   ℓ_k = L_k(t) / L_k(0)

    by w alone, with what is subtracted held constant; then bring Σ w back to the number of tasks: GradNorm
    (Chen et al., ICML 2018), eq. 1-2 and algorithm 1. A step uses the weights learned so far, 1 in the first.
    They take a step of Adam, as in the paper; differences below rounding count as none. That step takes no
    more than half of a weight away, so all stay positive, which the paper leaves open. Steps are about `lr`
    long, and so weights that ought to be smaller than that are met only roughly. Where a batch lacks a task,
    its weight, L(0) and moments wait, and the others' weights add up to their number.

    Norms are over all shared parameters, where the paper takes the last shared layer: its closest relative
    is `passes="representation"`, with norms at the trunk's output and a single pass through the trunk. In
    blocks of parameters every block has weights of its own, and L(0) is common. L(0) is the first positive
    loss of a task; to take a theoretical one instead, as the paper suggests where initial losses are erratic,
    put it into `first` before the first step. Heads keep their plain gradient; in the paper they are weighted
    too.

    Costs one backward pass per task. Scales with the gradients if all do, the past ones included; factors on
    single losses cancel in r and are evened out by w at Adam's pace. One task alone has weight 1.

    Attributes:
        alpha: α, how strongly lagging tasks are helped; 0 makes norms equal and needs no losses.
        lr: the step size of w.
        granularity: where norms are brought together.

    Raises:
        ValueError: a negative loss with α > 0.
    """

    name = "gradnorm"
    family = "Magnitudes"
    source = "Chen et al., ICML 2018, eq. 1-2, algorithm 1"
    promises = ("scales", "symmetric", "alone")
    length = "K"
    needs_losses = True
    by_place = True
    stateful = ("learned", "first")
    scales = True

    alpha: float = 1.5
    lr: float = 0.025
    learned: dict[str, Learned] = field(default_factory=dict, init=False)  # by block
    first: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        options.from_zero("alpha", self.alpha)
        options.positive("lr", self.lr)
        self.needs_losses = self.alpha > 0  # type: ignore[misc]

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights; learn those of the next step."""
        learned = self.learned.setdefault(str(step.block), {})
        weights = _adding_up(values(learned, step.names, start=1.0))
        norms = np.sqrt(np.diagonal(step.gramian))
        targets = (weights * norms).mean() * self._rates(step) ** self.alpha
        slopes = norms * np.sign(weights * norms - targets)
        slopes[np.isclose(weights * norms, targets, rtol=1e-12, atol=0.0)] = 0.0
        keep(learned, step.names, weights)
        descend(learned, step.names, slopes, self.lr, eps=0.0)
        moved = np.maximum(values(learned, step.names), weights / 2)
        keep(learned, step.names, _adding_up(np.maximum(moved, np.finfo(float).tiny)))
        return weights

    def _rates(self, tasks: Tasks) -> Float[np.ndarray, " tasks"]:
        """Return every task's share of its first loss, over the mean share."""
        if self.alpha == 0:
            return np.ones(len(tasks.names))
        checks.losses_from_zero(self, tasks)
        losses = tasks.values
        for task, loss in zip(tasks.names, losses.tolist(), strict=True):
            if loss > 0:
                self.first.setdefault(task, loss)
        left = losses / np.array([self.first.get(task, 1.0) for task in tasks.names])
        return left / left.mean() if left.any() else np.ones(len(left))


def _adding_up(weights: Float[np.ndarray, " tasks"]) -> Float[np.ndarray, " tasks"]:
    """Return the weights, scaled to add up to their number."""
    scaled: Float[np.ndarray, " tasks"] = weights * (len(weights) / weights.sum())
    return scaled
