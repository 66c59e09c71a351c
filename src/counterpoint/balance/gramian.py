"""Inner products of gradients and their weighted sum, parameter by parameter, without flattening copies."""

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
    """One parameter's gradients: a dense tensor per row that is not zero, and the way back to its layout."""

    rows: dict[int, Tensor]
    restore: Callable[[Tensor], Tensor]


def align(rows: Sequence[Tensor | None]) -> Gradients:
    """Bring one parameter's gradients, `None` for zero, to a common dense layout.

    Gradients sparse by rows (`nn.Embedding(sparse=True)`) become dense over the rows that any of them
    touches, and the merged gradient is sparse again; a mixture of sparse and dense becomes dense.
    """
    present = {index: row for index, row in enumerate(rows) if row is not None}
    if not any(row.is_sparse for row in present.values()):
        return Gradients(present, _as_it_is)
    if not all(row.is_sparse and row.sparse_dim() == 1 for row in present.values()):
        return Gradients({index: row.to_dense() for index, row in present.items()}, _as_it_is)

    coalesced = {index: row.coalesce() for index, row in present.items()}
    touched = torch.unique(torch.cat([row.indices()[0] for row in coalesced.values()]))
    shape = next(iter(coalesced.values())).shape

    def compact(row: Tensor) -> Tensor:
        dense = row.values().new_zeros(len(touched), *shape[1:])
        dense[torch.searchsorted(touched, row.indices()[0])] = row.values()
        return dense

    def restore(merged: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(
            touched[None], merged, shape, is_coalesced=True, check_invariants=False
        )

    return Gradients({index: compact(row) for index, row in coalesced.items()}, restore)


def gramians(
    gradients: Sequence[Gradients], blocks: Sequence[Block], rows: int
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return every block's inner products of gradient rows, M_ij = ⟨g_i, g_j⟩, on the CPU.

    Each parameter's products are taken in its own precision (half precision in single), their sum in float64.
    Where a square is so small or so large that single precision loses it, that parameter is taken again in
    float64: gradients of 1e-20 or 1e+20 keep their angles. Costs one wait for the device.
    """
    products = _products(gradients, rows, _working_precision)
    for position, each in enumerate(gradients):
        squares = products[position].diagonal()[list(each.rows)]
        if (squares < _SMALLEST_SAFE_SQUARE).any() or np.isinf(squares).any():
            products[position] = _products([each], rows, _double_precision)[0]
    sums = [products[list(block)].sum(axis=0) for block in blocks]
    return np.array(sums).reshape(len(blocks), rows, rows)


def combine(
    gradients: Sequence[Gradients], blocks: Sequence[Block], weights: Float[np.ndarray, "blocks rows"]
) -> list[Tensor | None]:
    """Return every parameter's weighted sum of rows, written into the buffers of its first row."""
    for block, of_block in zip(blocks, weights, strict=True):
        members = [gradients[position].rows for position in block]
        for row, weight in enumerate(of_block.tolist()):
            first = [rows[row] for rows in members if rows and row == min(rows)]
            if first and weight != 1.0:
                torch._foreach_mul_(first, weight)
            later = [rows for rows in members if row in rows and row > min(rows)]
            if later:
                sums = [rows[min(rows)] for rows in later]
                torch._foreach_add_(sums, [rows[row] for rows in later], alpha=weight)
    return [each.restore(each.rows[min(each.rows)]) if each.rows else None for each in gradients]


def _products(
    gradients: Sequence[Gradients], rows: int, precision: Callable[[Tensor], Tensor]
) -> Float[np.ndarray, "parameters rows rows"]:
    products = np.zeros((len(gradients), rows, rows))
    places: list[tuple[int, int, int]] = []
    dots: list[Tensor] = []
    for position, each in enumerate(gradients):
        flat = [(index, precision(row).reshape(-1)) for index, row in each.rows.items()]
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
