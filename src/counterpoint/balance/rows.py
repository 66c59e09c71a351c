"""A row: one gradient of the shared parameters, each parameter's part in the layout it was taken in."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Touched:
    """The gradient of a table of embeddings, of the rows that a batch looked up; the others' is zero.

    Attributes:
        ids: the rows of the table, ascending, each once.
        values: their gradients.
        sparse: whether `.grad` is to be sparse, as the layer asked (`nn.Embedding(sparse=True)`).
    """

    ids: Int[Tensor, " touched"]
    values: Float[Tensor, "touched width"]
    sparse: bool

    def dense(self, like: Tensor) -> Tensor:
        """Return the gradient of the whole table, zeros included."""
        return torch.zeros_like(like).index_copy_(0, self.ids, self.values)

    def on(self, ids: Int[Tensor, " more"]) -> Float[Tensor, "more width"]:
        """Return the gradients of these rows of the table, which include the touched ones."""
        if ids is self.ids:
            return self.values
        spread = self.values.new_zeros(len(ids), *self.values.shape[1:])
        return spread.index_copy_(0, torch.searchsorted(ids, self.ids), self.values)


Gradient = Tensor | Touched | None
"""One parameter's part of a row; `None` for zero."""

Row = list[Gradient]
"""A gradient for every shared parameter."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """One parameter's gradients in a common dense layout.

    Attributes:
        rows: a tensor for every row that is not zero; a merge may write into them.
        ids: the rows of the table that the tensors are of; `None` for the whole parameter.
        sparse: whether `.grad` is to be sparse.
    """

    rows: dict[int, Tensor]
    ids: Tensor | None = None
    sparse: bool = False

    def gradient(self, merged: Tensor | None) -> Gradient:
        """Return a tensor of this layout as a gradient."""
        if merged is None or self.ids is None:
            return merged
        return Touched(self.ids, merged, self.sparse)


def align(gradients: Sequence[Gradient], like: Tensor, *, whole: bool = False) -> Aligned:
    """Bring one parameter's gradients to a common dense layout.

    Gradients of a table stay on the rows of the table that any of them touches; one of them that is dense,
    or `whole`, makes all dense. A gradient that is sparse by rows counts as touched ones.
    """
    present = {index: _touched(each) for index, each in enumerate(gradients) if each is not None}
    touched = {index: each for index, each in present.items() if isinstance(each, Touched)}
    if whole or len(touched) < len(present) or not touched:
        return Aligned({index: _dense(each, like) for index, each in present.items()})
    ids, *others = ({id(each.ids): each.ids for each in touched.values()}).values()
    if others:
        ids = torch.unique(torch.cat([ids, *others]))
    sparse = all(each.sparse for each in touched.values())
    return Aligned({index: each.on(ids) for index, each in touched.items()}, ids, sparse)


def sum_of(first: Gradient, second: Gradient, like: Tensor) -> Gradient:
    """Return the sum of two gradients of one parameter, written into the first where its layout allows it."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, Tensor) and not first.is_sparse and isinstance(second, Touched):
        return first.index_add_(0, second.ids, second.values)
    aligned = align([first, second], like)
    return aligned.gradient(aligned.rows[0].add_(aligned.rows[1]))


def is_finite(row: Row) -> bool:
    """Return whether a row has no inf and no nan; a sum tells for nearly nothing, unless it overflows."""
    gradients = [each.values if isinstance(each, Touched) else each for each in row if each is not None]
    dense = [each.coalesce().values() if each.is_sparse else each for each in gradients]
    sums = [each.sum() for each in dense]
    finite = (
        torch.stack([each.to(sums[0].device).float() for each in sums]).isfinite().all() if sums else True
    )
    return bool(finite) or all(bool(each.isfinite().all()) for each in dense)


def working(gradient: Tensor) -> Tensor:
    """Return a gradient in at least single precision."""
    return gradient.float() if gradient.element_size() < 4 else gradient


def add_grads(parameters: Sequence[Tensor], gradients: Sequence[Gradient]) -> None:
    """Add to `.grad` as `Tensor.backward` does: in place where there is one, else hand the tensor over."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if isinstance(gradient, Touched):
            _add_touched(parameter, gradient)
        elif gradient is not None:
            _add(parameter, gradient)


def _add(parameter: Tensor, gradient: Tensor) -> None:
    held = parameter.grad
    if held is None:
        parameter.grad = gradient
    elif held.is_sparse or gradient.is_sparse:
        parameter.grad = gradient + held if held.is_sparse else held.add_(gradient)
    else:
        held.add_(gradient)


def _add_touched(parameter: Tensor, gradient: Touched) -> None:
    held = parameter.grad
    if gradient.sparse or (held is not None and held.is_sparse):
        layout = torch.sparse_coo_tensor(
            gradient.ids[None], gradient.values, parameter.shape, is_coalesced=True, check_invariants=False
        )
        _add(parameter, layout)
    elif held is None:
        parameter.grad = gradient.dense(parameter)
    else:
        held.index_add_(0, gradient.ids, gradient.values)


def _touched(gradient: Tensor | Touched) -> Tensor | Touched:
    if isinstance(gradient, Touched) or not gradient.is_sparse:
        return gradient
    if gradient.sparse_dim() != 1:
        return gradient.to_dense()
    gradient = gradient.coalesce()
    return Touched(gradient.indices()[0], gradient.values(), sparse=True)


def _dense(gradient: Tensor | Touched, like: Tensor) -> Tensor:
    return gradient.dense(like) if isinstance(gradient, Touched) else gradient
