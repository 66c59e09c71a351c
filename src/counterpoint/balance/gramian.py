"""Inner products of gradients, and their weighted sum, parameter by parameter and without flattening copies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Block = Sequence[int]
"""Positions of the parameters that share one Gramian."""

# Below this, squares of single precision coordinates start to vanish: 1e-38 apiece, in 1e8 coordinates.
_SMALLEST_SAFE_SQUARE = 1e-24


@dataclass(frozen=True, eq=False)
class Gradients:
    """One parameter's gradients, a dense tensor per row (`None` = zero), and the way back to its own layout."""

    rows: list[Tensor | None]
    restore: Callable[[Tensor], Tensor]


def align(rows: Sequence[Tensor | None]) -> Gradients:
    """Bring one parameter's gradients to a common dense layout.

    Row-sparse gradients (`nn.Embedding(sparse=True)`) become dense over the rows that any of them touches, and
    the merged gradient is sparse again; a mixture of sparse and dense becomes dense.
    """
    present = [row for row in rows if row is not None]
    if not any(row.is_sparse for row in present):
        return Gradients(list(rows), _as_it_is)
    if not all(row.is_sparse and row.sparse_dim() == 1 for row in present):
        return Gradients([row.to_dense() if row is not None else None for row in rows], _as_it_is)

    coalesced = [row.coalesce() if row is not None else None for row in rows]
    touched = torch.unique(torch.cat([row.indices()[0] for row in coalesced if row is not None]))
    shape = present[0].shape

    def compact(row: Tensor) -> Tensor:
        dense = row.values().new_zeros(len(touched), *shape[1:])
        dense[torch.searchsorted(touched, row.indices()[0])] = row.values()
        return dense

    def restore(merged: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(touched[None], merged, shape, is_coalesced=True)

    return Gradients([compact(row) if row is not None else None for row in coalesced], restore)


def gramians(
    gradients: Sequence[Gradients], blocks: Sequence[Block], rows: int
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return every block's inner products of gradient rows, M_ij = ⟨g_i, g_j⟩, on the CPU.

    Each parameter's products are taken in its own precision (half precision in single), their sum in float64.
    Where a square is so small or so large that single precision loses it, that parameter is taken again in
    float64: gradients of 1e-20 or 1e+20 keep their angles. Costs one wait for the device.
    """
    products = _products(gradients, rows, _working_precision)
    squares = np.diagonal(products, axis1=1, axis2=2)
    present = np.array([[row is not None for row in each.rows] for each in gradients], bool).reshape(-1, rows)
    lost = np.flatnonzero((present & ((squares < _SMALLEST_SAFE_SQUARE) | np.isinf(squares))).any(axis=1))
    if len(lost):
        products[lost] = _products([gradients[position] for position in lost], rows, _double_precision)
    return np.array([products[list(block)].sum(axis=0) for block in blocks]).reshape(-1, rows, rows)


def combine(
    gradients: Sequence[Gradients], blocks: Sequence[Block], weights: Float[np.ndarray, "blocks rows"]
) -> list[Tensor | None]:
    """Return every parameter's weighted sum of rows, written into the buffers of its first row."""
    for block, of_block in zip(blocks, weights, strict=True):
        columns = [
            [row for row in enumerate(gradients[position].rows) if row[1] is not None] for position in block
        ]
        for row, weight in enumerate(of_block.tolist()):
            first = [column[0][1] for column in columns if column and column[0][0] == row]
            if first and weight != 1.0:
                torch._foreach_mul_(first, weight)
            later = [(column[0][1], part) for column in columns for index, part in column[1:] if index == row]
            if later:
                torch._foreach_add_([into for into, _ in later], [part for _, part in later], alpha=weight)
    merged = [next((row for row in each.rows if row is not None), None) for each in gradients]
    return [
        None if sum_ is None else each.restore(sum_) for each, sum_ in zip(gradients, merged, strict=True)
    ]


def _products(
    gradients: Sequence[Gradients], rows: int, precision: Callable[[Tensor], Tensor]
) -> Float[np.ndarray, "parameters rows rows"]:
    products = np.zeros((len(gradients), rows, rows))
    places: list[tuple[int, int, int]] = []
    dots: list[Tensor] = []
    for position, each in enumerate(gradients):
        flat = [(index, precision(row).reshape(-1)) for index, row in enumerate(each.rows) if row is not None]
        for (i, left), (j, right) in combinations_with_replacement(flat, 2):
            places.append((position, i, j))
            dots.append(torch.dot(left, right))
    if dots:
        parameter, i, j = np.array(places).T
        values = torch.stack([dot.to(dots[0].device) for dot in dots]).cpu().double().numpy()
        products[parameter, i, j] = products[parameter, j, i] = values
    return products


def _working_precision(gradient: Tensor) -> Tensor:
    return gradient.float() if gradient.element_size() < 4 else gradient


def _double_precision(gradient: Tensor) -> Tensor:
    return gradient.cpu().double()  # not every device knows float64, and this is rare


def _as_it_is(merged: Tensor) -> Tensor:
    return merged
