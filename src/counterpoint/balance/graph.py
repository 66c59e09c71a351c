"""What a loss reaches in the autograd graph, and how `.grad` is put aside while gradients are taken."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge


def leaves(losses: Iterable[Tensor], *, below_checkpoints: bool = True) -> list[Tensor]:
    """Return every leaf that backward from `losses` would fill, each once.

    Parameters used only inside a reentrant checkpoint are invisible: their graph exists only in backward.
    With `below_checkpoints=False` leaves behind one are left out too: a pass to chosen inputs may not
    cross it.
    """
    found: dict[int, Tensor] = {}
    stack: list[Node | None] = [get_gradient_edge(loss).node for loss in losses if loss.requires_grad]
    seen: set[Node | None] = {None}
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[id(leaf)] = leaf
        if below_checkpoints or node.name() != "CheckpointFunctionBackward":
            stack.extend(following for following, _ in node.next_functions)
    return list(found.values())


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
    """Remove and return `.grad` of every parameter."""
    taken = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return taken


def add_grads(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add to `.grad` as `Tensor.backward` does: in place where there is one, else hand the tensor over."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient
        elif parameter.grad.is_sparse or gradient.is_sparse:
            dense_first, second = sorted((parameter.grad, gradient), key=lambda grad: grad.is_sparse)
            parameter.grad = dense_first + second
        else:
            parameter.grad.add_(gradient)
