"""Inner products of gradients and their weighted sum, parameter by parameter, without flattening copies."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement, compress

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.balance.report import cosines
from counterpoint.balance.rows import Aligned, Row, align, working

Block = Sequence[int]
"""Positions of the parameters that share one Gramian."""

# Below this, squares of single precision coordinates start to vanish: 1e-38 apiece, in 1e8 coordinates.
_SMALLEST_SAFE = 1e-24

# A long sum in single precision loses digits. Summed in pieces of this many coordinates, an inner product is
# off by a few 1e-7 of the norms at most, which does not matter unless gradients depend on each other: where a
# combination of unit gradients has a square below this, differences of inner products decide.
_PIECE = 131_072
_NEARLY_DEPENDENT = 1e-2

# Up to this many coordinates one product of matrices in float64 is faster than an inner product per pair.
_SMALL = 2048

# The squared length of a sum of gradients that is rounding alone, by that of their lengths' sum: the numbers
# of single precision are off by 6e-8.
_ROUNDING = 1e-12


def gramians(
    gradients: Sequence[Aligned],
    blocks: Sequence[Block],
    rows: int,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return every block's inner products of gradient rows, M_ij = ⟨g_i, g_j⟩, on the CPU.

    Products are taken in the gradients' own precision (half precision in single), piece by piece, their sum
    in float64. Where a product is so small or so large that single precision loses it, that parameter is
    taken again in float64, and so are the blocks in which gradients nearly depend on each other: gradients
    of 1e-20 or 1e+20 keep their angles, opposite ones cancel. Costs one wait for the device. Of `pairs` alone
    if given; the others are not to be used then.
    """
    return summed(inner_products(gradients, blocks, rows, pairs), blocks)


def gramians_of_rows(
    rows: Sequence[Row],
    parameters: Sequence[Tensor],
    blocks: Sequence[Block],
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return `gramians` of rows as passes take them."""
    aligned = [align(gradients, like) for *gradients, like in zip(*rows, parameters, strict=True)]
    return gramians(aligned, blocks, len(rows), pairs)


def inner_products(
    gradients: Sequence[Aligned],
    blocks: Sequence[Block],
    rows: int,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Float[np.ndarray, "parameters rows rows"]:
    """Return the terms of `gramians`: the inner products of gradient rows in every parameter by itself."""
    every = list(combinations_with_replacement(range(rows), 2)) if pairs is None else pairs
    products = _products(gradients, rows, every)
    lost = _lost(products, gradients, [i for i, j in every if i == j])
    chosen = [gradients[place] for place in np.flatnonzero(lost).tolist()]
    products[lost] = _products(chosen, rows, every, exact=True)
    if pairs is None:
        delicate = _nearly_dependent(summed(products, blocks))
        again = [place for block in compress(blocks, delicate) for place in block if not lost[place]]
        products[again] = _products([gradients[place] for place in again], rows, every, exact=True)
    return products


def summed(
    products: Float[np.ndarray, "parameters rows rows"], blocks: Sequence[Block]
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return the sum over the parameters of every block."""
    sums = [products[list(block)].sum(axis=0) for block in blocks]
    return np.array(sums).reshape(len(blocks), *products.shape[1:])


def mixed(
    products: Float[np.ndarray, "blocks taken taken"], mixing: Float[np.ndarray, "rows taken"]
) -> Float[np.ndarray, "blocks rows rows"]:
    """Return the inner products of combinations of gradients; one that cancels but for rounding is zero."""
    combined = mixing @ products @ mixing.T
    lengths = np.sqrt(np.diagonal(products, axis1=1, axis2=2)) @ np.abs(mixing).T
    kept = np.diagonal(combined, axis1=1, axis2=2) > _ROUNDING * lengths**2
    return np.where(kept[:, :, None] & kept[:, None, :], combined, 0.0)


def combine(
    gradients: Sequence[Aligned], blocks: Sequence[Block], weights: Float[np.ndarray, "blocks rows"]
) -> list[Tensor | None]:
    """Return every parameter's weighted sum of rows, in the buffers of its first row; the others are freed.

    Half precision is summed up in single.
    """
    for block, of_block in zip(blocks, weights, strict=True):
        members = [gradients[position].rows for position in block if gradients[position].rows]
        types = [rows[min(rows)].dtype for rows in members]
        for rows in members:
            rows[min(rows)] = working(rows[min(rows)])
        for row, weight in enumerate(of_block.tolist()):
            first = [rows[row] for rows in members if row == min(rows)]
            if first and weight != 1.0:
                for factor in _factors(first, weight):
                    torch._foreach_mul_(first, factor)
            with_later = [rows for rows in members if row in rows and row > min(rows)]
            if with_later:
                sums = [rows[min(rows)] for rows in with_later]
                later = [rows.pop(row) for rows in with_later]
                *factors, last = _factors(sums, weight)
                for factor in factors:
                    later = list(torch._foreach_mul([working(each) for each in later], factor))
                torch._foreach_add_(sums, later, alpha=last)
        for rows, dtype in zip(members, types, strict=True):
            rows[min(rows)] = rows[min(rows)].to(dtype)
    return [each.rows[min(each.rows)] if each.rows else None for each in gradients]


def _factors(gradients: Sequence[Tensor], weight: float) -> list[float]:
    """Return factors that the gradients' precision can hold, one after the other, for a weight."""
    reach = min(torch.finfo(each.dtype).max ** 0.5 for each in gradients)
    factors = []
    while abs(weight) > reach:
        factors.append(reach)
        weight /= reach
    return [*factors, weight]


def _products(
    gradients: Sequence[Aligned], rows: int, pairs: Sequence[tuple[int, int]], *, exact: bool = False
) -> Float[np.ndarray, "parameters rows rows"]:
    products = np.zeros((len(gradients), rows, rows))
    small: dict[tuple[int, ...], list[int]] = {}
    places: list[tuple[int, int, int]] = []
    dots: list[Tensor] = []
    for position, each in enumerate(gradients):
        if size := _small_size(each):
            small.setdefault((size, *each.rows), []).append(position)
            continue
        wanted = [(i, j) for i, j in pairs if i in each.rows and j in each.rows]
        of_parameter = [(position, i, j) for i, j in wanted]
        for piece in _pieces(each.rows, exact=exact) if wanted else ():
            places += of_parameter
            dots += [torch.dot(piece[i], piece[j]) for i, j in wanted]
    for (size, *present), positions in small.items():
        flat = torch.stack([gradients[at].rows[row].reshape(-1) for at in positions for row in present])
        stacked = flat.double().view(len(positions), len(present), size)
        products[np.ix_(positions, present, present)] = (stacked @ stacked.mT).numpy()
    if dots:
        devices = {dot.device for dot in dots}
        if len(devices) > 1:
            dots = [dot.cpu() for dot in dots]
        parameter, i, j = np.array(places).T
        np.add.at(products, (parameter, i, j), torch.stack(dots).cpu().double().numpy())
        products[parameter, j, i] = products[parameter, i, j]
    return products


def _small_size(gradients: Aligned) -> int:
    """Return a parameter's size if its gradients are multiplied faster along with others of that size."""
    first = next(iter(gradients.rows.values()), None)
    if first is None or first.device.type != "cpu" or first.numel() > _SMALL:
        return 0
    return first.numel()


def _pieces(rows: Mapping[int, Tensor], *, exact: bool) -> Iterable[Mapping[int, Tensor]]:
    """Return gradients flat, in pieces where they are long.

    Other devices than the CPU add up in a tree anyway, so there they come whole; not all know float64.
    """
    flat = {index: working(row).reshape(-1) for index, row in rows.items()}
    if exact:
        flat = {index: row.cpu() for index, row in flat.items()}
    long = any(len(row) > _PIECE and row.device.type == "cpu" for row in flat.values())
    pieces: Iterable[Mapping[int, Tensor]] = [flat]
    if long:
        split = [torch.split(row, _PIECE) for row in flat.values()]
        pieces = (dict(zip(flat, of_rows, strict=True)) for of_rows in zip(*split, strict=True))
    if exact:
        return ({index: row.double() for index, row in piece.items()} for piece in pieces)
    return pieces


def _lost(
    products: Float[np.ndarray, "parameters rows rows"], gradients: Sequence[Aligned], squared: list[int]
) -> Bool[np.ndarray, " parameters"]:
    """Return for which parameters a product has left the range of single precision."""
    sizes = np.abs(products)
    out_of_range = (sizes > 0) & (sizes < _SMALLEST_SAFE) | ~np.isfinite(sizes)
    there = np.array([[row in each.rows for row in squared] for each in gradients], dtype=bool)
    gone = there.reshape(len(gradients), len(squared)) & (products[:, squared, squared] == 0)
    lost: Bool[np.ndarray, " parameters"] = out_of_range.any(axis=(1, 2)) | gone.any(axis=1)
    return lost


def _nearly_dependent(gramians: Float[np.ndarray, "blocks rows rows"]) -> Bool[np.ndarray, " blocks"]:
    """Return in which blocks some combination of unit gradients nearly vanishes."""
    finite = np.isfinite(gramians).all(axis=(1, 2))
    if gramians.shape[1] < 2 or not finite.any():
        return np.zeros(len(gramians), dtype=bool)
    lowest = np.linalg.eigvalsh(cosines(np.where(finite[:, None, None], gramians, 0.0)))[:, 0]
    dependent: Bool[np.ndarray, " blocks"] = finite & (lowest < _NEARLY_DEPENDENT)
    return dependent
