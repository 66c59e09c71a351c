"""Inner products of gradients and their weighted sum, parameter by parameter, without flattening copies."""

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance.rows import Aligned

Block = Sequence[int]
"""Positions of the parameters that share one Gramian."""

# Below this, squares of single precision coordinates start to vanish: 1e-38 apiece, in 1e8 coordinates.
_SMALLEST_SAFE_SQUARE = 1e-24


def gramians(
    gradients: Sequence[Aligned],
    blocks: Sequence[Block],
    rows: int,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return every block's inner products of gradient rows, M_ij = ⟨g_i, g_j⟩, on the CPU.

    Each parameter's products are taken in its own precision (half precision in single), their sum in float64.
    Where a square is so small or so large that single precision loses it, that parameter is taken again in
    float64: gradients of 1e-20 or 1e+20 keep their angles. Costs one wait for the device. Of `pairs` alone
    if given; the other products are 0 then.
    """
    pairs = list(combinations_with_replacement(range(rows), 2)) if pairs is None else pairs
    products = _products(gradients, rows, pairs, _working_precision)
    squared = [i for i, j in pairs if i == j]
    for position, each in enumerate(gradients):
        squares = products[position].diagonal()[[row for row in squared if row in each.rows]]
        if (squares < _SMALLEST_SAFE_SQUARE).any() or np.isinf(squares).any():
            products[position] = _products([each], rows, pairs, _double_precision)[0]
    sums = [products[list(block)].sum(axis=0) for block in blocks]
    return np.array(sums).reshape(len(blocks), rows, rows)


def combine(
    gradients: Sequence[Aligned], blocks: Sequence[Block], weights: Float[np.ndarray, "blocks rows"]
) -> list[Tensor | None]:
    """Return every parameter's weighted sum of rows, written into the buffers of its first row."""
    for block, of_block in zip(blocks, weights, strict=True):
        members = [gradients[position].rows for position in block]
        for row, weight in enumerate(of_block.tolist()):
            present = [rows for rows in members if row in rows]
            weight = _within_reach([rows[row] for rows in present], weight)
            first = [rows[row] for rows in present if row == min(rows)]
            if first and weight != 1.0:
                torch._foreach_mul_(first, weight)
            later = [rows for rows in present if row > min(rows)]
            if later:
                sums = [rows[min(rows)] for rows in later]
                torch._foreach_add_(sums, [rows[row] for rows in later], alpha=weight)
    return [each.rows[min(each.rows)] if each.rows else None for each in gradients]


def _within_reach(gradients: Sequence[Tensor], weight: float) -> float:
    """Return a factor the gradients' precision can hold, after multiplying them by what is too much of it."""
    reach = min((torch.finfo(each.dtype).max ** 0.5 for each in gradients), default=np.inf)
    while abs(weight) > reach:
        torch._foreach_mul_(list(gradients), reach)
        weight /= reach
    return weight


def _products(
    gradients: Sequence[Aligned],
    rows: int,
    pairs: Sequence[tuple[int, int]],
    precision: Callable[[Tensor], Tensor],
) -> Float[np.ndarray, "parameters rows rows"]:
    products = np.zeros((len(gradients), rows, rows))
    places: list[tuple[int, int, int]] = []
    dots: list[Tensor] = []
    for position, each in enumerate(gradients):
        flat = {index: precision(row).reshape(-1) for index, row in each.rows.items()}
        for i, j in pairs:
            if i in flat and j in flat:
                places.append((position, i, j))
                dots.append(torch.dot(flat[i], flat[j]))
    if dots:
        parameter, i, j = np.array(places).T
        values = torch.stack([dot.to(dots[0].device) for dot in dots]).cpu().double().numpy()
        products[parameter, i, j] = products[parameter, j, i] = values
    return products


def _working_precision(gradient: Tensor) -> Tensor:
    return gradient.float() if gradient.element_size() < 4 else gradient


def _double_precision(gradient: Tensor) -> Tensor:
    return gradient.cpu().double()  # not every device knows float64, and this is rare
