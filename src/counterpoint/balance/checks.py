"""What callers can get wrong, said in one sentence with the remedy."""

import difflib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.amp import GradScaler
from torch.autograd.graph import get_gradient_edge

from counterpoint.balance.graph import distinct, leaves, nodes, nodes_below, nodes_of

Kept = TypeVar("Kept")


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


def target_position(target: str | None, losses: Mapping[str, object], present: Sequence[str]) -> int | None:
    """Return where the target stands among the present tasks, `None` if the batch lacks it.

    A batch may lack any task, so a target that is no key is an error only if it looks like a misspelt one.
    """
    if target is not None and not isinstance(target, str):
        raise TypeError(f"The target must be the name of a task, not {target!r}.")
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


def shared_given(shared: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that take gradients, each once."""
    if isinstance(shared, Tensor) or not isinstance(shared, Iterable):
        raise TypeError(
            f"shared must be the parameters, as trunk.parameters() gives them, not a {type(shared).__name__}."
        )
    parameters = list(shared)
    for parameter in parameters:
        if not isinstance(parameter, Tensor):
            raise TypeError(
                f"shared must hold parameters, as trunk.parameters() gives them, not a"
                f" {type(parameter).__name__}."
            )
    if not parameters:
        raise ValueError(
            "shared has no parameters; was it a generator that is used up? Give it anew, or a list."
        )
    return trainable(parameters)


def trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that take gradients, each once; raise unless all can be worked on."""
    kept = distinct(parameter for parameter in parameters if parameter.requires_grad)
    for parameter in kept:
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
    return kept


def ordered(method: Any, shared: object) -> None:
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


def below(
    representation: Sequence[Tensor], losses: Sequence[Tensor], shared: Sequence[Tensor]
) -> list[Tensor]:
    """Return the parameters below the representation, with those given.

    Raises:
        ValueError: a loss reaches one of them past it, or one part of it is computed from another.
    """
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
    parameters = trainable([*leaves(representation), *shared])
    known = set(map(id, parameters))
    for parameter in leaves(losses, above=cut):
        if id(parameter) in known:
            shape = tuple(parameter.shape)
            raise ValueError(
                f"A loss reaches a shared parameter of shape {shape} past the representation;"
                " give every tensor by which the heads depend on the trunk, or use passes='exact'."
            )
    return parameters


def representation(method: object, given: Tensor | Sequence[Tensor] | None, *, wanted: bool) -> list[Tensor]:
    """Return the representation's tensors; raise unless there are some just where the method takes them."""
    if given is None:
        if wanted:
            raise ValueError(f"{method!r} needs the trunk's output: give representation=….")
        return []
    if not wanted:
        raise ValueError(f"{method!r} takes no representation: for methods with passes='representation'.")
    tensors = [given] if isinstance(given, Tensor) else given
    if not isinstance(tensors, Sequence) or not all(isinstance(each, Tensor) for each in tensors):
        raise TypeError(f"The representation must be a tensor or a list of tensors, not {given!r}.")
    if not tensors:
        raise ValueError("The representation is an empty list; give the tensors that the heads take.")
    return distinct(tensors)


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
    if not isinstance(losses, Tensor):
        raise TypeError(f"losses must be a tensor with a number per row, not a {type(losses).__name__}.")
    if losses.shape != (rows,):
        raise ValueError(f"There are {rows} rows, but losses of shape {tuple(losses.shape)}.")
    values: Float[np.ndarray, " rows"] = losses.detach().cpu().double().numpy()
    return values


def granularity(value: Any) -> Any:
    """Return "whole", "tensor", or groups of parameters as lists; raise if a parameter is in two."""
    if value in ("whole", "tensor"):
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(
            f"granularity must be 'whole', 'tensor' or a list of lists of parameters, not {value!r}."
        )
    if any(isinstance(group, Tensor) or not isinstance(group, Iterable) for group in value):
        raise ValueError("granularity must be a list of lists of parameters: [[…], […]], not of parameters.")
    groups = [list(group) for group in value]
    members = [id(parameter) for group in groups for parameter in group]
    if len(set(members)) < len(members):
        raise ValueError("A parameter stands in two groups of granularity; keep it in one.")
    return groups


def group(number: int, members: Sequence[Tensor], found: Sequence[int]) -> None:
    """Raise if none of a group's parameters is among the shared ones."""
    if not found and any(parameter.requires_grad for parameter in members):
        raise ValueError(
            f"None of the parameters in group {number} of granularity is among the shared ones; give the"
            " parameters of the model that is trained."
        )


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
    _number(option, value)
    if not low <= value <= high:
        raise ValueError(f"{option} must be between {low:g} and {high:g}, not {value!r}.")


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
    if target is not None and (not isinstance(target, int) or isinstance(target, bool)):
        raise TypeError(f"The target of a matrix is the number of its row, not {target!r}.")
    if target is not None and not 0 <= target < rows:
        raise ValueError(f"The target is row {target}, but the rows are 0 to {rows - 1}.")
    return target


def one_of(option: str, value: object, allowed: Sequence[str]) -> None:
    """Raise unless the option has one of the allowed values."""
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def positive(option: str, value: float) -> None:
    """Raise unless the option is a positive finite number."""
    _number(option, value)
    if not 0 < value < inf:
        raise ValueError(f"{option} must be a positive finite number, not {value!r}.")


def from_zero(option: str, value: float) -> None:
    """Raise unless the option is a finite number that is not negative."""
    _number(option, value)
    if not 0 <= value < inf:
        raise ValueError(f"{option} must be a finite number from 0 on, not {value!r}.")


def below_one(option: str, value: float) -> None:
    """Raise unless the option may be the decay of an average."""
    _number(option, value)
    if not 0 <= value < 1:
        raise ValueError(f"{option} must be from 0 to below 1, not {value!r}.")


def solved(method: object, weights: Sequence[Any], rows: int) -> None:
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


def _number(option: str, value: object) -> None:
    if not isinstance(value, Real):
        raise TypeError(f"{option} must be a number, not {value!r}.")
