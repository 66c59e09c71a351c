"""DB-MTL: averages of the gradients of log losses, at one length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import options
from counterpoint.balance.coordinates import CoordinateBalancer
from counterpoint.balance.moments import Moments, moment, same_parameters, squared_norms
from counterpoint.balance.rows import working
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class DBMTL(CoordinateBalancer):
    """Takes the losses' logarithms and gives the averages of their gradients the length of the longest.

        m_i ← β_k m_i + (1 - β_k) g_i / L_i,    β_k = β / k^σ        g = max_j ‖m_j‖ Σ_i m_i / ‖m_i‖

    with m_i = 0 at first and k the steps that task i was in: Dual-Balancing for Multi-Task Learning (Lin et
    al., 2023), sections 3.1 and 3.2; g_i / L_i is the gradient of log L_i. The authors' code adds 1e-8 to
    losses and norms, and counts the steps for all tasks together.

    The first average is but 1 - β_1 times the gradient, for all tasks alike. Multiplying a loss by a constant
    changes nothing; the merged gradient is as long as relative changes of the losses are, so choose the
    learning rate by that. A task whose gradient has become zero still pulls with full length along its last
    average, as the formula has it. The heads' gradients are those of the losses, not of their logarithms.

    Costs one backward pass per task and keeps a copy of the gradients for each; tables of embeddings count
    whole. A parameter that no task of the batch reaches gets nothing and keeps its averages. The report's
    weights are the factors of this step's gradients.

    Attributes:
        beta: β, from 0 for no average to below 1.
        beta_sigma: σ, how fast the average gets shorter: 0 never; the paper tries 0 and ½.

    Raises:
        ValueError: a loss that is not positive, parameters that averages do not fit; no state has changed.
    """

    name = "db_mtl"
    source = "Lin et al., arXiv 2023, sections 3.1-3.2"
    promises = ("scales", "symmetric")
    length = "(1 - beta) * K"
    needs_losses = True
    whole_tables = True
    by_place = True
    stateful = ("steps",)
    buffers = ("averages",)

    beta: float = 0.9
    beta_sigma: float = 0.0
    steps: dict[str, int] = field(default_factory=dict, init=False)
    averages: Moments = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        options.below_one("beta", self.beta)
        options.within("beta_sigma", self.beta_sigma, 0, 1)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row per task, whose losses must be above zero."""
        for task, loss in zip(tasks.names, tasks.values.tolist(), strict=True):
            if not loss > 0:
                raise ValueError(
                    f"{self!r} takes the losses' logarithms, and that of {task!r} is {loss:g}:"
                    " give it losses above zero."
                )
        return super().rows(tasks)

    def merge_coordinates(
        self, rows: Sequence[dict[int, Tensor]], squares: Float[np.ndarray, " tasks"], tasks: Tasks
    ) -> tuple[list[Tensor | None], Float[np.ndarray, " tasks"]]:
        """Return the sum of the averages in the length of the longest, and the gradients' factors in it."""
        same_parameters(self.averages, rows, tasks.names)
        self.steps |= {task: self.steps.get(task, 0) + 1 for task in tasks.names}
        decays = [self.beta / self.steps[task] ** self.beta_sigma for task in tasks.names]
        factors = [(1 - decay) / loss for decay, loss in zip(decays, tasks.values.tolist(), strict=True)]
        averages = [
            self._averaged(position, each, tasks.names, decays, factors) for position, each in enumerate(rows)
        ]
        norms = np.sqrt(squared_norms(averages, [range(len(averages))], len(decays)))[0]
        parts = [
            _sum_of_directions(of_one, gradients, norms)
            for of_one, gradients in zip(averages, rows, strict=True)
        ]
        ratios = np.divide(norms.max(), norms, out=np.zeros_like(norms), where=norms > 0)
        return parts, ratios * factors

    def _averaged(
        self,
        position: int,
        gradients: Mapping[int, Tensor],
        names: Sequence[str],
        decays: Sequence[float],
        factors: Sequence[float],
    ) -> dict[int, Tensor]:
        """Move one parameter's averages on and return them by task, where there are any."""
        moved: dict[int, Tensor] = {}
        for task, name in enumerate(names if gradients else ()):
            kept = self.averages.setdefault(name, {})
            average = moment(kept, position, gradients, task)
            if average is not None:
                average.mul_(decays[task])
                if task in gradients:
                    average.add_(gradients[task], alpha=factors[task])
                moved[task] = average
        return moved


def _sum_of_directions(
    averages: Mapping[int, Tensor], gradients: Mapping[int, Tensor], norms: Float[np.ndarray, " tasks"]
) -> Tensor | None:
    """Return max_j ‖m_j‖ Σ_i m_i / ‖m_i‖ for one parameter; `None` if no task reaches it."""
    if not gradients:
        return None
    like = next(iter(gradients.values()))
    total = torch.zeros_like(working(like))
    for task, average in averages.items():
        if norms[task] > 0:
            total += average / norms[task]
    return total.mul_(norms.max()).to(like.dtype)
