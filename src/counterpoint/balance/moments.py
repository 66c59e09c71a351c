"""Methods that keep running averages of every task's gradient, coordinate by coordinate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.balance import checks
from counterpoint.balance.batch import Tasks
from counterpoint.balance.coordinates import CoordinateBalancer
from counterpoint.balance.gramian import Block, gramians
from counterpoint.balance.rows import Aligned, working

Moments = dict[str, dict[str, Tensor]]
"""A tensor for every task and, by its position, every parameter that the task has reached."""


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

    beta: float = 0.9
    beta_sigma: float = 0.0
    steps: dict[str, int] = field(default_factory=dict, init=False)
    averages: Moments = field(default_factory=dict, init=False)
    needs_losses: ClassVar[bool] = True
    whole_tables: ClassVar[bool] = True
    by_place: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("steps",)
    buffers: ClassVar[tuple[str, ...]] = ("averages",)

    def __post_init__(self) -> None:
        checks.below_one("beta", self.beta)
        checks.within("beta_sigma", self.beta_sigma, 0, 1)

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
        _same_parameters(self.averages, rows, tasks.names)
        self.steps |= {task: self.steps.get(task, 0) + 1 for task in tasks.names}
        decays = [self.beta / self.steps[task] ** self.beta_sigma for task in tasks.names]
        factors = [(1 - decay) / loss for decay, loss in zip(decays, tasks.values.tolist(), strict=True)]
        averages = [
            self._averaged(position, each, tasks.names, decays, factors) for position, each in enumerate(rows)
        ]
        norms = np.sqrt(_squares(averages, [range(len(averages))], len(decays)))[0]
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
            average = _moment(kept, position, gradients, task)
            if average is not None:
                average.mul_(decays[task])
                if task in gradients:
                    average.add_(gradients[task], alpha=factors[task])
                moved[task] = average
        return moved


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

    lr: float = 1e-3
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9)
    eps: float = 1e-8
    steps: dict[str, Int[np.ndarray, " parameters"]] = field(default_factory=dict, init=False)
    norms: dict[str, Float[np.ndarray, " parameters"]] = field(default_factory=dict, init=False)
    means: Moments = field(default_factory=dict, init=False)
    spreads: Moments = field(default_factory=dict, init=False)  # √v, which neither overflows nor vanishes
    is_optimizer: ClassVar[bool] = True
    whole_tables: ClassVar[bool] = True
    by_place: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("steps", "norms")
    buffers: ClassVar[tuple[str, ...]] = ("means", "spreads")

    def __post_init__(self) -> None:
        checks.positive("lr", self.lr)
        checks.positive("eps", self.eps)
        if len(self.betas) != 3:
            raise ValueError(
                f"betas must be three, of first moments, second moments and norms, not {self.betas!r}."
            )
        for beta in self.betas:
            checks.below_one("betas", beta)

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
                raise ValueError(_other_parameters(f"{len(steps)} parameters", str(len(rows))))
        _same_parameters(self.means, rows, tasks.names)
        lengths = np.sqrt(_squares(rows, [[position] for position in range(len(rows))], len(squares)).T)
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
            mean = _moment(self.means.setdefault(name, {}), position, gradients, task)
            spread = _moment(self.spreads.setdefault(name, {}), position, gradients, task)
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


def _squares(
    rows: Sequence[Mapping[int, Tensor]], blocks: Sequence[Block], tasks: int
) -> Float[np.ndarray, "blocks tasks"]:
    """Return the tasks' squared norms in every block."""
    pairs = [(task, task) for task in range(tasks)]
    products = gramians([Aligned(dict(each)) for each in rows], blocks, tasks, pairs)
    squares: Float[np.ndarray, "blocks tasks"] = np.diagonal(products, axis1=1, axis2=2)
    return squares


def _moment(
    kept: dict[str, Tensor], position: int, gradients: Mapping[int, Tensor], task: int
) -> Tensor | None:
    """Return what a task keeps of a parameter, on its device: zero at first, `None` before any gradient."""
    like = next(iter(gradients.values()))
    moment = kept.get(str(position))
    if moment is None:
        if task not in gradients:
            return None
        moment = torch.zeros_like(working(like), memory_format=torch.contiguous_format)
    kept[str(position)] = moment.to(like.device)
    return kept[str(position)]


def _same_parameters(kept: Moments, rows: Sequence[Mapping[int, Tensor]], names: Sequence[str]) -> None:
    """Raise unless what is kept of these tasks fits the parameters."""
    for name in names:
        for position, moment in kept.get(name, {}).items():
            if int(position) >= len(rows):
                raise ValueError(_other_parameters(f"{int(position) + 1} parameters", str(len(rows))))
            for gradient in rows[int(position)].values():
                if gradient.shape != moment.shape:
                    one = f"a parameter of shape {tuple(moment.shape)}"
                    raise ValueError(_other_parameters(one, str(tuple(gradient.shape))))


def _other_parameters(kept: str, given: str) -> str:
    return f"What is kept is of {kept}, not {given}: share the same parameters in every step, in order."
