"""Adam with moments for every task, an optimizer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.balance import options
from counterpoint.balance.coordinates import CoordinateBalancer
from counterpoint.balance.moments import Moments, moment, other_parameters, same_parameters, squared_norms
from counterpoint.balance.rows import working
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class MTAdam(CoordinateBalancer):
    """Is Adam with moments for every task, whose gradients it brings to one task's norm in every tensor.

    With n_i the running average of ‖g_i‖ in a tensor, which begins with the first norm,

        n_i ← β₃ n_i + (1 - β₃) ‖g_i‖        ĝ_i = n_a / n_i g_i
        u = Σ_i m̂_i / (max_j √v̂_j + ε)

    where m̂_i and v̂_i are Adam's moments of the ĝ_i, with its corrections, and a is the anchor: the target
    task if there is one, else the first, and where that has no gradient the next that has: MTAdam (Malkiel
    and Wolf, EMNLP 2021), algorithm 1. Their code takes a norm below 1e-10 for none.

    It is an optimizer: u is the step per unit of learning rate. `backward` writes it into `.grad`, and the
    plain SGD of `optimizer` takes the step, to which schedules apply as ever. Give all parameters as
    `shared`: a head, reached by one task, then is under Adam. `.grad` is a step: zero it before every
    `backward`, and do not clip it. Under several processes the gradients are averaged first, so that every
    rank has the same anchor.

        balancer = MTAdam(lr=1e-3)
        optimizer = balancer.optimizer(model.parameters())
        balancer.backward(losses, shared=model.parameters())
        optimizer.step()

    Costs one backward pass per task and keeps two copies of the gradients for each; tables of embeddings
    count whole. Multiplying a loss by a constant changes nothing if it is not the anchor's, but ε stands
    beside the gradients as it is, as in Adam. A task takes part in a tensor from its first gradient on; one
    that the batch lacks keeps its moments and takes no part, and a tensor that no task of the batch reaches
    stays. The report's weights are the ratios of ‖ĝ_i‖ to ‖g_i‖ over all tensors.

    Attributes:
        lr: the learning rate that `optimizer` begins with.
        betas: the decay of first moments, of second moments, and of norms.
        eps: ε.

    Raises:
        ValueError: parameters that the moments do not fit; no state has changed.
    """

    name = "mtadam"
    source = "Malkiel & Wolf, EMNLP 2021, algorithm 1"
    is_optimizer = True
    whole_tables = True
    by_place = True
    stateful = ("steps", "norms")
    buffers = ("means", "spreads")

    lr: float = 1e-3
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9)
    eps: float = 1e-8
    steps: dict[str, Int[np.ndarray, " parameters"]] = field(default_factory=dict, init=False)
    norms: dict[str, Float[np.ndarray, " parameters"]] = field(default_factory=dict, init=False)
    means: Moments = field(default_factory=dict, init=False)
    spreads: Moments = field(default_factory=dict, init=False)  # √v, which neither overflows nor vanishes

    def __post_init__(self) -> None:
        options.positive("lr", self.lr)
        options.positive("eps", self.eps)
        if len(self.betas) != 3:
            raise ValueError(
                f"betas must be three, of first moments, second moments and norms, not {self.betas!r}."
            )
        for beta in self.betas:
            options.below_one("betas", beta)

    def optimizer(self, parameters: Iterable[Any]) -> torch.optim.SGD:
        """Return the optimizer that takes the steps which `backward` writes into `.grad`.

        Args:
            parameters: tensors, or groups of them; a group's weight decay is AdamW's, beside the step.
        """
        return torch.optim.SGD(parameters, lr=self.lr)

    def merge_coordinates(
        self, rows: Sequence[dict[int, Tensor]], squares: Float[np.ndarray, " tasks"], tasks: Tasks
    ) -> tuple[list[Tensor | None], Float[np.ndarray, " tasks"]]:
        """Return every parameter's step per unit of learning rate, and the gradients' factors."""
        for name in tasks.names:
            steps = self.steps.get(name, np.zeros(len(rows)))
            if len(steps) != len(rows):
                raise ValueError(other_parameters(f"{len(steps)} parameters", str(len(rows))))
        same_parameters(self.means, rows, tasks.names)
        lengths = np.sqrt(squared_norms(rows, [[position] for position in range(len(rows))], len(squares)).T)
        norms = self._moved_norms(lengths, rows, tasks.names)
        factors = _to_anchor(norms, tasks.target)
        parts = [
            self._step(position, each, tasks.names, factors[:, position])
            for position, each in enumerate(rows)
        ]
        whole = np.sqrt(squares)
        scaled = np.linalg.norm(factors * lengths, axis=1)
        return parts, np.divide(scaled, whole, out=np.zeros_like(whole), where=whole > 0)

    def _moved_norms(
        self,
        lengths: Float[np.ndarray, "tasks parameters"],
        rows: Sequence[Mapping[int, Tensor]],
        names: Sequence[str],
    ) -> Float[np.ndarray, "tasks parameters"]:
        """Count the step and return the running norms of the tasks, 0 where a task had no gradient yet."""
        decay = self.betas[2]
        reached = np.array([bool(each) for each in rows], dtype=bool)
        for task, name in enumerate(names):
            steps = self.steps.get(name, np.zeros(len(rows), dtype=np.int64))
            norms = self.norms.get(name, np.zeros(len(rows)))
            has = np.array([task in each for each in rows], dtype=bool)
            moved = np.where(norms > 0, decay * norms + (1 - decay) * lengths[task], lengths[task])
            self.norms[name] = np.where(reached, moved, norms)
            self.steps[name] = steps + (reached & (has | (steps > 0)))
        return np.array([self.norms[name] for name in names])

    def _step(
        self,
        position: int,
        gradients: Mapping[int, Tensor],
        names: Sequence[str],
        factors: Float[np.ndarray, " tasks"],
    ) -> Tensor | None:
        """Move one parameter's moments on and return its step."""
        first, second, _ = self.betas
        total: Tensor | None = None
        widest: Tensor | None = None
        for task, name in enumerate(names if gradients else ()):
            mean = moment(self.means.setdefault(name, {}), position, gradients, task)
            spread = moment(self.spreads.setdefault(name, {}), position, gradients, task)
            if mean is None or spread is None:
                continue
            mean.mul_(first)
            spread.mul_(sqrt(second))
            if task in gradients:
                root = sqrt(factors[task])  # twice, since the factor itself may be too large for the type
                gradient = working(gradients[task]).mul(root).mul_(root)
                mean.add_(gradient, alpha=1 - first)
                torch.hypot(spread, gradient.mul_(sqrt(1 - second)), out=spread)
            steps = int(self.steps[name][position])
            of_task = mean / (1 - first**steps)
            width = spread / sqrt(1 - second**steps)
            total = of_task if total is None else total.add_(of_task)
            widest = width if widest is None else torch.maximum(widest, width, out=widest)
        if total is None or widest is None:
            return None
        return total.div_(widest.add_(self.eps)).to(next(iter(gradients.values())).dtype)


def _to_anchor(
    norms: Float[np.ndarray, "tasks parameters"], target: int | None
) -> Float[np.ndarray, "tasks parameters"]:
    """Return n_a / n_i for every parameter, and 0 where n_i is: the anchor is the target or comes first."""
    order = sorted(range(len(norms)), key=lambda task: task != target)
    anchors = np.zeros(norms.shape[1])
    for task in order:
        anchors = np.where(anchors > 0, anchors, norms[task])
    factors: Float[np.ndarray, "tasks parameters"] = np.divide(
        anchors, norms, out=np.zeros_like(norms), where=norms > 0
    )
    return factors
