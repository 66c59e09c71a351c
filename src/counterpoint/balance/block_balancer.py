"""Methods that weigh rows by their Gramian: by blocks, at the representation, every few steps."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, options, processes
from counterpoint.balance.batch import Batch
from counterpoint.balance.engine import Balancer
from counterpoint.balance.gramian import Block, gramians, gramians_of_rows
from counterpoint.balance.passes import rows_at_representation, send_through, take_rows
from counterpoint.balance.report import Report, report
from counterpoint.balance.rows import align
from counterpoint.balance.step import Plan, Tasks

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
    family = "Directions"
    scales = False

    def __post_init__(self) -> None:
        checks.granularity(self.granularity)
        if not isinstance(self.granularity, str):
            self.granularity = [list(group) for group in self.granularity]
            checks.in_one_group(self.granularity)
        options.one_of("passes", self.passes, ("exact", "representation"))
        options.count("every", self.every)
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
            if processes.several():  # the joined batch's representation is all ranks' on top of each other
                products = processes.average_values(torch.from_numpy(products)).numpy() / processes.number()
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
            return gramians_of_rows(rows, batch.parameters, [everything]) / batch.scale**2
