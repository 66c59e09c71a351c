"""One step's tasks, as methods see them and as the engine holds them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp import GradScaler

from counterpoint.balance import checks, ranks
from counterpoint.balance.graph import common_leaves, leaves, without
from counterpoint.balance.rows import Row, sum_of


@dataclass(frozen=True, eq=False)
class Tasks:
    """The tasks of a step, or the rows their gradients were merged into.

    Attributes:
        names: of the tasks; of a row of several tasks "category+entities".
        target: the position of the target task; `None` if the batch lacks it or no target was named.
        losses: their values, where known.
    """

    names: tuple[str, ...]
    target: int | None = None
    losses: Float[np.ndarray, " tasks"] | None = None

    @property
    def values(self) -> Float[np.ndarray, " tasks"]:
        """The losses, which the caller knows to be there."""
        assert self.losses is not None
        return self.losses

    def mixed(self, mixture: Float[np.ndarray, "rows tasks"]) -> "Tasks":
        """Return the rows that these combinations of the tasks are."""
        names = tuple(
            "+".join(name for name, factor in zip(self.names, row, strict=True) if factor)
            for row in mixture.tolist()
        )
        target = None
        if self.target is not None:
            target = next((index for index, row in enumerate(mixture) if row[self.target]), None)
        with np.errstate(invalid="ignore"):  # 0 · ∞; a loss that is not finite is dealt with by the engine
            return Tasks(names, target, None if self.losses is None else mixture @ self.losses)


@dataclass(frozen=True, eq=False)
class Step(Tasks):
    """What a method may look at to weigh the rows of one block.

    Attributes:
        gramian: the inner products of the rows, in float64.
        block: the number of the block, for methods with a state for each.
    """

    gramian: Float[np.ndarray, "rows rows"] = field(kw_only=True)
    block: int = field(default=0, kw_only=True)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which passes to take, and how the method's rows follow from them.

    Attributes:
        taken: the combination of losses each pass differentiates.
        mixing: the method's rows as combinations of the gradients taken.
        solve: whether the method is to weigh its rows; otherwise they are added up.
        simple: whether the method's rows are the tasks, and a pass is taken for each.
    """

    taken: Float[np.ndarray, "taken tasks"]
    mixing: Float[np.ndarray, "rows taken"]
    solve: bool = True
    simple: bool = False

    @classmethod
    def of(cls, mixture: Float[np.ndarray, "rows tasks"], *, solve: bool = True) -> "Plan":
        """Take a pass per row; a factor its tasks share is applied to the gradient instead of the losses."""
        mixture = np.asarray(mixture, dtype=np.float64)
        if np.array_equal(mixture, np.eye(mixture.shape[1])):
            return cls(mixture, mixture, solve, simple=True)
        used = mixture != 0
        largest = mixture.max(axis=1, where=used, initial=-np.inf)
        alike = largest == mixture.min(axis=1, where=used, initial=np.inf)
        taken = np.where(alike[:, None], used, mixture)
        return cls(taken, np.diag(np.where(alike, largest, 1.0)), solve)

    def task_by_task(self) -> "Plan":
        """Return the plan with a pass per task."""
        if self.simple:
            return self
        return Plan(np.eye(self.taken.shape[1]), self.mixing @ self.taken, self.solve)


@dataclass(frozen=True, eq=False)
class Merged:
    """A merged gradient, a tensor per parameter, and how it came about.

    Attributes:
        parts: `None` for zero.
        weights: of the gradients taken; what a method that decides by coordinate keeps of each.
        finite: whether the gradients were.
        effects: the inner product with every gradient, if it does not follow from the weights.
    """

    parts: list[Tensor | None]
    weights: Float[np.ndarray, "blocks taken"]
    finite: bool
    effects: Float[np.ndarray, " taken"] | None = None


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
        if ranks.several():  # before anything that could raise on one rank and leave the others waiting
            ranks.agree("target and tasks, in the same order", (target, *names))
        checks.losses(present)
        position = checks.target_position(target, losses, names)
        of_tasks = list(present.values())
        common = _shared(losses, of_tasks, shared, representation)
        own: list[Tensor] = []
        if ranks.several():
            own = _own(of_tasks, common, heads)
            ranks.agree_on_parameters([*common, *own])
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
        position = checks.target_position(target, self.rows, names)
        tasks = Tasks(names, position, np.array([self.losses[task] for task in names]))
        return Batch(tasks, [], self.parameters, [], self.scale), list(self.rows.values())


def _shared(
    losses: Mapping[str, Tensor | None],
    present: Sequence[Tensor],
    shared: Iterable[Tensor] | None,
    representation: Sequence[Tensor],
) -> list[Tensor]:
    """Return the shared parameters: those given, those below the representation, or what losses share."""
    given = [] if shared is None else checks.shared_given(shared)
    if representation:
        return checks.below(representation, present, given)
    if shared is not None:
        return given
    checks.told_apart(losses)
    return checks.trainable(common_leaves(present))


def _own(losses: Sequence[Tensor], shared: Sequence[Tensor], heads: Iterable[Tensor] | None) -> list[Tensor]:
    """Return the parameters beside the shared ones, of which every rank is to get the same gradient."""
    reached = without(leaves(losses), shared)
    if heads is None:
        return reached
    own = without(checks.trainable(heads), shared)
    beyond = without(reached, own)
    if not all(ranks.all_of([not beyond])):  # on this rank or another
        raise ValueError(
            "A loss reaches a parameter that is neither in shared nor in heads"
            f"{f', of shape {tuple(beyond[0].shape)}' if beyond else ''}: give all of the model's."
        )
    return own


def _values(losses: Sequence[Tensor]) -> Float[np.ndarray, " tasks"]:
    values = torch.stack([loss.detach().to(losses[0].device) for loss in losses]).cpu().double()
    return ranks.average_values(values).numpy()


def _scale(scaler: GradScaler | None) -> float:
    """Return the factor of the scaler, which makes it up on its first use."""
    if scaler is None or not scaler.is_enabled():
        return 1.0
    scaler.scale(torch.ones((), device=scaler._device))
    return scaler.get_scale()
