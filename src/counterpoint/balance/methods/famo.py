"""Losses that are to fall by the same factor."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, options, processes
from counterpoint.balance.engine import Balancer
from counterpoint.balance.learned import Learned, descend, softmax, values
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class FAMO(Balancer):
    """Learns weights under which all losses fall by the same factor, from the losses alone.

        w_k = c z_k / L_k,   z = softmax(ξ),   c = 1 / Σ (z_k / L_k)
        ξ ← ξ - β (δ + γ ξ),   δ_k = z_k (d_k - Σ z_j d_j),   d = log L before the step - log L after it

    with ξ = 0 at first: FAMO (Liu et al., NeurIPS 2023), algorithm 1, the descent on ξ by Adam as in the
    authors' code and experiments. Weights add up to 1.

    The losses after the step are those of the *same* batch, evaluated once more:

        balancer.backward(losses, shared=trunk.parameters())
        optimizer.step()
        with torch.no_grad():
            balancer.observe(losses_of(batch))

    which costs another forward pass. Without `observe`, the losses of the next batch stand in for them at the
    next `backward`; their difference then has the noise of two batches in it. Only tasks in both count, with
    z taken over these, and it takes two.

    Costs one backward pass. The weights are the same for losses c times as large, so the merged gradient
    scales; a factor on a single loss changes their size, not the direction. Heads keep their plain gradient;
    in the paper they are weighted too. One task alone has weight 1. The authors' code subtracts a lower bound
    from every loss, adds 1e-8, and clips the norm of the shared parameters' gradient to 1; here none of this
    is done, and losses have to be positive.

    Attributes:
        lr: β, the step size of ξ.
        decay: γ, which draws ξ back to 0; the authors' code has 0.01 or 1e-5.

    Raises:
        ValueError: a loss that is not positive.
    """

    name = "famo"
    source = "Liu et al., NeurIPS 2023, algorithm 1"
    promises = ("scales", "symmetric", "alone")
    length = "1"
    cost = "1"
    needs_losses = True
    stateful = ("logits", "before")

    lr: float = 0.025
    decay: float = 1e-3
    logits: Learned = field(default_factory=dict, init=False)
    before: dict[str, float] = field(default_factory=dict, init=False)  # log L, not yet compared

    def __post_init__(self) -> None:
        options.positive("lr", self.lr)
        options.from_zero("decay", self.decay)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted; learn from how the last step's losses have changed."""
        checks.positive_losses(self, tasks)
        logs = np.log(tasks.values)
        after = dict(zip(tasks.names, logs.tolist(), strict=True))
        self._learn(self.before, after)
        self.before = after
        return softmax(values(self.logits, tasks.names) - logs)[None]

    def observe(self, losses: Mapping[str, Tensor | float | None]) -> None:
        """Learn from the losses of the batch just trained on, evaluated again after the optimizer's step.

        Does nothing if the last step was not finite, or if these losses are not. Under `torch.distributed`
        they are averaged over the ranks: give every rank the same tasks in the same order.

        Args:
            losses: as given to `backward`, unscaled; a task that is `None` is absent.

        Raises:
            ValueError: a task that the step did not have, a loss that is not positive.
        """
        given = {task: torch.as_tensor(loss).item() for task, loss in losses.items() if loss is not None}
        averaged = processes.average_values(torch.tensor(list(given.values()), dtype=torch.float64)).numpy()
        if self.before and np.isfinite(averaged).all():
            for task in given:
                if task not in self.before:
                    raise ValueError(
                        f"The last step had no task {task!r}{checks.near(task, self.before)}; give the losses"
                        " of the same tasks again."
                    )
            checks.positive_losses(self, Tasks(tuple(given), losses=averaged))
            self._learn(self.before, dict(zip(given, np.log(averaged).tolist(), strict=True)))
        self.before = {}

    def _learn(self, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        """Take a step on the logits of the tasks whose log losses are known before and after."""
        tasks = [task for task in before if task in after]
        if len(tasks) < 2:
            return
        logits = values(self.logits, tasks)
        shares = softmax(logits)
        falls = np.array([before[task] - after[task] for task in tasks])
        slopes = shares * (falls - shares @ falls) + self.decay * logits
        descend(self.logits, tasks, slopes, self.lr)
