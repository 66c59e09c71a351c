"""Every coordinate follows one side, by lot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, options
from counterpoint.balance.coordinates import CoordinateBalancer
from counterpoint.balance.rows import working
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class GradDrop(CoordinateBalancer):
    """Lets every coordinate follow either the tasks that pull it up or those that pull it down, by lot.

        P = ½ (1 + Σ g_i / Σ |g_i|)        g = Σ_i (ℓ_i + (1 - ℓ_i) M_i) g_i

    coordinate by coordinate, with M_i = 1 where g_i > 0 and U < P or g_i < 0 and U ≥ P, else 0, and U drawn
    evenly from 0 to 1: Gradient Sign Dropout (Chen et al., NeurIPS 2020), algorithm 1, on the gradients of
    the parameters. The paper works on those of an activation, times its sign and added up over the batch,
    and drops both signs in the tie U = P.

    Numbers are drawn only for the coordinates that the tasks are divided on, in their order: the same on any
    device and any rank, however the coordinates are cut into parameters, and with the rows of a table that
    a batch looks up or the whole table. They follow from `seed` and from how many steps came before.

    Costs one backward pass per task, and memory for a few copies of the gradients. Scales with them. The
    report's weights are the parts of the gradients that were kept, ⟨kept, g_i⟩ / ‖g_i‖².

    Attributes:
        leak: ℓ, the part of a task's gradient that always passes, from 0 to 1: one number, or one per task.
        seed: what the numbers drawn follow from.
    """

    name = "graddrop"
    source = "Chen et al., NeurIPS 2020, algorithm 1"
    promises = ("scales", "symmetric", "alone")
    length = "K"
    stateful = ("draws",)

    leak: float | Mapping[str, float] = 0.0
    seed: int = 0
    draws: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        each = self.leak.values() if isinstance(self.leak, Mapping) else [self.leak]
        for leak in each:
            options.within("leak", leak, 0, 1)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row per task, each of which must have a leak."""
        for task in tasks.names:
            if isinstance(self.leak, Mapping) and task not in self.leak:
                raise ValueError(f"Task {task!r} has no leak{checks.near(task, self.leak)}; give it one.")
        return super().rows(tasks)

    def merge_coordinates(
        self, rows: Sequence[dict[int, Tensor]], squares: Float[np.ndarray, " tasks"], tasks: Tasks
    ) -> tuple[list[Tensor | None], Float[np.ndarray, " tasks"]]:
        """Return what passes of all gradients, and the part that passes of each."""
        leaks = [self.leak[task] if isinstance(self.leak, Mapping) else self.leak for task in tasks.names]
        norms = np.sqrt(squares).tolist()
        upwards = iter(self._upwards([_purity(each) for each in rows if each]))
        parts: list[Tensor | None] = []
        places: list[int] = []
        passed: list[Tensor] = []
        for each in rows:
            if not each:
                parts.append(None)
                continue
            up = next(upwards)
            part = torch.zeros_like(up, dtype=working(next(iter(each.values()))).dtype)
            for task, row in each.items():
                gradient = working(row)
                kept = torch.where(up == (gradient > 0), gradient, gradient * leaks[task])
                part += kept
                if norms[task] > 0:
                    places.append(task)
                    passed.append(((kept / norms[task]) * (gradient / norms[task])).sum())
            parts.append(part.to(next(iter(each.values())).dtype))
        weights = np.zeros(len(norms))
        if passed:
            np.add.at(weights, places, _values(passed))
        return parts, weights

    def _upwards(self, purities: Sequence[Tensor]) -> list[Tensor]:
        """Draw for every coordinate whether it follows the gradients above zero."""
        random = np.random.default_rng((self.seed, self.draws))
        self.draws += 1
        divided = [(purity > 0) & (purity < 1) for purity in purities]
        counts = _values([each.sum() for each in divided]) if divided else []
        upwards = []
        for purity, places, count in zip(purities, divided, counts, strict=True):
            drawn = torch.from_numpy(random.random(int(count), dtype=np.float32))
            threshold = torch.full_like(purity, 0.5)
            upwards.append(threshold.masked_scatter_(places, drawn.to(threshold)) < purity)
        return upwards


def _purity(rows: Mapping[int, Tensor]) -> Tensor:
    """Return P, which is not a number where all gradients are zero."""
    gradients = [working(row) for row in rows.values()]
    total, size = gradients[0].clone(), gradients[0].abs()
    for gradient in gradients[1:]:
        total += gradient
        size += gradient.abs()
    return total.div_(size).add_(1).div_(2)


def _values(numbers: Sequence[Tensor]) -> list[float]:
    """Return scalars from any devices, with one wait."""
    values: list[float] = torch.stack([each.to(numbers[0].device) for each in numbers]).tolist()
    return values
