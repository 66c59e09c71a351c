"""Tables of embeddings: take the gradient of the rows a batch looked up, without one of the whole table.

`nn.Embedding` makes a gradient as large as its table in every pass. Here the node that would make it is
kept from running, and its work is done on the rows that the batch touched: time and memory grow with the
batch. That goes for look-ups of whole leaf tables by `nn.Embedding` and by `nn.EmbeddingBag`, sums and means;
any other use of a table gives the gradient that it gives.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from counterpoint.balance import processes
from counterpoint.balance.graph import leaf_of
from counterpoint.balance.rows import Gradient, Touched, sum_of


@dataclass(eq=False)
class Table:
    """A table of embeddings in one step.

    Attributes:
        parameter: the table.
        lookups: the nodes of the graph that look rows up, and the rows they look up.
        ids: all rows looked up, on any rank.
        gradient: what the pass under way has brought so far.
    """

    parameter: Tensor
    lookups: dict[Node, Tensor] = field(default_factory=dict)
    ids: Tensor = field(init=False)
    gradient: Tensor | None = None

    def __post_init__(self) -> None:
        device = self.parameter.device
        every = [torch.empty(0, dtype=torch.int64, device=device)]
        every += [indices.reshape(-1).long() for indices in self.lookups.values()]
        self.ids = processes.union(torch.unique(torch.cat(every)))
        self._places = {
            node: torch.searchsorted(self.ids, indices.long().contiguous())
            for node, indices in self.lookups.items()
        }
        mine = all(node._saved_sparse for node in self.lookups) if self.lookups else None  # type: ignore[attr-defined]
        self._sparse = processes.all_of([mine])[0] if processes.several() else bool(mine)
        self._padding = {node: self._place_of_padding(node) for node in self.lookups}

    def catch(self, node: Node, gradient: Tensor | None) -> None:
        """Take what the looked-up vectors of one node got."""
        if gradient is None:
            return
        of_lookup = _BACKWARD[node.name()]
        values = of_lookup(node, gradient, self._places[node], len(self.ids), self._padding[node])
        self.gradient = values if self.gradient is None else self.gradient.add_(values)

    def take(self, dense: Gradient) -> Gradient:
        """Return the table's gradient of the pass that ended; `dense` is what came by other ways."""
        caught, self.gradient = self.gradient, None
        if caught is None:
            if dense is not None or not processes.several():
                return dense
            caught = self.parameter.new_zeros(len(self.ids), *self.parameter.shape[1:])
        return sum_of(dense, Touched(self.ids, caught, self._sparse), self.parameter)

    def _place_of_padding(self, node: Node) -> int:
        row = node._saved_padding_idx  # type: ignore[attr-defined]
        if row >= len(self.parameter):  # without padding it is 2⁶⁴ - 1
            return -1
        place = int(torch.searchsorted(self.ids, row))
        return place if place < len(self.ids) and self.ids[place] == row else -1


@contextmanager
def tables(graph: Iterable[Node], parameters: Sequence[Tensor]) -> Iterator[dict[int, Table]]:
    """Yield the tables among the parameters by position; within, their look-ups make no dense gradient.

    A table that its batch looks up more often than it has rows stays an ordinary parameter.
    """
    found = _lookups(graph, parameters)
    opinions = [_worth(found.get(id(each), {}), each) for each in parameters]
    worth = processes.all_of(opinions) if processes.several() else opinions
    chosen = {
        position: Table(each, found.get(id(each), {}))
        for position, (each, is_worth) in enumerate(zip(parameters, worth, strict=True))
        if is_worth
    }
    with ExitStack() as hooks:
        for table in chosen.values():
            for node in table.lookups:
                hooks.callback(node.register_prehook(_Catch(table, node)).remove)
        yield chosen


@dataclass(eq=False)
class _Catch:
    """A hook that hands a node's gradient to its table and leaves the node nothing to do."""

    table: Table
    node: Node

    def __call__(self, gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        self.table.catch(self.node, gradients[0])
        return (None,)


def _lookups(graph: Iterable[Node], parameters: Sequence[Tensor]) -> dict[int, dict[Node, Tensor]]:
    """Return the nodes that look rows of the parameters up, with the rows, by the parameter's identity."""
    candidates = {id(each) for each in parameters if _may_be_table(each)}
    found: dict[int, dict[Node, Tensor]] = {}
    for node in graph if candidates else ():
        if node.name() not in _BACKWARD or not _is_plain(node):
            continue
        leaf = leaf_of(node.next_functions[0][0])
        if leaf is not None and id(leaf) in candidates:
            found.setdefault(id(leaf), {})[node] = node._saved_indices  # type: ignore[attr-defined]
    return found


def _is_plain(node: Any) -> bool:
    """Return whether a look-up's work can be done by rows.

    Not if a checkpoint would compute what is read of it here anew, and for bags not if the maximum is taken
    or the weights of their members are learned.
    """
    if node._saved_scale_grad_by_freq or getattr(node._raw_saved_indices, "unpack_hook", None) is not None:
        return False
    is_bag = node.name() == "EmbeddingBagBackward0"
    return not is_bag or (node._saved_mode < 2 and node.next_functions[1][0] is None)


def _may_be_table(parameter: Tensor) -> bool:
    """Return whether the rows of a parameter can be handled by themselves."""
    return (
        parameter.dim() == 2
        and type(parameter) in (Tensor, torch.nn.Parameter)
        and not parameter._backward_hooks
        and getattr(parameter, "grad_dtype", None) in (None, parameter.dtype)
    )


def _worth(lookups: dict[Node, Tensor], table: Tensor) -> bool | None:
    """Return whether the batch looks up fewer rows than there are; `None` if it looks up nothing."""
    return sum(indices.numel() for indices in lookups.values()) < len(table) if lookups else None


def _of_embedding(node: Any, gradient: Tensor, places: Tensor, rows: int, padding: int) -> Tensor:
    """Return the gradient of the rows that `nn.Embedding` looked up."""
    values: Tensor = torch.ops.aten.embedding_dense_backward(gradient, places, rows, padding, False)
    return values


def _of_bag(node: Any, gradient: Tensor, places: Tensor, rows: int, padding: int) -> Tensor:
    """Return the gradient of the rows that `nn.EmbeddingBag` looked up."""
    saved = node._saved_offsets, node._saved_result1, node._saved_result2, node._saved_result3
    offsets = [each.long() for each in saved]
    mode, weights = node._saved_mode, node._saved_per_sample_weights
    values: Tensor = torch.ops.aten._embedding_bag_backward(
        gradient, places, *offsets, rows, False, mode, False, weights, padding
    )
    return values


_BACKWARD: Mapping[str, Callable[[Any, Tensor, Tensor, int, int], Tensor]] = {
    "EmbeddingBackward0": _of_embedding,
    "EmbeddingBagBackward0": _of_bag,
}
