"""Methods that decide coordinate by coordinate, for which a Gramian is not enough."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance.engine import Balancer
from counterpoint.balance.gramian import Block, gramians
from counterpoint.balance.rows import Aligned
from counterpoint.balance.step import Merged, Plan, Tasks


@dataclass(eq=False, repr=False)
class CoordinateBalancer(Balancer):
    """A method that looks at every coordinate of every task's gradient; costs one pass per task.

    `buffers` names the part of its state that is as large as the gradients.
    """

    buffers: ClassVar[tuple[str, ...]] = ()
    family = "Coordinates"
    scales = False

    def merge_coordinates(
        self, rows: Sequence[dict[int, Tensor]], squares: Float[np.ndarray, " tasks"], tasks: Tasks
    ) -> tuple[list[Tensor | None], Float[np.ndarray, " tasks"]]:
        """Return the merged gradient of every parameter, and what to report as the tasks' weights.

        Called only when everything is finite.

        Args:
            rows: every parameter's gradients, by task; a task without one has a zero gradient. They are not
                to be written to.
            squares: the squared norm of every task's whole gradient.
            tasks: the tasks of the batch.
        """
        raise NotImplementedError

    def state_names(self) -> tuple[str, ...]:
        """Return the attributes that change from step to step."""
        return (*self.stateful, *self.buffers)

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Raise: the method has no weights."""
        raise TypeError(f"{self!r} decides coordinate by coordinate; use merge() instead of weights().")

    def _snapshot(self) -> dict[str, Any]:
        """Return the state without the buffers, which change only after finite gradients."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.stateful}

    def _merged(
        self,
        gradients: Sequence[Aligned],
        blocks: Sequence[Block],
        products: Float[np.ndarray, "blocks taken taken"],
        plan: Plan,
        tasks: Tasks,
        scale: float = 1.0,
    ) -> Merged:
        if not (plan.solve and np.isfinite(products).all()):
            return super()._merged(gradients, blocks, products, plan, tasks)
        _scale([row for each in gradients for row in each.rows.values()], 1 / scale)
        squares = np.diagonal(products.sum(axis=0))
        parts, weights = self.merge_coordinates([each.rows for each in gradients], squares, tasks)
        beside = [
            Aligned({row + 1: tensor for row, tensor in each.rows.items()} | {0: part})
            for each, part in zip(gradients, parts, strict=True)
            if part is not None
        ]
        pairs = [(0, row) for row in range(len(tasks.names) + 1)]
        effects = gramians(beside, [range(len(beside))], len(pairs), pairs)[0, 0, 1:]
        _scale([part for part in parts if part is not None], scale)
        return Merged(parts, np.tile(weights, (len(products), 1)), True, effects)


def _scale(tensors: list[Tensor], factor: float) -> None:
    if tensors and factor != 1.0:
        torch._foreach_mul_(tensors, factor)
