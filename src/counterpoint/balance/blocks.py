"""Methods that weigh rows by their Gramian: by blocks, at the representation, every few steps."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, ranks
from counterpoint.balance.batch import Batch, Plan, Tasks
from counterpoint.balance.engine import Balancer
from counterpoint.balance.gramian import Block, combine, gramians
from counterpoint.balance.passes import rows_at_representation, send_through, take_rows
from counterpoint.balance.report import Report, report
from counterpoint.balance.rows import Row, add_grads, align

Granularity = Literal["whole", "tensor"] | Sequence[Sequence[Tensor]]
"""One Gramian over all shared parameters, one per parameter, or one per group (the rest forms one more)."""

Passes = Literal["exact", "representation"]


@dataclass(eq=False, repr=False)
class BlockBalancer(Balancer):
    """A method that weighs rows by their inner products alone, and so offers more than one way to take them.

    Attributes:
        granularity: where inner products are taken: over all shared parameters, or in each block by itself.
        passes: "exact" for the gradients of the parameters, one pass through the trunk per row, or
            "representation" for those of the trunk's output, with a single pass through the trunk: an
            approximation, since gradients that agree there may conflict below. `backward` needs
            `representation=` then, and tells with `diagnose=True` how far off its weights are.
        every: take new weights every so many steps; in between, one pass with the weights held. A task that
            has no weight yet makes for new ones.
    """

    granularity: Granularity = field(default="whole", kw_only=True)
    passes: Passes = field(default="exact", kw_only=True)
    every: int = field(default=1, kw_only=True)
    held: dict[str, float] = field(default_factory=dict, init=False)
    age: int = field(default=0, init=False)
    scales: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.granularity = checks.granularity(self.granularity)
        checks.one_of("passes", self.passes, ("exact", "representation"))
        checks.count("every", self.every)
        checks.whole_only(self)

    def blocks(self, parameters: Sequence[Tensor]) -> list[Block] | None:
        """Return the blocks of `granularity`; parameters in no group form one more."""
        if self.granularity == "whole":
            return None
        if self.granularity == "tensor":
            return [[index] for index in range(len(parameters))]
        places = {id(parameter): index for index, parameter in enumerate(parameters)}
        groups: list[Block] = []
        for number, members in enumerate(self.granularity):
            groups.append([places.pop(id(each)) for each in members if id(each) in places])
            checks.group(number, members, groups[-1])
        return [*groups, list(places.values())] if places else groups

    def at_representation(self) -> bool:
        """Return whether `passes` says so."""
        return self.passes == "representation"

    def needs_order(self) -> bool:
        """Return whether there is state by parameter or group."""
        return self.by_place and self.granularity != "whole"

    def holds(self) -> bool:
        """Return whether weights are held for some steps."""
        return self.every > 1

    def state_names(self) -> tuple[str, ...]:
        """Return the attributes that change; weights are held only if they may grow old."""
        return (*self.stateful, "held", "age") if self.holds() else self.stateful

    def _plan(self, tasks: Tasks) -> Plan:
        """Take the weights held, in one pass, while they are fresh."""
        if self.holds() and self.age % self.every and self.held.keys() >= set(tasks.names):
            plan = Plan.of(np.array([[self.held[task] for task in tasks.names]]), solve=False)
        else:
            plan, self.age = super()._plan(tasks), 0
        self.age += 1
        return plan

    def _weights(
        self, products: Float[np.ndarray, "blocks taken taken"], plan: Plan, tasks: Tasks
    ) -> Float[np.ndarray, "blocks taken"]:
        """Hold the weights of the tasks for the steps to come."""
        weights = super()._weights(products, plan, tasks)
        if self.holds() and plan.solve:
            self.held |= dict(zip(tasks.names, (weights[0] @ plan.taken).tolist(), strict=True))
        return weights

    def _run(self, batch: Batch, diagnose: bool) -> Report:
        if self.passes == "exact":
            return super()._run(batch, diagnose)
        return self._run_at_representation(batch, diagnose)

    def _run_at_representation(self, batch: Batch, diagnose: bool) -> Report:
        """Weigh the gradients at the representation and send their sum through the trunk."""
        plan = self._plan(batch.tasks).task_by_task()
        exact = self._exact_products(batch) if diagnose else None
        rows = rows_at_representation(batch)
        with torch.no_grad():
            pieces = [
                align([row[index] for row in rows], each) for index, each in enumerate(batch.representation)
            ]
            everything: list[Block] = [range(len(pieces))]
            products = gramians(pieces, everything, len(rows)) / batch.scale**2
            if ranks.several():  # the joined batch's representation is all ranks' on top of each other
                products = ranks.average_values(torch.from_numpy(products)).numpy() / ranks.number()
            exact_weights = None
            if exact is not None:
                before = self._snapshot()
                fresh = plan if plan.solve else super()._plan(batch.tasks).task_by_task()
                exact_weights = self._weights(exact, fresh, batch.tasks)[0]
                self._restore(before)
            result = self._merged(pieces, everything, products, plan, batch.tasks)
        finite = send_through(batch, result.parts)
        return report(
            batch.tasks,
            plan.taken,
            products,
            result.weights,
            exact_weights=exact_weights,
            finite=None if finite else False,
        )

    def _exact_products(self, batch: Batch) -> Float[np.ndarray, "blocks tasks tasks"]:
        """Return the Gramian of the parameters' gradients, and leave graphs and `.grad` as they are."""
        with closing(take_rows(np.eye(len(batch.losses)), batch, keep=True)) as taken:
            rows = list(taken)
        with torch.no_grad():
            everything = range(len(batch.parameters))
            return _products(rows, batch.parameters, [everything]) / batch.scale**2


@dataclass(eq=False, repr=False)
class TargetFirst(BlockBalancer):
    """A method that looks at every auxiliary task's gradient beside the target's alone.

    With more than three tasks, the target's gradient is taken first and every other one is added to the
    merged gradient as it comes: three copies of the shared gradients for any number of tasks, four under
    `torch.distributed`. The report then lacks what two auxiliary tasks are to each other (nan), unless
    `diagnose` asks for it.
    """

    needs_target = True

    def begin(self, target: str, squares: Float[np.ndarray, " blocks"]) -> None:
        """Begin a step that has the target, with the squared norms of its gradient; here nothing is to do."""

    def pair(
        self,
        task: str,
        squares: Float[np.ndarray, " blocks"],
        inner: Float[np.ndarray, " blocks"],
        target: Float[np.ndarray, " blocks"],
    ) -> tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
        """Return what an auxiliary task adds to the target's weight, and its own weight; here 0 and 1.

        Args:
            task: the auxiliary task.
            squares: the squared norms of its gradient, block by block.
            inner: its inner products with the target's gradient.
            target: the squared norms of the target's gradient.
        """
        return np.zeros_like(inner), np.ones_like(inner)

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Return the weights pair by pair; without the target 1 each."""
        weights = np.ones(products.shape[:2])
        t = rows.target
        if t is None:
            return weights
        squares = np.diagonal(products, axis1=1, axis2=2)
        self.begin(rows.names[t], squares[:, t])
        for i, task in enumerate(rows.names):
            if i != t:
                of_target, weights[:, i] = self.pair(task, squares[:, i], products[:, t, i], squares[:, t])
                weights[:, t] += of_target
        return weights

    def _run(self, batch: Batch, diagnose: bool) -> Report:
        streams = len(batch.losses) > 3 and batch.tasks.target is not None and self.passes == "exact"
        if diagnose or not streams:
            return super()._run(batch, diagnose)
        plan = self._plan(batch.tasks)
        if not plan.solve:
            with closing(take_rows(plan.taken, batch)) as rows:
                return self._settle(batch, list(rows), plan)
        return self._stream(batch)

    def _stream(self, batch: Batch) -> Report:
        """Merge the gradients one by one as they are taken, the target's first."""
        tasks, parameters = batch.tasks, batch.parameters
        t = tasks.target
        assert t is not None
        order = [t, *(index for index in range(len(tasks.names)) if index != t)]
        blocks = self.blocks(parameters)
        of_blocks: list[Block] = [range(len(parameters))] if blocks is None else blocks
        count = len(order)
        products = np.full((len(of_blocks), count, count), np.nan)
        weights = np.ones((len(of_blocks), count))
        total: Row = [None] * len(parameters)

        with closing(take_rows(np.eye(count)[order], batch)) as rows, torch.no_grad():
            target = next(rows)
            squares = _products([target], parameters, of_blocks, [(0, 0)])[:, 0, 0] / batch.scale**2
            products[:, t, t] = squares
            self.begin(tasks.names[t], squares)
            for i, row in zip(order[1:], rows, strict=True):
                pair = _products([target, row], parameters, of_blocks, [(0, 1), (1, 1)]) / batch.scale**2
                products[:, t, i] = products[:, i, t] = pair[:, 0, 1]
                products[:, i, i] = pair[:, 1, 1]
                if np.isfinite(pair).all():
                    of_target, weights[:, i] = self.pair(
                        tasks.names[i], pair[:, 1, 1], pair[:, 0, 1], squares
                    )
                    weights[:, t] += of_target
                _add_weighted(total, row, of_blocks, weights[:, i], parameters)
                row.clear()  # before the next pass makes the next one
            _add_weighted(total, target, of_blocks, weights[:, t], parameters)
        add_grads(parameters, total)
        known = products[:, np.arange(count), t], np.diagonal(products, axis1=1, axis2=2)
        finite = all(np.isfinite(each).all() for each in known)
        if self.holds() and finite:
            self.held |= dict(zip(tasks.names, weights[0].tolist(), strict=True))
        return report(
            tasks, np.eye(count), products, weights, by_block=blocks is not None, finite=bool(finite)
        )


def _products(
    rows: Sequence[Row],
    parameters: Sequence[Tensor],
    blocks: Sequence[Block],
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return the inner products of rows."""
    aligned = [align(gradients, like) for *gradients, like in zip(*rows, parameters, strict=True)]
    return gramians(aligned, blocks, len(rows), pairs)


def _add_weighted(
    total: Row,
    row: Row,
    blocks: Sequence[Block],
    weights: Float[np.ndarray, " blocks"],
    parameters: Sequence[Tensor],
) -> None:
    """Add a weighted row to a sum of rows, in place; the row is used up."""
    aligned = [align(pair, like) for *pair, like in zip(total, row, parameters, strict=True)]
    parts = combine(aligned, blocks, np.stack((np.ones_like(weights), weights), axis=1))
    total[:] = [each.gradient(part) for each, part in zip(aligned, parts, strict=True)]
