"""What callers can get wrong, said in one sentence with the remedy; all here raise or do nothing."""

import difflib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.amp import GradScaler

from counterpoint.balance.step import Tasks

if TYPE_CHECKING:
    from counterpoint.balance.base import Method
    from counterpoint.balance.block_balancer import BlockBalancer


def near(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known name, or nothing when none is close."""
    plain = {_plain(each): each for each in known}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=cutoff)
    return f" (did you mean {plain[close[0]]!r}?)" if close else ""


def _plain(name: str) -> str:
    """Return a name as one may remember it: "PCGrad" for "pcgrad", "NashMTL" for "nash_mtl"."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def mapping(losses: object) -> None:
    """Raise unless it is a mapping by names."""
    if not isinstance(losses, Mapping):
        raise TypeError(
            f"Give every task's loss by its name, {{'click': loss, …}}, not a {type(losses).__name__}."
        )
    for task in losses:
        if not isinstance(task, str):
            raise TypeError(f"A task's name must be a string, not {task!r}.")


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


def target_not_misspelt(target: object, losses: Mapping[str, object]) -> None:
    """Raise unless the target is a task's name, or one so unlike all that the batch may lack it."""
    if target is not None and not isinstance(target, str):
        raise TypeError(f"The target must be the name of a task, not {target!r}.")
    meant = "" if target is None or target in losses else near(target, losses, cutoff=0.8)
    if meant:
        known = ", ".join(map(repr, losses))
        remedy = f"if this batch lacks it, say so with {target!r}: None"
        raise ValueError(f"The target {target!r} is not among the tasks {known}{meant}; {remedy}.")


def target_named(method: object, target: str | int | None) -> None:
    """Raise if there is no target, which this method needs."""
    if target is None:
        raise ValueError(f"{method!r} favours one task over the others: name it with target=….")


def iterable_of_parameters(shared: object) -> None:
    """Raise unless it may hold parameters."""
    if isinstance(shared, Tensor) or not isinstance(shared, Iterable):
        raise TypeError(
            f"shared must be the parameters, as trunk.parameters() gives them, not a {type(shared).__name__}."
        )


def parameters(given: Sequence[object]) -> None:
    """Raise unless there are parameters and nothing else."""
    for each in given:
        if not isinstance(each, Tensor):
            raise TypeError(
                f"shared must hold parameters, as trunk.parameters() gives them, not a {type(each).__name__}."
            )
    if not given:
        raise ValueError(
            "shared has no parameters; was it a generator that is used up? Give it anew, or a list."
        )


def trainable(parameters: Iterable[Tensor]) -> None:
    """Raise unless gradients of these parameters can be taken and merged."""
    for parameter in parameters:
        which = f"A shared tensor of shape {tuple(parameter.shape)}"
        if not parameter.is_leaf:
            raise ValueError(f"{which} is computed, not a parameter: `shared` takes leaves.")
        if parameter.is_complex():
            raise TypeError(f"{which} is complex; make it real, with torch.view_as_complex in the model.")
        if parameter.is_meta:
            raise ValueError(f"{which} has no data: it is on the meta device.")
        if parameter._post_accumulate_grad_hooks:
            raise ValueError(
                f"{which} has a post-accumulate-grad hook, which would see every task's gradient by itself;"
                " remove it, and do its work after backward()."
            )


def ordered(method: "Method", shared: object) -> None:
    """Raise if a method that keeps state by parameter would have to find the parameters itself."""
    if shared is None and method.needs_order():
        raise ValueError(
            f"{method!r} keeps state by parameter: give shared=…, in the same order at every step."
        )


def told_apart(losses: Mapping[str, object]) -> None:
    """Raise if a task is missing while the shared parameters are to be found from the losses."""
    missing = [task for task, loss in losses.items() if loss is None]
    if missing:
        raise ValueError(
            f"The batch lacks {', '.join(map(repr, missing))}, and what tasks share cannot be told from the"
            " losses of the others; give shared=trunk.parameters()."
        )


def scaler(given: object) -> None:
    """Raise unless it is a gradient scaler or nothing."""
    if given is not None and not isinstance(given, GradScaler):
        raise TypeError(f"scaler must be a torch.amp.GradScaler, not {given!r}.")


def representation(method: object, given: object, *, wanted: bool) -> None:
    """Raise unless there are tensors of a representation just where the method takes them."""
    if given is None:
        if wanted:
            raise ValueError(f"{method!r} needs the trunk's output: give representation=….")
        return
    if not wanted:
        raise ValueError(f"{method!r} takes no representation: for methods with passes='representation'.")
    tensors = [given] if isinstance(given, Tensor) else given
    if not isinstance(tensors, Sequence) or not all(isinstance(each, Tensor) for each in tensors):
        raise TypeError(f"The representation must be a tensor or a list of tensors, not {given!r}.")
    if not tensors:
        raise ValueError("The representation is an empty list; give the tensors that the heads take.")


def same_parameters(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    """Raise unless both are the same parameters in the same order."""
    if list(map(id, first)) != list(map(id, second)):
        raise ValueError("Tasks accumulated together must share the same parameters, in the same order.")


def same_scale(first: float, second: float) -> None:
    """Raise unless the gradients of both are scaled alike."""
    if first != second:
        raise ValueError("Tasks accumulated together must be scaled alike: update the scaler after merge().")


def loss_values(method: "Method", losses: object, rows: int) -> None:
    """Raise unless there is a loss per row, or none where the method needs none."""
    if losses is None:
        if method.needs_losses:
            raise ValueError(f"{method!r} weighs tasks by their losses: give them with losses=….")
        return
    if not isinstance(losses, Tensor):
        raise TypeError(f"losses must be a tensor with a number per row, not a {type(losses).__name__}.")
    if losses.shape != (rows,):
        raise ValueError(f"There are {rows} rows, but losses of shape {tuple(losses.shape)}.")


def positive_losses(method: object, tasks: Tasks) -> None:
    """Raise unless all losses are positive."""
    for task, loss in zip(tasks.names, tasks.values.tolist(), strict=True):
        if loss <= 0:
            raise ValueError(
                f"{method!r} takes logarithms of losses, and that of {task!r} is {loss:g}: leave the task out"
                " of this batch, or add a constant to its loss."
            )


def losses_from_zero(method: object, tasks: Tasks) -> None:
    """Raise if a loss is negative."""
    for task, loss in zip(tasks.names, tasks.values.tolist(), strict=True):
        if loss < 0:
            raise ValueError(
                f"{method!r} compares the sizes of losses, and that of {task!r} is {loss:g}: add a constant"
                " to it that makes it positive."
            )


def granularity(value: object) -> None:
    """Raise unless it is "whole", "tensor", or groups of parameters."""
    if value in ("whole", "tensor"):
        return
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(
            f"granularity must be 'whole', 'tensor' or a list of lists of parameters, not {value!r}."
        )
    if any(isinstance(group, Tensor) or not isinstance(group, Iterable) for group in value):
        raise ValueError("granularity must be a list of lists of parameters: [[…], […]], not of parameters.")


def in_one_group(groups: Sequence[Sequence[Tensor]]) -> None:
    """Raise if a parameter is in two groups."""
    members = [id(parameter) for group in groups for parameter in group]
    if len(set(members)) < len(members):
        raise ValueError("A parameter stands in two groups of granularity; keep it in one.")


def group(number: int, members: Sequence[Tensor], found: Sequence[int]) -> None:
    """Raise if none of a group's parameters is among the shared ones."""
    if not found and any(parameter.requires_grad for parameter in members):
        raise ValueError(
            f"None of the parameters in group {number} of granularity is among the shared ones; give the"
            " parameters of the model that is trained."
        )


def whole_only(method: "BlockBalancer") -> None:
    """Raise if an option that works on whole gradients stands beside a finer granularity."""
    if method.granularity == "whole":
        return
    if method.passes != "exact":
        raise ValueError(f"passes={method.passes!r} needs granularity='whole'.")
    if method.holds():
        raise ValueError(f"every={method.every!r} needs granularity='whole'.")


def matrix(gradients: Tensor) -> None:
    """Raise unless it is a floating-point matrix with at least one row."""
    if not isinstance(gradients, Tensor):
        raise TypeError(f"Gradients must be a tensor, not a {type(gradients).__name__}.")
    if not gradients.is_floating_point():
        raise TypeError(f"Gradients must be floating point, not {gradients.dtype}.")
    if gradients.dim() != 2 or not len(gradients):
        raise ValueError(
            f"Gradients must be a (tasks, coordinates) matrix, not of shape {tuple(gradients.shape)}."
        )


def gramian(value: Tensor) -> None:
    """Raise unless it is a square matrix with at least one row."""
    if not isinstance(value, Tensor):
        raise TypeError(f"A Gramian must be a tensor, not a {type(value).__name__}.")
    if value.dim() != 2 or value.shape[0] != value.shape[1] or not len(value):
        raise ValueError(f"A Gramian is a (tasks, tasks) matrix, not of shape {tuple(value.shape)}.")


def tiling(blocks: Sequence[tuple[int, int]], coordinates: int) -> None:
    """Raise unless the blocks cover every coordinate exactly once."""
    ordered = sorted(blocks)
    joined = all(left[1] == right[0] for left, right in pairwise(ordered))
    if not joined or ordered[0][0] != 0 or ordered[-1][1] != coordinates:
        raise ValueError(
            f"blocks must cover the coordinates 0 to {coordinates} once each, not {list(blocks)}."
        )


def row_names(names: Sequence[str], rows: int) -> None:
    """Raise unless there is a name for every row."""
    if len(names) != rows:
        raise ValueError(f"There are {rows} rows, but {len(names)} names of tasks: {', '.join(names)}.")


def row(target: object, rows: int) -> None:
    """Raise unless the target, if there is one, is one of the rows."""
    if target is None:
        return
    if not isinstance(target, int) or isinstance(target, bool):
        raise TypeError(f"The target of a matrix is the number of its row, not {target!r}.")
    if not 0 <= target < rows:
        raise ValueError(f"The target is row {target}, but the rows are 0 to {rows - 1}.")


def solved(method: object, weights: Sequence[Float[np.ndarray, " rows"]], rows: int) -> None:
    """Raise unless a method has weighed every row."""
    for each in weights:
        if np.shape(each) != (rows,):
            raise ValueError(
                f"solve of {method!r} must return a weight for each of the {rows} rows, not an array of shape"
                f" {np.shape(each)}."
            )


def warn_of_nothing_shared(parameters: Sequence[Tensor]) -> None:
    """Warn that no loss reaches any of the shared parameters, which may be meant in a single batch."""
    if parameters:
        warnings.warn(
            "No loss reaches any of the shared parameters; are they those of the model that computed the"
            " losses, and was that outside torch.no_grad()?",
            stacklevel=2,
        )
