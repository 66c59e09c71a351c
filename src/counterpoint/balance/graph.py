"""What a loss reaches in the autograd graph, and how `.grad` is put aside while gradients are taken."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

REENTRANT = "CheckpointFunctionBackward"
"""The node of a reentrant checkpoint: what is used only inside is invisible, and no pass to chosen inputs may
cross it."""


def nodes(
    losses: Iterable[Tensor], *, below_checkpoints: bool = True, above: Collection[Node] = ()
) -> Iterator[Node]:
    """Yield the nodes that backward from `losses` would run, each once.

    What is used only inside a reentrant checkpoint is invisible: its graph exists only in backward. With
    `below_checkpoints=False` nodes behind one are left out too: a pass to chosen inputs may not cross it.
    The nodes `above` are where to stop; they and what lies below them are left out.
    """
    starts = [get_gradient_edge(loss).node for loss in losses if loss.requires_grad]
    yield from _reached(starts, {None, *above}, below_checkpoints=below_checkpoints)


def nodes_below(node: Node) -> Iterator[Node]:
    """Yield the nodes that come after one in backward, each once."""
    yield from _reached([following for following, _ in node.next_functions], {None})


def _reached(
    starts: Sequence[Node | None], seen: set[Node | None], *, below_checkpoints: bool = True
) -> Iterator[Node]:
    """Yield the nodes that these lead to, themselves included, each once."""
    stack = list(starts)
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if below_checkpoints or node.name() != REENTRANT:
            stack.extend(following for following, _ in node.next_functions)


def leaves(
    losses: Iterable[Tensor], *, below_checkpoints: bool = True, above: Collection[Node] = ()
) -> list[Tensor]:
    """Return every leaf that backward from `losses` would fill, each once; options as of `nodes`."""
    return leaves_among(nodes(losses, below_checkpoints=below_checkpoints, above=above))


def leaves_among(reached: Iterable[Node]) -> list[Tensor]:
    """Return the leaves that these nodes fill, each once."""
    return distinct(leaf for leaf in map(leaf_of, reached) if leaf is not None)


def leaf_of(node: Node | None) -> Tensor | None:
    """Return the leaf whose `.grad` a node fills, if it is such a node."""
    if node is None or node.name() != "torch::autograd::AccumulateGrad":
        return None
    leaf: Tensor = node.variable  # type: ignore[attr-defined]
    return leaf


def nodes_of(tensors: Iterable[Tensor]) -> list[Node]:
    """Return the nodes that computed the tensors."""
    return [get_gradient_edge(tensor).node for tensor in tensors]


def common_leaves(losses: Iterable[Tensor]) -> list[Tensor]:
    """Return the leaves that at least two of the losses reach: what the tasks share."""
    reached = [leaf for loss in losses for leaf in leaves([loss])]
    times = Counter(map(id, reached))
    return [leaf for leaf in distinct(reached) if times[id(leaf)] > 1]


def distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors in order, a tied one once."""
    return list({id(tensor): tensor for tensor in tensors}.values())


def without(tensors: Iterable[Tensor], others: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors that are none of `others`, compared by identity."""
    excluded = set(map(id, others))
    return [tensor for tensor in tensors if id(tensor) not in excluded]


@contextmanager
def grads_aside(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Clear `.grad` of the parameters, and put back what was there at the end, also when something raises."""
    saved = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, grad in zip(parameters, saved, strict=True):
            parameter.grad = grad


def take_grads(parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Remove and return `.grad` of every parameter, each in memory of its own."""
    separate_grads(parameters)
    taken = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return taken


def separate_grads(parameters: Iterable[Tensor]) -> None:
    """Copy every `.grad` that shares its memory: backward may fill two with views of one tensor."""
    for parameter in parameters:
        grad = parameter.grad
        if grad is not None and grad.layout == torch.strided and not _is_alone(grad):
            parameter.grad = grad.clone()


def _is_alone(tensor: Tensor) -> bool:
    """Return whether nothing but a tensor and the Python object made here refers to its memory."""
    references: int = torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return references <= 2
