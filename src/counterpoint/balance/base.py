"""What a balancing method says: facts about it, and its algebra; nothing of gradients or devices."""

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks
from counterpoint.balance.gramian import Block
from counterpoint.balance.state import Stateful
from counterpoint.balance.step import Step, Tasks


@dataclass(eq=False, repr=False)
class Method(Stateful):
    """The part of a `Balancer` that a method is; by itself it takes one row per task and adds them up.

    What is told of a method in the documentation is read from these attributes, and its promises are held
    against it by the tests. None of them is needed.

    Attributes:
        name: what `make` calls it; a class without one goes by its dotted path, `"theirs.module:Class"`.
        family: the methods beside which it is listed.
        source: where it was published.
        promises: what holds in every step: words of `counterpoint.balance.documentation.PROMISES`.
        length: what a first step returns of K equal gradients with losses of 1, in lengths of one of them: an
            expression of K, the options and `norm`, the length itself; empty if it depends on more.
        cost: passes through the shared parameters in a step with K tasks: "1", "2" or "K".
        needs_target: whether the method favours one task, which then has to be named.
        needs_losses: whether the method looks at the losses' values.
        stateful: the attributes that change from step to step: plain values, arrays, lists and dictionaries.
        whole_tables: whether tables of embeddings are to come whole instead of by the rows touched.
        scales: whether a task's gradient is only scaled, whatever the others are: what a chain begins with.
        by_place: whether state is kept by the place of parameters.
        is_optimizer: whether what it makes is a step, for the optimizer that `optimizer` returns.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "Losses alone"
    source: ClassVar[str] = ""
    promises: ClassVar[tuple[str, ...]] = ()
    length: ClassVar[str] = ""
    cost: ClassVar[str] = "K"
    needs_target: ClassVar[bool] = False
    needs_losses: ClassVar[bool] = False
    whole_tables: ClassVar[bool] = False
    scales: ClassVar[bool] = True
    by_place: ClassVar[bool] = False
    is_optimizer: ClassVar[bool] = False

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return the combinations of losses to differentiate: one backward pass through the trunk each."""
        return np.eye(len(tasks.names))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weight of every row in the merged gradient of one block; here 1."""
        return np.ones(len(step.gramian))

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Return the weights of the rows in every block, given their Gramians; here block by block."""
        steps = [
            Step(rows.names, rows.target, rows.losses, gramian=gramian, block=block)
            for block, gramian in enumerate(products)
        ]
        weights = [self.solve(step) for step in steps]
        checks.solved(self, weights, len(rows.names))
        return np.array(weights).reshape(products.shape[:2])

    def blocks(self, parameters: Sequence[Tensor]) -> list[Block] | None:
        """Return the groups of parameters with a Gramian of their own, or `None` for one over all."""
        return None

    def optimizer(self, parameters: Iterable[Any]) -> torch.optim.Optimizer | None:
        """Return the optimizer that the merged gradient is made for, or `None` if any will do, as here.

        Args:
            parameters: tensors, or groups of them with rates and decays of their own, as torch takes them.
        """
        return None

    def check_tasks(self, names: Sequence[str]) -> None:
        """Raise `ValueError` if these tasks cannot be balanced, as a step with them would."""

    def at_representation(self) -> bool:
        """Return whether gradients are to be taken at the trunk's output instead of its parameters."""
        return False

    def needs_order(self) -> bool:
        """Return whether the shared parameters have to come in the same order at every step."""
        return self.by_place

    def __repr__(self) -> str:
        shorten = reprlib.Repr()
        shorten.maxlevel, shorten.maxdict = 1, 100
        options = (
            f"{each.name}={shorten.repr(getattr(self, each.name))}"
            for each in fields(self)
            if each.init and not (each.kw_only and getattr(self, each.name) == each.default)
        )
        return f"{type(self).__name__}({', '.join(options)})"
