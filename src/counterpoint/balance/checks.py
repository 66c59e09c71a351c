"""What callers can get wrong, said in one sentence with the remedy."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance.graph import distinct, leaves, nodes_of

Kept = TypeVar("Kept")


def near(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known name, or nothing when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {close[0]!r}?)" if close else ""


def losses(present: Mapping[str, Tensor]) -> None:
    """Raise unless there are losses and all are scalars."""
    if not present:
        raise ValueError("There is no loss to differentiate; give at least one task's.")
    for task, loss in present.items():
        if not isinstance(loss, Tensor):
            raise TypeError(f"The loss of {task!r} must be a tensor, not {type(loss).__name__}.")
        if loss.dim() != 0:
            raise ValueError(
                f"The loss of {task!r} must be a scalar, not of shape {tuple(loss.shape)}; take its mean."
            )


def target_position(target: str | None, losses: Mapping[str, object], present: Sequence[str]) -> int | None:
    """Return where the target stands among the present tasks, `None` if the batch lacks it.

    A batch may lack any task, so a target that is no key is an error only if it looks like a misspelt one.
    """
    if target is None or target in losses:
        return present.index(target) if target in present else None
    meant = near(target, losses, cutoff=0.8)
    if meant:
        known = ", ".join(map(repr, losses))
        remedy = f"if this batch lacks it, say so with {target!r}: None"
        raise ValueError(f"The target {target!r} is not among the tasks {known}{meant}; {remedy}.")
    return None


def target_named(method: object, target: str | int | None) -> None:
    """Raise if there is no target, which this method needs."""
    if target is None:
        raise ValueError(f"{method!r} favours one task over the others: name it with target=….")


def trainable(shared: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that take gradients, each once."""
    parameters = distinct(parameter for parameter in shared if parameter.requires_grad)
    for parameter in parameters:
        if not parameter.is_leaf:
            shape = tuple(parameter.shape)
            raise ValueError(
                f"A shared tensor of shape {shape} is computed, not a parameter: `shared` takes leaves."
            )
    return parameters


def below(
    representation: Sequence[Tensor], losses: Sequence[Tensor], shared: Sequence[Tensor] | None
) -> list[Tensor]:
    """Return the parameters below the representation; raise if a loss reaches one of them past it."""
    for each in representation:
        if each.is_leaf or not each.requires_grad:
            raise ValueError("The representation must be what the trunk computed from its parameters.")
    parameters = leaves(representation)
    past = leaves(losses, above=nodes_of(representation))
    for parameter in past:
        if any(parameter is each for each in (*parameters, *(shared or ()))):
            shape = tuple(parameter.shape)
            raise ValueError(
                f"A loss reaches a shared parameter of shape {shape} past the representation;"
                " give every tensor by which the heads depend on the trunk, or use passes='exact'."
            )
    return parameters


def representation(method: object, given: object, *, wanted: bool) -> None:
    """Raise unless there is a representation just where the method takes it."""
    if wanted and given is None:
        raise ValueError(f"{method!r} needs the trunk's output: give representation=….")
    if given is not None and not wanted:
        raise ValueError(f"{method!r} takes no representation: for methods with passes='representation'.")


def same_parameters(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    """Raise unless both are the same parameters in the same order."""
    if list(map(id, first)) != list(map(id, second)):
        raise ValueError("Tasks accumulated together must share the same parameters, in the same order.")


def same_scale(first: float, second: float) -> None:
    """Raise unless the gradients of both are scaled alike."""
    if first != second:
        raise ValueError("Tasks accumulated together must be scaled alike: update the scaler after merge().")


def accumulated(pending: Kept | None) -> Kept:
    """Return what was accumulated; raise if it is nothing."""
    if pending is None:
        raise ValueError("There is nothing to merge; call accumulate() for every task first.")
    return pending


def loss_values(method: Any, losses: Tensor | None, rows: int) -> Float[np.ndarray, " rows"] | None:
    """Return the losses as numbers, which must be one per row, and there if the method needs them."""
    if losses is None:
        if method.needs_losses:
            raise ValueError(f"{method!r} weighs tasks by their losses: give them with losses=….")
        return None
    if losses.shape != (rows,):
        raise ValueError(f"There are {rows} rows, but losses of shape {tuple(losses.shape)}.")
    values: Float[np.ndarray, " rows"] = losses.detach().cpu().double().numpy()
    return values


def granularity(value: object) -> None:
    """Raise unless it is "whole", "tensor", or groups of parameters with none in two."""
    if value in ("whole", "tensor"):
        return
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(
            f"granularity must be 'whole', 'tensor' or a list of lists of parameters, not {value!r}."
        )
    members = [id(parameter) for group in value for parameter in group]
    if len(set(members)) < len(members):
        raise ValueError("A parameter stands in two groups of granularity; keep it in one.")


def whole_only(method: Any) -> None:
    """Raise if an option that works on whole gradients stands beside a finer granularity."""
    if method.granularity == "whole":
        return
    if method.passes != "exact":
        raise ValueError(f"passes={method.passes!r} needs granularity='whole'.")
    if method.holds():
        raise ValueError(f"every={method.every!r} needs granularity='whole'.")


def count(option: str, value: object) -> None:
    """Raise unless the option is a whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{option} must be a whole number from 1 on, not {value!r}.")


def within(option: str, value: float, low: float, high: float) -> None:
    """Raise unless the option lies between two numbers, both included."""
    if not low <= value <= high:
        raise ValueError(f"{option} must be between {low:g} and {high:g}, not {value!r}.")


def matrix(gradients: Tensor) -> None:
    """Raise unless it is a floating-point matrix with at least one row."""
    if not gradients.is_floating_point():
        raise TypeError(f"Gradients must be floating point, not {gradients.dtype}.")
    if gradients.dim() != 2 or not len(gradients):
        raise ValueError(
            f"Gradients must be a (tasks, coordinates) matrix, not of shape {tuple(gradients.shape)}."
        )


def gramian(value: Tensor) -> None:
    """Raise unless it is a square matrix with at least one row."""
    if value.dim() != 2 or value.shape[0] != value.shape[1] or not len(value):
        raise ValueError(f"A Gramian is a (tasks, tasks) matrix, not of shape {tuple(value.shape)}.")


def tiling(blocks: Sequence[tuple[int, int]], coordinates: int) -> Sequence[tuple[int, int]]:
    """Return the blocks if they cover every coordinate exactly once."""
    ordered = sorted(blocks)
    joined = all(left[1] == right[0] for left, right in pairwise(ordered))
    if not joined or ordered[0][0] != 0 or ordered[-1][1] != coordinates:
        raise ValueError(
            f"blocks must cover the coordinates 0 to {coordinates} once each, not {list(blocks)}."
        )
    return blocks


def row_names(tasks: Sequence[str] | None, rows: int) -> tuple[str, ...]:
    """Return the names of the rows: those given, which must be as many, or their numbers."""
    names = tuple(map(str, range(rows))) if tasks is None else tuple(tasks)
    if len(names) != rows:
        raise ValueError(f"There are {rows} rows, but {len(names)} names of tasks: {', '.join(names)}.")
    return names


def row(target: int | None, rows: int) -> int | None:
    """Return the target if it is one of the rows."""
    if target is not None and not 0 <= target < rows:
        raise ValueError(f"The target is row {target}, but the rows are 0 to {rows - 1}.")
    return target


def one_of(option: str, value: object, allowed: Sequence[str]) -> None:
    """Raise unless the option has one of the allowed values."""
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def positive(option: str, value: float) -> None:
    """Raise unless the option is a positive finite number."""
    if not 0 < value < inf:
        raise ValueError(f"{option} must be a positive finite number, not {value!r}.")
