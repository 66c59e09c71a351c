"""The backward passes of one step: a row of gradients of the shared parameters each."""

from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, processes
from counterpoint.balance.batch import Batch
from counterpoint.balance.embedding_tables import Table, tables
from counterpoint.balance.graph import (
    REENTRANT,
    grads_aside,
    leaves,
    leaves_among,
    nodes,
    nodes_of,
    separate_grads,
    take_grads,
    without,
)
from counterpoint.balance.rows import Row, add_grads, is_finite, sum_of


def take_rows(
    taken: Float[np.ndarray, "rows tasks"], batch: Batch, *, keep: bool = False
) -> Generator[Row, None, None]:
    """Run the backward passes and yield each one's gradients of the parameters, averaged over processes.

    The first pass that adds a task's loss up fills its heads with their plain gradient on the way. Tasks that
    appear only in passes with other factors, or in none, get theirs in a pass of their own that stops at the
    heads. The parameters' `.grad` is back in its place once all rows are taken. To `keep` is to leave the
    graphs and the heads' `.grad` as they are.
    """
    losses, parameters, own, scale = batch.losses, batch.parameters, batch.own, batch.scale
    graph = list(nodes(losses))
    hidden = any(node.name() == REENTRANT for node in graph)
    reached = leaves_among(graph)
    beside = without(reached, parameters)
    if len(beside) == len(reached) and not (hidden or processes.several()):
        checks.warn_of_nothing_shared(parameters)
    terms = [
        [(loss, f) for loss, f in zip(losses, row, strict=True) if f and loss.requires_grad] for row in taken
    ]
    fills, filled = _fillers(taken)
    headless = [
        loss for loss, done in zip(losses, filled, strict=True) if loss.requires_grad and not (done or keep)
    ]
    left = sum(map(bool, terms))
    with tables(graph, parameters) as found, grads_aside([*parameters, *own]):
        if headless:
            _fill_heads(headless, parameters, found, scale, retain=left > 0)
        for row, fills_heads in zip(terms, fills, strict=True):
            if row:
                left -= 1
                to = None if fills_heads and not keep else parameters
                _take_pass(row, to, beside, scale, hidden=hidden, retain=keep or left > 0)
            yield _taken(parameters, found)
        of_heads: Row = [*take_grads(own)]
    if not keep:
        add_grads(own, processes.average(of_heads, own) if processes.several() else of_heads)


def _take_pass(
    terms: Sequence[tuple[Tensor, float]],
    parameters: Sequence[Tensor] | None,
    beside: Sequence[Tensor],
    scale: float,
    *,
    hidden: bool,
    retain: bool,
) -> None:
    """Differentiate a combination of losses, for all leaves or for the parameters alone."""
    losses = [loss for loss, _ in terms]
    seeds = [torch.full_like(loss, factor * scale) for loss, factor in terms]
    if parameters is None:
        torch.autograd.backward(losses, seeds, retain_graph=retain)
        separate_grads(beside)
    elif hidden:  # a reentrant checkpoint refuses a pass to chosen inputs
        with grads_aside(beside):
            torch.autograd.backward(losses, seeds, retain_graph=retain)
    elif parameters:
        torch.autograd.backward(losses, seeds, inputs=parameters, retain_graph=retain)


def _fillers(taken: Float[np.ndarray, "rows tasks"]) -> tuple[list[bool], list[bool]]:
    """Return which passes give heads their plain gradient, none twice, and which tasks' heads get theirs."""
    filled = np.zeros(taken.shape[1], dtype=bool)
    fills = []
    for row in taken:
        fills.append(set(row.tolist()) <= {0.0, 1.0} and not filled[row != 0].any())
        if fills[-1]:
            filled |= row != 0
    return fills, filled.tolist()


def _fill_heads(
    losses: Sequence[Tensor],
    parameters: Sequence[Tensor],
    found: Mapping[int, Table],
    scale: float,
    *,
    retain: bool,
) -> None:
    """Give the heads of losses their plain gradient, by a pass that stops there if it may."""
    seeds = [torch.full_like(loss, scale) for loss in losses]
    graph = list(nodes(losses))
    heads = without(leaves_among(graph), parameters)
    if any(node.name() == REENTRANT for node in graph):
        torch.autograd.backward(losses, seeds, retain_graph=retain)
        take_grads(parameters)
        for table in found.values():
            table.gradient = None
    elif heads:
        torch.autograd.backward(losses, seeds, inputs=heads, retain_graph=retain)


def rows_at_representation(batch: Batch) -> list[Row]:
    """Return every loss's gradient at the representation, of this rank's batch; no pass through the trunk.

    The heads' `.grad` is filled on the way.
    """
    above = nodes_of(batch.representation)
    heads = batch.own if processes.several() else leaves(batch.losses, above=above)
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
        own = [None if each is None else each.clone() for each in gradients]  # some may be one tensor
        rows.append([*own[:cut]])
        later = zip(of_heads, own[cut:], heads, strict=True)
        of_heads = [sum_of(first, second, like) for first, second, like in later]
    add_grads(heads, processes.average(of_heads, heads) if processes.several() else of_heads)
    return rows


def send_through(batch: Batch, merged: Sequence[Tensor | None]) -> bool:
    """Send a gradient of the representation through the trunk, into the `.grad` of its parameters.

    Returns:
        Whether the parameters' gradients are finite.
    """
    sent = [(each, seed) for each, seed in zip(batch.representation, merged, strict=True) if seed is not None]
    outputs, seeds = [each for each, _ in sent], [seed for _, seed in sent]
    with tables(nodes(outputs), batch.parameters) as found, grads_aside(batch.parameters):
        if sent:
            torch.autograd.backward(outputs, seeds)
        row = _taken(batch.parameters, found)
    finite = is_finite(row)
    add_grads(batch.parameters, row)
    return finite


def _taken(parameters: Sequence[Tensor], found: Mapping[int, Table]) -> Row:
    """Return the parameters' gradients of the pass that ended, averaged over processes."""
    row: Row = [*take_grads(parameters)]
    for position, table in found.items():
        row[position] = table.take(row[position])
    return processes.average(row, parameters) if processes.several() else row
