"""One step's tasks as methods see them, and what became of them."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor


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

    @property
    def of_target(self) -> list[int]:
        """The position of the target task in a list, which is empty if the batch lacks it."""
        return [] if self.target is None else [self.target]

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
