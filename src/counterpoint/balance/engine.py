"""The balanced backward pass: gradients, devices, processes, memory in one place; methods are only algebra.

    {task: loss} ──► rows: backward passes through the shared parameters ──► Gramian ──► weights ──► .grad

A method says two things: how the losses are grouped into rows (`Balancer.rows`), and what the merged gradient
weighs every row with, given the rows' inner products (`Balancer.solve`). Everything else is here.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, ClassVar, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp import GradScaler

from counterpoint.balance import checks
from counterpoint.balance.base import Method
from counterpoint.balance.batch import Batch, Pending
from counterpoint.balance.gramian import Block, combine, gramians, inner_products, mixed, summed
from counterpoint.balance.graph import distinct
from counterpoint.balance.passes import take_rows
from counterpoint.balance.report import InParameters, Report, report
from counterpoint.balance.rows import Aligned, Row, add_grads, align
from counterpoint.balance.step import Merged, Plan, Tasks


@dataclass(eq=False, repr=False)
class Balancer(Method):
    """Merges the gradients of several tasks into one; every method is a subclass.

    A subclass is a dataclass whose fields are its options: see `Method` for what it may say. By itself this
    class takes one row per task and adds them up.
    """

    _pending: ClassVar[Pending | None] = None  # an instance's own between `accumulate` and `merge`

    def backward(
        self,
        losses: Mapping[str, Tensor | None],
        *,
        shared: Iterable[Tensor] | None = None,
        target: str | None = None,
        representation: Tensor | Sequence[Tensor] | None = None,
        scaler: GradScaler | None = None,
        heads: Iterable[Tensor] | None = None,
        diagnose: bool = False,
    ) -> Report:
        """Fill `.grad` as `Tensor.backward` would, with the merged gradient in the shared parameters.

            >>> import torch
            >>> from counterpoint import balance
            >>> trunk, heads = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)
            >>> click, like = heads(trunk(torch.ones(4, 3))).square().mean(dim=0)
            >>> balancer = balance.make("mtrec")
            >>> report = balancer.backward(
            ...     {"click": click, "like": like}, shared=trunk.parameters(), target="click"
            ... )
            >>> report.tasks, trunk.weight.grad.shape
            (('click', 'like'), torch.Size([2, 3]))

        Every other parameter a loss reaches gets its own plain gradient, whatever the method weighs the tasks
        with. Both are added to what is there, so gradients accumulate over calls. The graphs are freed.

        A task that the batch lacks is `None` or left out; a loss without a graph, or one that does not reach
        the shared parameters, has a zero gradient. Losses or gradients that are not finite are added up, for
        a scaler or a check of your own to find in `.grad`, and leave the method's state alone.

        Under `torch.distributed` gradients and losses are averaged over the ranks before anything is
        decided: all ranks end with the gradient of the joined batch. Do not wrap the model in
        `DistributedDataParallel` as well, and give every rank the same tasks in the same order.

        A trunk compiled with `torch.compile` needs `torch._functorch.config.donated_buffer = False` where it
        is passed more than once. Reentrant checkpointing hides parameters from the graph: then give
        `shared`, and keep the heads out of it.

        Args:
            losses: a scalar per task.
            shared: the shared parameters; by default those that at least two of the losses reach. Give them
                if the batch lacks a task, and, in the same order at every step, to methods that keep state by
                parameter.
            target: the name of the target task, for methods that have one. A name that is no key counts as
                that of a task the batch lacks, unless it looks misspelt.
            representation: what the trunk computes and all heads take, one tensor or several; for methods
                with `passes="representation"`, and then all parameters below it are shared.
            scaler: of mixed precision. Give the losses unscaled: they are scaled here, and the method sees
                gradients and losses unscaled. Step and update the scaler as ever.
            heads: under `torch.distributed`, all other parameters (shared ones among them do not matter), in
                an order that ranks have in common: needed only if a loss reaches different ones on each.
            diagnose: take one pass per task, so that the report shows every task's norm, in each parameter
                too, and all conflicts; the merged gradient is the same but for rounding. With a
                representation, tell the exact weights beside it.

        Raises:
            ValueError: no loss, a loss that is not a scalar, a misspelt or missing target, no shared
                parameters or one that is no leaf, a representation that is missing, not asked for or passed
                by; under `torch.distributed`, ranks with different tasks or parameters. State and `.grad`
                of shared parameters are as they were.
            TypeError: a loss that is no tensor, or another argument of a wrong type.
        """
        checks.representation(self, representation, wanted=self.at_representation())
        cut = [representation] if isinstance(representation, Tensor) else distinct(representation or ())
        if self.needs_target:
            checks.target_named(self, target)
        checks.ordered(self, shared)
        batch = Batch.of(losses, shared=shared, heads=heads, target=target, scaler=scaler, representation=cut)
        return self._kept_if_finite(lambda: self._run(batch, diagnose))

    def accumulate(
        self,
        losses: Mapping[str, Tensor | None],
        *,
        shared: Iterable[Tensor],
        scaler: GradScaler | None = None,
        heads: Iterable[Tensor] | None = None,
    ) -> None:
        """Take the gradients of some tasks and keep them until `merge()`: for tasks on batches of their own.

            for task in ("sentiment", "similarity"):
                balancer.accumulate({task: loss_of(task)}, shared=encoder.parameters())
            report = balancer.merge(target="similarity")
            optimizer.step()

        The graph is freed, and heads get their plain gradients, as in `backward`. A task that comes again is
        added to its gradient and its loss: divide by the number of its batches yourself.

        Raises:
            ValueError: as in `backward`; other shared parameters than those of the tasks kept so far.
            TypeError: as in `backward`.
        """
        batch = Batch.of(losses, shared=shared, heads=heads, scaler=scaler)
        with closing(take_rows(np.eye(len(batch.losses)), batch)) as rows:
            kept = Pending.of(batch, list(rows))
        self._pending = kept if self._pending is None else self._pending.plus(kept)  # type: ignore[misc]

    def discard(self) -> None:
        """Forget what `accumulate` kept, as after a batch that cannot be merged."""
        self._pending = None  # type: ignore[misc]

    @overload
    def merge(self, *, target: str | None = None, diagnose: bool = False) -> Report: ...

    @overload
    def merge(
        self,
        gradients: Float[Tensor, "tasks coordinates"],
        *,
        target: int | None = None,
        losses: Float[Tensor, " tasks"] | None = None,
        blocks: Sequence[tuple[int, int]] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> Float[Tensor, " coordinates"]: ...

    def merge(
        self,
        gradients: Float[Tensor, "tasks coordinates"] | None = None,
        *,
        target: Any = None,
        losses: Float[Tensor, " tasks"] | None = None,
        blocks: Sequence[tuple[int, int]] | None = None,
        tasks: Sequence[str] | None = None,
        diagnose: bool = False,
    ) -> Report | Float[Tensor, " coordinates"]:
        """Return what `backward` would put into `.grad`, for a plain matrix of task gradients.

            >>> import torch
            >>> from counterpoint import balance
            >>> balance.make("pcgrad").merge(torch.tensor([[2.0, 0.0], [-1.0, 1.0]]))
            tensor([1., 2.])

        Without a matrix, the gradients that `accumulate` kept are merged into `.grad`, and the report is
        returned.

        Args:
            gradients: one row per task.
            target: the row of the target task; without a matrix, its name.
            losses: the loss of every task, for methods that use them.
            blocks: `(start, stop)` of the coordinates with a Gramian of their own; by default one over all.
            tasks: the names of the rows, for methods with options by name; by default "0", "1", ….
            diagnose: without a matrix, show every task's norm in each parameter too.

        Raises:
            ValueError: no rows, a target that is no row, or blocks that do not cover every coordinate once;
                without a matrix, nothing accumulated.
            TypeError: gradients that are not floating point.
        """
        if self.needs_target:
            checks.target_named(self, target)
        if gradients is None:
            if self._pending is None:
                raise ValueError("There is nothing to merge; call accumulate() for every task first.")
            batch, rows = self._pending.joined(target)
            report = self._kept_if_finite(
                lambda: self._settle(
                    batch, rows, self._plan(batch.tasks).task_by_task(), by_parameter=diagnose
                )
            )
            self.discard()
            return report
        checks.matrix(gradients)
        spans = blocks or [(0, gradients.shape[1])]
        checks.tiling(spans, gradients.shape[1])
        named = self._named(len(gradients), target, losses, tasks)
        first: Tensor = gradients[0].detach().clone()  # the merged gradient is written there
        rows_given = (first, *gradients[1:].detach())
        pieces = [align([row[start:stop] for row in rows_given], first[start:stop]) for start, stop in spans]
        of_pieces = [[index] for index in range(len(pieces))]
        products = gramians(pieces, of_pieces, len(gradients))
        merged = self._kept_if_finite(
            lambda: self._merged(pieces, of_pieces, products, self._plan(named).task_by_task(), named)
        )
        for (start, stop), part in zip(spans, merged.parts, strict=True):
            first[start:stop] = 0.0 if part is None else part
        return first

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

        Raises:
            TypeError: the method decides coordinate by coordinate and has no such weights.
        """
        checks.gramian(gramian)
        if self.needs_target:
            checks.target_named(self, target)
        named = self._named(len(gramian), target, losses, tasks)
        products = gramian.detach().cpu().double().numpy()[None]
        return torch.from_numpy(self._weights(products, self._plan(named).task_by_task(), named)[0])

    def _plan(self, tasks: Tasks) -> Plan:
        """Decide on the passes; losses that are not finite are added up."""
        if tasks.losses is not None and not np.isfinite(tasks.losses).all():
            return Plan.of(np.eye(len(tasks.names)), solve=False)
        return Plan.of(self.rows(tasks))

    def _run(self, batch: Batch, diagnose: bool) -> Report:
        """Take the passes and merge what they bring into `.grad`."""
        plan = self._plan(batch.tasks)
        if diagnose:
            plan = plan.task_by_task()
        with closing(take_rows(plan.taken, batch)) as rows:
            return self._settle(batch, list(rows), plan, by_parameter=diagnose)

    def _settle(self, batch: Batch, rows: list[Row], plan: Plan, *, by_parameter: bool = False) -> Report:
        """Merge the rows taken into `.grad`; they are used up."""
        with torch.no_grad():
            gradients = [
                align([row[index] for row in rows], like, whole=self.whole_tables)
                for index, like in enumerate(batch.parameters)
            ]
            rows.clear()
            blocks = self.blocks(batch.parameters)
            of_blocks: list[Block] = [range(len(batch.parameters))] if blocks is None else blocks
            of_parameters = inner_products(gradients, of_blocks, len(plan.taken))
            products = summed(of_parameters, of_blocks) / batch.scale**2
            result = self._merged(gradients, of_blocks, products, plan, batch.tasks, batch.scale)
            merged = [each.gradient(part) for each, part in zip(gradients, result.parts, strict=True)]
            add_grads(batch.parameters, merged)
        return report(
            batch.tasks,
            plan.taken,
            products,
            result.weights,
            by_block=blocks is not None,
            effects=result.effects,
            parameters=InParameters.of(of_parameters, of_blocks, batch.scale) if by_parameter else None,
        )

    def _merged(
        self,
        gradients: Sequence[Aligned],
        blocks: Sequence[Block],
        products: Float[np.ndarray, "blocks taken taken"],
        plan: Plan,
        tasks: Tasks,
        scale: float = 1.0,
    ) -> Merged:
        """Return the merged gradient of every parameter, written into the gradients' buffers.

        The gradients are multiplied by `scale`, as their merge is to be, the products are not.
        """
        finite = bool(np.isfinite(products).all())
        weights = self._weights(products, plan if finite else replace(plan, solve=False), tasks)
        return Merged(combine(gradients, blocks, weights), weights, finite)

    def _weights(
        self, products: Float[np.ndarray, "blocks taken taken"], plan: Plan, tasks: Tasks
    ) -> Float[np.ndarray, "blocks taken"]:
        """Return the weight of every gradient taken."""
        if not plan.solve:
            of_rows = np.ones((len(products), len(plan.mixing)))
        elif plan.simple:
            return self.weigh(products, tasks)
        else:
            rows = tasks.mixed(plan.mixing @ plan.taken)
            of_rows = self.weigh(mixed(products, plan.mixing), rows)
        weights: Float[np.ndarray, "blocks taken"] = of_rows @ plan.mixing
        return weights

    def _named(
        self,
        rows: int,
        target: int | None,
        losses: Float[Tensor, " tasks"] | None,
        tasks: Sequence[str] | None,
    ) -> Tasks:
        """Return what a caller without losses said of the rows."""
        names = tuple(map(str, range(rows))) if tasks is None else tuple(tasks)
        checks.row_names(names, rows)
        checks.loss_values(self, losses, rows)
        checks.row(target, rows)
        return Tasks(names, target, None if losses is None else losses.detach().cpu().double().numpy())
