"""Methods that look at every auxiliary task's gradient beside the target's alone, one after the other."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance.batch import Batch
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.gramian import Block, combine, gramians_of_rows
from counterpoint.balance.passes import take_rows
from counterpoint.balance.report import Report, report
from counterpoint.balance.rows import Row, add_grads, align
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class TargetFirst(BlockBalancer):
    """A method that looks at every auxiliary task's gradient beside the target's alone.

    With more than three tasks, the target's gradient is taken first and every other one is added to the
    merged gradient as it comes: three copies of the shared gradients for any number of tasks, four under
    `torch.distributed`. The report then lacks what two auxiliary tasks are to each other (nan), unless
    `diagnose` asks for it.
    """

    family = "Target first"
    needs_target = True

    def by_pairs(self) -> bool:
        """Return whether every auxiliary task is looked at alone, as `pair` does."""
        return True

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
        streams = (
            self.by_pairs()
            and len(batch.losses) > 3
            and batch.tasks.target is not None
            and self.passes == "exact"
        )
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
            squares = gramians_of_rows([target], parameters, of_blocks, [(0, 0)])[:, 0, 0] / batch.scale**2
            products[:, t, t] = squares
            self.begin(tasks.names[t], squares)
            for i, row in zip(order[1:], rows, strict=True):
                pair = (
                    gramians_of_rows([target, row], parameters, of_blocks, [(0, 1), (1, 1)]) / batch.scale**2
                )
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
