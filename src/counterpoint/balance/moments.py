"""Running averages of every task's gradient, coordinate by coordinate."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance.gramian import Block, gramians
from counterpoint.balance.rows import Aligned, working

Moments = dict[str, dict[str, Tensor]]
"""A tensor for every task and, by its position, every parameter that the task has reached."""


def squared_norms(
    rows: Sequence[Mapping[int, Tensor]], blocks: Sequence[Block], tasks: int
) -> Float[np.ndarray, "blocks tasks"]:
    """Return the tasks' squared norms in every block."""
    pairs = [(task, task) for task in range(tasks)]
    products = gramians([Aligned(dict(each)) for each in rows], blocks, tasks, pairs)
    squares: Float[np.ndarray, "blocks tasks"] = np.diagonal(products, axis1=1, axis2=2)
    return squares


def moment(
    kept: dict[str, Tensor], position: int, gradients: Mapping[int, Tensor], task: int
) -> Tensor | None:
    """Return what a task keeps of a parameter, on its device: zero at first, `None` before any gradient."""
    like = next(iter(gradients.values()))
    moment = kept.get(str(position))
    if moment is None:
        if task not in gradients:
            return None
        moment = torch.zeros_like(working(like), memory_format=torch.contiguous_format)
    kept[str(position)] = moment.to(like.device)
    return kept[str(position)]


def same_parameters(kept: Moments, rows: Sequence[Mapping[int, Tensor]], names: Sequence[str]) -> None:
    """Raise unless what is kept of these tasks fits the parameters."""
    for name in names:
        for position, moment in kept.get(name, {}).items():
            if int(position) >= len(rows):
                raise ValueError(other_parameters(f"{int(position) + 1} parameters", str(len(rows))))
            for gradient in rows[int(position)].values():
                if gradient.shape != moment.shape:
                    one = f"a parameter of shape {tuple(moment.shape)}"
                    raise ValueError(other_parameters(one, str(tuple(gradient.shape))))


def other_parameters(kept: str, given: str) -> str:
    """Return what to say where what is kept does not fit the parameters."""
    return f"What is kept is of {kept}, not {given}: share the same parameters in every step, in order."
