"""Every column's value as a vector."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from counterpoint.feedback.batches import Bag


class Fields(nn.Module):
    """The vectors of all columns, ids first, then numbers, then lists.

    The vector of an id is a row of a table, that of a number x is x times a vector of its column, and that of
    a list the mean of its ids' vectors, zero for an empty list. All columns' ids stand in one table, one
    column's below another's: a batch takes one look-up for ids and one for lists, however many columns there
    are.

    Args:
        ids: the vocabulary sizes of the id columns.
        numbers: how many columns of numbers there are.
        lists: the vocabulary sizes of the list columns.
        width: numbers in a vector.
        sparse: whether a table's gradient holds the rows looked up alone.
    """

    first_of_ids: Int[Tensor, " ids"]
    first_of_lists: Int[Tensor, " lists"]

    def __init__(
        self, ids: Sequence[int], numbers: int, lists: Sequence[int], width: int, *, sparse: bool
    ) -> None:
        super().__init__()
        *first, rows = accumulate((*ids, *lists), initial=0)
        self.register_buffer("first_of_ids", torch.tensor(first[: len(ids)]).long(), persistent=False)
        self.register_buffer("first_of_lists", torch.tensor(first[len(ids) :]).long(), persistent=False)
        self.table = nn.Embedding(rows, width, sparse=sparse)
        self.of_numbers = nn.Parameter(torch.empty(numbers, width))
        nn.init.normal_(self.table.weight, std=0.01)
        nn.init.normal_(self.of_numbers, std=0.01)

    def forward(
        self,
        ids: Int[Tensor, "rows ids"],
        numbers: Float[Tensor, "rows numbers"],
        lists: Sequence[Bag],
    ) -> Float[Tensor, "rows fields width"]:
        """Return the vectors of a batch's columns; ids must lie within their vocabularies."""
        return self.joined(ids, numbers, self._means(lists) if lists else None)

    def joined(
        self,
        ids: Int[Tensor, "rows ids"],
        numbers: Float[Tensor, "rows numbers"],
        means: Float[Tensor, "rows lists width"] | None,
    ) -> Float[Tensor, "rows fields width"]:
        """Return the vectors of all columns, those of the lists being known."""
        parts = [] if means is None else [means]
        if numbers.shape[1]:
            parts.insert(0, numbers[:, :, None] * self.of_numbers)
        if ids.shape[1]:
            parts.insert(0, self.table(ids + self.first_of_ids))
        return torch.cat(parts, dim=1)

    def _means(self, lists: Sequence[Bag]) -> Float[Tensor, "rows lists width"]:
        """Return the mean vector of each list, all columns in one look-up."""
        values = [each + first for (each, _), first in zip(lists, self.first_of_lists, strict=True)]
        before = accumulate((len(each) for each, _ in lists), initial=0)
        offsets = [each + start for (_, each), start in zip(lists, before, strict=False)]
        means = embedding_bag(
            torch.cat(values), self.table.weight, torch.cat(offsets), mode="mean", sparse=self.table.sparse
        )
        return means.view(len(lists), -1, means.shape[1]).transpose(0, 1)
