"""The balanced backward pass: gradients, devices, processes, memory in one place; methods are only algebra.

    {task: loss} ──► rows: backward passes through the shared parameters ──► Gramian ──► weights ──► .grad

A method says two things: how the losses are grouped into rows (`Balancer.rows`), and what the merged gradient
weighs every row with, given the rows' inner products (`Balancer.solve`). Everything else is here.
"""

import copy
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, ranks
from counterpoint.balance.gramian import Block, align, combine, gramians
from counterpoint.balance.graph import add_grads, common_leaves, grads_aside, leaves, take_grads, without
from counterpoint.balance.report import Report, report

Granularity = Literal["whole", "tensor"] | Sequence[Sequence[Tensor]]
"""One Gramian over all shared parameters, one per parameter, or one per group (the rest forms one more)."""


@dataclass(frozen=True, eq=False)
class Step:
    """What a method may look at to weigh the rows of one block.

    Attributes:
        gramian: the inner products of the rows, in float64.
        target: the row that holds the target task; `None` if the batch lacks it or no target was named.
        losses: the loss of every row, where known.
    """

    gramian: Float[np.ndarray, "rows rows"]
    target: int | None
    losses: Float[np.ndarray, " rows"] | None


@dataclass(eq=False, repr=False)
class Balancer:
    """Merges the gradients of several tasks into one; every method is a subclass.

    A subclass is a dataclass whose fields are its options. By itself this class takes one row per task and
    adds them up. `stateful` names the attributes that change from step to step.
    """

    needs_target: ClassVar[bool] = False
    stateful: ClassVar[tuple[str, ...]] = ()

    def rows(self, tasks: Sequence[str], target: int | None) -> Float[np.ndarray, "rows tasks"]:
        """Return the combinations of losses to differentiate: one backward pass through the trunk each."""
        return np.eye(len(tasks))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weight of every row in the merged gradient; here 1."""
        return np.ones(len(step.gramian))

    def blocks(self, parameters: Sequence[Tensor]) -> list[Block] | None:
        """Return the groups of parameters with a Gramian of their own, or `None` for one over all."""
        return None

    def backward(
        self,
        losses: Mapping[str, Tensor | None],
        *,
        shared: Iterable[Tensor] | None = None,
        target: str | None = None,
        diagnose: bool = False,
    ) -> Report:
        """Fill `.grad` as `Tensor.backward` would, with the merged gradient in the shared parameters.

        Every other parameter a loss reaches gets its own plain gradient, whatever the method weighs the tasks
        with. Both are added to what is there, so gradients accumulate over calls. The graphs are freed.

        A task that the batch lacks is `None` or left out; a loss without a graph, or one that does not reach
        the shared parameters, has a zero gradient. Gradients that are not finite are added up plainly, as
        without balancing, and leave the method's state alone: `GradScaler` works with every method that
        scales with the gradients, if all losses are scaled by the same factor.

        Under `torch.distributed` gradients and losses are averaged over the ranks before anything is
        decided: all ranks end with the gradient of the joined batch. Do not wrap the model in
        `DistributedDataParallel` as well, and give every rank the same tasks in the same order.

        A trunk compiled with `torch.compile` needs `torch._functorch.config.donated_buffer = False` when the
        method takes more than one pass. Reentrant checkpointing hides parameters from the graph: then give
        `shared`, and keep the heads out of it.

        Args:
            losses: a scalar per task.
            shared: the shared parameters; by default those that at least two of the losses reach.
            target: the name of the target task, for methods that have one.
            diagnose: take one pass per task, so that the report shows every task's norm and all conflicts;
                the merged gradient is the same.

        Raises:
            ValueError: no loss, a loss that is not a scalar, a misspelt or missing target, a shared tensor
                that is no leaf; under `torch.distributed`, ranks with different tasks.
            TypeError: a loss that is no tensor.
        """
        present = {task: loss for task, loss in losses.items() if loss is not None}
        tasks = tuple(present)
        if ranks.several():  # before anything that could raise on one rank and leave the others waiting
            ranks.agree("tasks, in the same order", tasks)
        checks.losses(present)
        if self.needs_target:
            checks.target_named(self, target)
        position = checks.target_position(target, losses, tasks)
        parameters = common_leaves(present.values()) if shared is None else checks.trainable(shared)
        own: list[Tensor] = []
        if ranks.several():
            own = without(leaves(present.values()), parameters)
            ranks.agree("parameters", [tuple(each.shape) for each in (*parameters, *own)])

        mixture = self.rows(tasks, position)
        taken, mixing = (np.eye(len(tasks)), mixture) if diagnose else _factored(mixture)
        with grads_aside([*parameters, *own]):
            rows = _take_rows(taken, list(present.values()), parameters)
            own_gradients = take_grads(own)
        if ranks.several():
            rows = [ranks.average(row, parameters) for row in rows]
            own_gradients = ranks.average(own_gradients, own)
        add_grads(own, own_gradients)

        with torch.no_grad():
            gradients = [align([row[index] for row in rows]) for index in range(len(parameters))]
            del rows
            blocks = self.blocks(parameters)
            of_blocks = [range(len(parameters))] if blocks is None else blocks
            products = gramians(gradients, of_blocks, len(taken))
            values = _values(list(present.values()))
            weights = self._weigh(products, mixing, _target_row(mixture, position), _mixed(mixture, values))
            add_grads(parameters, combine(gradients, of_blocks, weights))
        of_tasks = weights @ taken
        names = tuple("+".join(np.array(tasks)[row != 0]) for row in taken)
        return report(tasks, names, values, products, weights, of_tasks[0] if blocks is None else of_tasks)

    def merge(
        self,
        gradients: Float[Tensor, "tasks coordinates"],
        *,
        target: int | None = None,
        losses: Float[Tensor, " tasks"] | None = None,
        blocks: Sequence[tuple[int, int]] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> Float[Tensor, " coordinates"]:
        """Return what `backward` would put into `.grad`, for a plain matrix of task gradients.

        Args:
            gradients: one row per task.
            target: the row of the target task.
            losses: the loss of every task, for methods that use them.
            blocks: `(start, stop)` of the coordinates with a Gramian of their own; by default one over all.
            tasks: the names of the rows, for methods with options by name; by default "0", "1", ….

        Raises:
            ValueError: no rows, a target that is no row, or blocks that do not cover every coordinate once.
            TypeError: gradients that are not floating point.
        """
        checks.matrix(gradients)
        spans = checks.tiling(blocks or [(0, gradients.shape[1])], gradients.shape[1])
        merged: Tensor = gradients[0].detach().clone()
        others = gradients[1:].detach()
        pieces = [align([row[start:stop] for row in (merged, *others)]) for start, stop in spans]
        of_pieces = [[index] for index in range(len(pieces))]
        weights = self._task_weights(gramians(pieces, of_pieces, len(gradients)), target, losses, tasks)
        combine(pieces, of_pieces, weights)  # writes into the first row
        return merged

    def weights(
        self,
        gramian: Float[Tensor, "tasks tasks"],
        *,
        target: int | None = None,
        losses: Float[Tensor, " tasks"] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> Float[Tensor, " tasks"]:
        """Return the weight of every task in the merged gradient, given their inner products.

        The algebra alone, in float64; arguments and errors as in `merge`. A stateful method moves on.
        """
        checks.gramian(gramian)
        products = gramian.detach().cpu().double().numpy()
        return torch.from_numpy(self._task_weights(products[None], target, losses, tasks)[0])

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that changes from step to step, for a checkpoint; options are not in it."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.stateful}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, so that training continues exactly.

        Raises:
            ValueError: the state is another method's.
        """
        if set(state) != set(self.stateful):
            raise ValueError(f"{self!r} has the state {sorted(self.stateful)}, not {sorted(state)}.")
        for name, value in state.items():
            setattr(self, name, copy.deepcopy(value))

    def __repr__(self) -> str:
        shorten = reprlib.Repr()
        shorten.maxlevel, shorten.maxdict = 1, 100
        options = (
            f"{each.name}={shorten.repr(getattr(self, each.name))}" for each in fields(self) if each.init
        )
        return f"{type(self).__name__}({', '.join(options)})"

    def _task_weights(
        self,
        products: Float[np.ndarray, "blocks tasks tasks"],
        target: int | None,
        losses: Float[Tensor, " tasks"] | None,
        tasks: Sequence[str] | None,
    ) -> Float[np.ndarray, "blocks tasks"]:
        if self.needs_target:
            checks.target_named(self, target)
        names = checks.row_names(tasks, products.shape[1])
        mixture = self.rows(names, checks.row(target, len(names)))
        values = None if losses is None else _mixed(mixture, losses.detach().cpu().double().numpy())
        return self._weigh(products, mixture, _target_row(mixture, target), values)

    def _weigh(
        self,
        products: Float[np.ndarray, "blocks taken taken"],
        mixing: Float[np.ndarray, "rows taken"],
        target: int | None,
        values: Float[np.ndarray, " rows"] | None,
    ) -> Float[np.ndarray, "blocks taken"]:
        """Weigh the gradients taken, of which the method's rows are the combinations `mixing`."""
        weights = np.ones((len(products), len(mixing)))
        if np.isfinite(products).all() and (values is None or np.isfinite(values).all()):
            for of_block, gramian in zip(weights, products, strict=True):
                of_block[:] = self.solve(Step(mixing @ gramian @ mixing.T, target, values))
        merged: Float[np.ndarray, "blocks taken"] = weights @ mixing
        return merged


@dataclass(eq=False, repr=False)
class BlockBalancer(Balancer):
    """A method that may decide for every block of parameters by itself."""

    granularity: Granularity = field(default="whole", kw_only=True)

    def __post_init__(self) -> None:
        checks.granularity(self.granularity)

    def blocks(self, parameters: Sequence[Tensor]) -> list[Block] | None:
        """Return the blocks of `granularity`; parameters in no group form one more."""
        if self.granularity == "whole":
            return None
        if self.granularity == "tensor":
            return [[index] for index in range(len(parameters))]
        places = {id(parameter): index for index, parameter in enumerate(parameters)}
        groups: list[Block] = [
            [places.pop(id(each)) for each in group if id(each) in places] for group in self.granularity
        ]
        return [*groups, list(places.values())] if places else groups


def _take_rows(
    taken: Float[np.ndarray, "rows tasks"], losses: Sequence[Tensor], parameters: Sequence[Tensor]
) -> list[list[Tensor | None]]:
    """Run the backward passes; return each one's gradients of the parameters.

    A pass that adds losses up fills the heads with their plain gradient on the way. Tasks that appear only in
    passes with other factors, or in none, get theirs in a pass of their own that stops at the heads.
    """
    terms = [
        [(loss, f) for loss, f in zip(losses, row, strict=True) if f and loss.requires_grad] for row in taken
    ]
    plain = [set(row.tolist()) <= {0.0, 1.0} for row in taken]
    filled = (taken[plain] != 0).any(axis=0).tolist()
    headless = [loss for loss, done in zip(losses, filled, strict=True) if not done and loss.requires_grad]
    heads = without(leaves(headless, below_checkpoints=False), parameters)
    left = sum(map(bool, terms))
    if heads:
        torch.autograd.backward(headless, inputs=heads, retain_graph=left > 0)
    rows: list[list[Tensor | None]] = []
    for row, fills_heads in zip(terms, plain, strict=True):
        if row:
            left -= 1
            summed = [loss for loss, _ in row]
            seeds = [torch.full_like(loss, factor) for loss, factor in row]
            reached = [] if fills_heads else leaves(summed, below_checkpoints=False)
            with grads_aside(without(reached, parameters)):
                torch.autograd.backward(summed, seeds, retain_graph=left > 0)
        rows.append(take_grads(parameters))
    return rows


def _factored(
    mixture: Float[np.ndarray, "rows tasks"],
) -> tuple[Float[np.ndarray, "rows tasks"], Float[np.ndarray, "rows rows"]]:
    """Take out of every row a factor its tasks share, to apply it to the gradient instead of the losses."""
    taken = mixture.copy()
    factors = np.ones(len(mixture))
    for index, row in enumerate(mixture):
        distinct = np.unique(row[row != 0])
        if len(distinct) == 1:
            factors[index] = distinct[0]
            taken[index] = row != 0
    return taken, np.diag(factors)


def _target_row(mixture: Float[np.ndarray, "rows tasks"], target: int | None) -> int | None:
    if target is None:
        return None
    return next((index for index, row in enumerate(mixture) if row[target]), None)


def _mixed(
    mixture: Float[np.ndarray, "rows tasks"], values: Float[np.ndarray, " tasks"]
) -> Float[np.ndarray, " rows"]:
    with np.errstate(invalid="ignore"):  # 0 · ∞; a loss that is not finite is dealt with later
        mixed: Float[np.ndarray, " rows"] = mixture @ values
    return mixed


def _values(losses: Sequence[Tensor]) -> Float[np.ndarray, " tasks"]:
    values = torch.stack([loss.detach().to(losses[0].device) for loss in losses]).cpu().double()
    return (ranks.average_values(values) if ranks.several() else values).numpy()
