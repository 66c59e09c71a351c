"""The backward passes of one step: a row of gradients of the shared parameters each."""

from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, ranks
from counterpoint.balance.batch import Batch
from counterpoint.balance.graph import (
    REENTRANT,
    distinct,
    grads_aside,
    leaf_of,
    leaves,
    nodes,
    nodes_of,
    take_grads,
    without,
)
from counterpoint.balance.rows import Row, add_grads, is_finite, sum_of
from counterpoint.balance.tables import Table, tables


def take_rows(
    taken: Float[np.ndarray, "rows tasks"], batch: Batch, *, keep: bool = False
) -> Generator[Row, None, None]:
    """Run the backward passes and yield each one's gradients of the parameters, averaged over ranks.

    The first pass that adds a task's loss up fills its heads with their plain gradient on the way. Tasks that
    appear only in passes with other factors, or in none, get theirs in a pass of their own that stops at the
    heads. The parameters' `.grad` is back in its place once all rows are taken. To `keep` is to leave the
    graphs and the heads' `.grad` as they are.
    """
    losses, parameters, own, scale = batch.losses, batch.parameters, batch.own, batch.scale
    terms = [
        [(loss, f) for loss, f in zip(losses, row, strict=True) if f and loss.requires_grad] for row in taken
    ]
    fills, filled = _fillers(taken)
    headless = [
        loss for loss, done in zip(losses, filled, strict=True) if loss.requires_grad and not (done or keep)
    ]
    heads = without(leaves(headless, below_checkpoints=False), parameters)
    left, reached = sum(map(bool, terms)), False
    with tables(losses, parameters) as found, grads_aside([*parameters, *own]):
        if heads:
            seeds = [torch.full_like(loss, scale) for loss in headless]
            torch.autograd.backward(headless, seeds, inputs=heads, retain_graph=left > 0)
        for row, fills_heads in zip(terms, fills, strict=True):
            if row:
                left -= 1
                summed = [loss for loss, _ in row]
                seeds = [torch.full_like(loss, factor * scale) for loss, factor in row]
                retain = keep or left > 0
                if fills_heads and not keep:
                    torch.autograd.backward(summed, seeds, retain_graph=retain)
                else:
                    _pass_to(parameters, summed, seeds, retain=retain)
            taken_row = _taken(parameters, found)
            reached |= any(each is not None for each in taken_row)
            yield taken_row
        of_heads: Row = [*take_grads(own)]
    if not (reached or ranks.several()):  # other ranks would wait
        checks.reached(parameters, leaves(losses))
    if not keep:
        add_grads(own, ranks.average(of_heads, own) if ranks.several() else of_heads)


def _fillers(taken: Float[np.ndarray, "rows tasks"]) -> tuple[list[bool], list[bool]]:
    """Return which passes give heads their plain gradient, none twice, and which tasks' heads get theirs."""
    filled = np.zeros(taken.shape[1], dtype=bool)
    fills = []
    for row in taken:
        fills.append(set(row.tolist()) <= {0.0, 1.0} and not filled[row != 0].any())
        if fills[-1]:
            filled |= row != 0
    return fills, filled.tolist()


def _pass_to(
    parameters: Sequence[Tensor], losses: Sequence[Tensor], seeds: Sequence[Tensor], *, retain: bool
) -> None:
    """Take a backward pass that leaves the `.grad` of all other leaves as it is."""
    reached = list(nodes(losses))
    if any(node.name() == REENTRANT for node in reached):  # refuses a pass to chosen inputs
        heads = distinct(leaf for leaf in map(leaf_of, reached) if leaf is not None)
        with grads_aside(without(heads, parameters)):
            torch.autograd.backward(losses, seeds, retain_graph=retain)
    elif parameters:
        torch.autograd.backward(losses, seeds, inputs=parameters, retain_graph=retain)


def rows_at_representation(batch: Batch) -> list[Row]:
    """Return every loss's gradient at the representation, of this rank's batch; no pass through the trunk.

    The heads' `.grad` is filled on the way.
    """
    above = nodes_of(batch.representation)
    heads = leaves(batch.losses, above=above)
    of_heads: Row = [None] * len(heads)
    rows: list[Row] = []
    cut = len(batch.representation)
    for loss in batch.losses:
        if not loss.requires_grad:
            rows.append([None] * cut)
            continue
        inputs = [*batch.representation, *heads]
        seed = torch.full_like(loss, batch.scale)
        gradients = torch.autograd.grad(loss, inputs, seed, retain_graph=True, allow_unused=True)
        rows.append([None if each is None else each.clone() for each in gradients[:cut]])  # to be written to
        later = zip(of_heads, gradients[cut:], heads, strict=True)
        of_heads = [sum_of(first, second, like) for first, second, like in later]
    add_grads(heads, ranks.average(of_heads, heads) if ranks.several() else of_heads)
    return rows


def send_through(batch: Batch, merged: Sequence[Tensor | None]) -> bool:
    """Send a gradient of the representation through the trunk, into the `.grad` of its parameters.

    Returns:
        Whether the parameters' gradients are finite.
    """
    sent = [(each, seed) for each, seed in zip(batch.representation, merged, strict=True) if seed is not None]
    outputs, seeds = [each for each, _ in sent], [seed for _, seed in sent]
    with tables(outputs, batch.parameters) as found, grads_aside(batch.parameters):
        if sent:
            torch.autograd.backward(outputs, seeds)
        row = _taken(batch.parameters, found)
    finite = is_finite(row)
    add_grads(batch.parameters, row)
    return finite


def _taken(parameters: Sequence[Tensor], found: Mapping[int, Table]) -> Row:
    """Return the parameters' gradients of the pass that ended, averaged over ranks."""
    row: Row = [*take_grads(parameters)]
    for position, table in found.items():
        row[position] = table.take(row[position])
    return ranks.average(row, parameters) if ranks.several() else row
