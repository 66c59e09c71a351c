"""What a caller gives of one step, as the engine holds it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp import GradScaler
from torch.autograd.graph import get_gradient_edge

from counterpoint.balance import checks, processes
from counterpoint.balance.graph import common_leaves, distinct, leaves, nodes, nodes_below, nodes_of, without
from counterpoint.balance.rows import Row, sum_of
from counterpoint.balance.step import Tasks


@dataclass(frozen=True, eq=False)
class Batch:
    """The losses of one backward pass and the parameters they share.

    Attributes:
        tasks: their names, their target and the losses' values.
        losses: a scalar per task.
        parameters: the shared parameters.
        own: under `torch.distributed`, the parameters that a loss reaches beside them.
        scale: what the losses are multiplied by, for a gradient scaler.
        representation: what the trunk computed, where the method was given it.
    """

    tasks: Tasks
    losses: list[Tensor]
    parameters: list[Tensor]
    own: list[Tensor]
    scale: float
    representation: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        losses: Mapping[str, Tensor | None],
        *,
        shared: Iterable[Tensor] | None,
        heads: Iterable[Tensor] | None = None,
        target: str | None = None,
        scaler: GradScaler | None = None,
        representation: Sequence[Tensor] = (),
    ) -> "Batch":
        """Check what a caller gave; see `Balancer.backward`."""
        checks.mapping(losses)
        checks.scaler(scaler)
        present = {task: loss for task, loss in losses.items() if loss is not None}
        names = tuple(present)
        if processes.several():  # before anything that could raise on one rank and leave the others waiting
            processes.agree("target and tasks, in the same order", (target, *names))
        checks.losses(present)
        position = _position(target, losses, names)
        of_tasks = list(present.values())
        common = _shared(losses, of_tasks, shared, representation)
        own: list[Tensor] = []
        if processes.several():
            own = _own(of_tasks, common, heads)
            processes.agree_on_parameters([*common, *own])
        tasks = Tasks(names, position, _values(of_tasks))
        return cls(tasks, of_tasks, common, own, _scale(scaler), list(representation))


@dataclass(frozen=True, eq=False)
class Pending:
    """Gradients of tasks whose batches came one after the other."""

    rows: dict[str, Row]
    losses: dict[str, float]
    parameters: list[Tensor]
    scale: float

    @classmethod
    def of(cls, batch: Batch, rows: Sequence[Row]) -> "Pending":
        """Keep the gradients of one batch."""
        names = batch.tasks.names
        values = dict(zip(names, batch.tasks.values.tolist(), strict=True))
        return cls(dict(zip(names, rows, strict=True)), values, batch.parameters, batch.scale)

    def plus(self, later: "Pending") -> "Pending":
        """Return these gradients with later ones added.

        Raises:
            ValueError: the later ones are of other parameters or otherwise scaled.
        """
        checks.same_parameters(self.parameters, later.parameters)
        checks.same_scale(self.scale, later.scale)
        rows = self.rows | later.rows
        for task in self.rows.keys() & later.rows.keys():
            parts = zip(self.rows[task], later.rows[task], self.parameters, strict=True)
            rows[task] = [sum_of(first, second, like) for first, second, like in parts]
        losses = {task: self.losses.get(task, 0.0) + later.losses.get(task, 0.0) for task in rows}
        return replace(self, rows=rows, losses=losses)

    def joined(self, target: str | None) -> tuple[Batch, list[Row]]:
        """Return the tasks kept as if they had come in one batch, and their gradients."""
        names = tuple(self.rows)
        position = _position(target, self.rows, names)
        tasks = Tasks(names, position, np.array([self.losses[task] for task in names]))
        return Batch(tasks, [], self.parameters, [], self.scale), list(self.rows.values())


def _position(target: str | None, losses: Mapping[str, object], present: Sequence[str]) -> int | None:
    """Return where the target stands among the present tasks, `None` if the batch lacks it."""
    checks.target_not_misspelt(target, losses)
    return present.index(target) if target in present else None


def _shared(
    losses: Mapping[str, Tensor | None],
    present: Sequence[Tensor],
    shared: Iterable[Tensor] | None,
    representation: Sequence[Tensor],
) -> list[Tensor]:
    """Return the shared parameters: those given, those below the representation, or what losses share."""
    given = [] if shared is None else _given(shared)
    if representation:
        _refuse_uncut(representation, present)
        below = _trainable([*leaves(representation), *given])
        _refuse_past(representation, present, below)
        return below
    if shared is not None:
        return given
    checks.told_apart(losses)
    return _trainable(common_leaves(present))


def _given(shared: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters given that take gradients, each once."""
    checks.iterable_of_parameters(shared)
    parameters = list(shared)
    checks.parameters(parameters)
    return _trainable(parameters)


def _trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that take gradients, each once."""
    kept = distinct(parameter for parameter in parameters if parameter.requires_grad)
    checks.trainable(kept)
    return kept


def _refuse_uncut(representation: Sequence[Tensor], losses: Sequence[Tensor]) -> None:
    """Raise unless the losses depend on the trunk by the tensors of the representation alone."""
    for each in representation:
        if each.is_leaf or not each.requires_grad:
            raise ValueError("The representation must be what the trunk computed from its parameters.")
    cut = nodes_of(representation)
    for node in cut if len(cut) > 1 else ():
        if any(other in cut for other in nodes_below(node)):
            raise ValueError(
                "One tensor of the representation is computed from another; give those that the heads take."
            )
    given = {(edge.node, edge.output_nr) for edge in map(get_gradient_edge, representation)}
    for node in nodes(losses, above=cut):
        if any(below in cut and (below, output) not in given for below, output in node.next_functions):
            raise ValueError(
                "A loss depends on another output of what computed the representation, as on the state beside"
                " the outputs of an RNN; give every tensor by which the heads depend on the trunk."
            )


def _refuse_past(
    representation: Sequence[Tensor], losses: Sequence[Tensor], parameters: Sequence[Tensor]
) -> None:
    """Raise if a loss reaches a parameter below the representation past it."""
    known = set(map(id, parameters))
    for parameter in leaves(losses, above=nodes_of(representation)):
        if id(parameter) in known:
            raise ValueError(
                f"A loss reaches a shared parameter of shape {tuple(parameter.shape)} past the"
                " representation; give every tensor by which the heads depend on the trunk, or use"
                " passes='exact'."
            )


def _own(losses: Sequence[Tensor], shared: Sequence[Tensor], heads: Iterable[Tensor] | None) -> list[Tensor]:
    """Return the parameters beside the shared ones, of which every rank is to get the same gradient."""
    reached = without(leaves(losses), shared)
    if heads is None:
        return reached
    own = without(_trainable(heads), shared)
    beyond = without(reached, own)
    if not all(processes.all_of([not beyond])):  # on this rank or another
        raise ValueError(
            "A loss reaches a parameter that is neither in shared nor in heads"
            f"{f', of shape {tuple(beyond[0].shape)}' if beyond else ''}: give all of the model's."
        )
    return own


def _values(losses: Sequence[Tensor]) -> Float[np.ndarray, " tasks"]:
    values = torch.stack([loss.detach().to(losses[0].device) for loss in losses]).cpu().double()
    return processes.average_values(values).numpy()


def _scale(scaler: GradScaler | None) -> float:
    """Return the factor of the scaler, which makes it up on its first use."""
    if scaler is None or not scaler.is_enabled():
        return 1.0
    scaler.scale(torch.ones((), device=scaler._device))
    return scaler.get_scale()
