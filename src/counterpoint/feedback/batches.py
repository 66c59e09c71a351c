"""Rows as a model takes them, gathered column by column, whole batches at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.errors import CounterpointError
from counterpoint.feedback.data.store import Rows, Store
from counterpoint.feedback.recipe import FeedbackRecipe

Bag = tuple[Int[Tensor, " values"], Int[Tensor, " rows"]]
"""The ids of a list column, row after row, and where each row's begin, as `nn.EmbeddingBag` takes them."""


@dataclass(frozen=True)
class FeedbackBatch:
    """Rows of feedback, in the order of a `Schema`'s columns.

    Attributes:
        ids: the rows of the ids in their columns' vocabularies.
        numbers: standardised.
        lists: of each list column, its ids and where each row's begin.
        labels: 1 or 0.
    """

    ids: Int[Tensor, "rows ids"]
    numbers: Float[Tensor, "rows numbers"]
    lists: tuple[Bag, ...]
    labels: Float[Tensor, "rows labels"]

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> "FeedbackBatch":
        """Return the batch on ``device``."""
        return FeedbackBatch(
            self.ids.to(device),
            self.numbers.to(device),
            tuple((values.to(device), offsets.to(device)) for values, offsets in self.lists),
            self.labels.to(device),
        )


class TrainingBatches:
    """All batches of the training split, each a function of (seed, epoch, number): resumable at any point.

    An epoch goes once through all rows, in an order that is drawn once for all columns. A batch takes its
    rows of each array in one go, in ascending order, as a mapped file is read fastest; a batch's loss is a
    mean, to which their order means nothing.

    Args:
        store: the prepared store.
        recipe: the recipe.

    Attributes:
        examples: rows in an epoch.

    Raises:
        CounterpointError: there are fewer rows than a batch has, or a task's label is the same in all rows.
    """

    def __init__(self, store: Store, recipe: FeedbackRecipe) -> None:
        self._seed, self._size = recipe.training.seed, recipe.training.batch_size
        self._rows = store.rows("train")
        self._tasks = store.positions(store.tasks(recipe))
        self.examples = len(self._rows)
        if self.examples < self._size:
            raise CounterpointError(
                f"{store.path}: {self.examples} training rows are fewer than one batch of {self._size}; "
                "lower training.batch_size or bring more rows."
            )
        _refuse_constant(store, recipe)
        self._epoch_order: tuple[int, Int[np.ndarray, " rows"]] = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.examples // self._size)

    def batch(self, epoch: int, number: int, *, rank: int = 0, processes: int = 1) -> FeedbackBatch:
        """Return a batch, or one process's share of it.

        Shares are equally large, so that their mean gradient is the batch's: where the last batch cannot be
        divided, its first rows come again.
        """
        chosen = self._order(epoch)[number * self._size : (number + 1) * self._size]
        share = np.resize(np.arange(len(chosen)), -(-len(chosen) // processes) * processes)[rank::processes]
        return gathered(self._rows, np.sort(chosen[share]), self._tasks)

    def _order(self, epoch: int) -> Int[np.ndarray, " rows"]:
        """Return the order of an epoch's rows; the last one asked for is kept."""
        if self._epoch_order[0] != epoch:
            draw = np.random.default_rng((self._seed, epoch))
            small = self.examples < np.iinfo(np.int32).max
            order: Int[np.ndarray, " rows"] = np.arange(self.examples, dtype=np.int32 if small else np.int64)
            draw.shuffle(order)
            self._epoch_order = epoch, order
        return self._epoch_order[1]


def gathered(rows: Rows, chosen: Int[np.ndarray, " chosen"], tasks: Sequence[int]) -> FeedbackBatch:
    """Return some rows as a batch.

    Args:
        rows: a split.
        chosen: which of them.
        tasks: the places of the labels to take.
    """
    bags = [_bag(values, offsets[chosen], offsets[chosen + 1]) for values, offsets in rows.lists]
    return FeedbackBatch(
        _tensor(rows.ids[chosen], torch.int64),
        _tensor(rows.numbers[chosen], torch.float32),
        tuple(bags),
        _tensor(rows.labels[chosen][:, tasks], torch.float32),
    )


def _bag(
    values: Int[np.ndarray, " values"], begin: Int[np.ndarray, " rows"], end: Int[np.ndarray, " rows"]
) -> Bag:
    """Return the ids between these places, one row after another."""
    lengths = end - begin
    first = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) + np.repeat(begin - first, lengths)
    return _tensor(values[places], torch.int64), torch.from_numpy(first)


def _tensor(values: np.ndarray, kind: torch.dtype) -> Tensor:
    return torch.from_numpy(values).to(kind)


def _refuse_constant(store: Store, recipe: FeedbackRecipe) -> None:
    """Refuse a task whose label is the same in all rows that train, or in all that validate."""
    for split, use in (("train", "training"), ("validation", "validation")):
        for task in store.tasks(recipe):
            positive = store.manifest["positives"][split][task]
            if positive in (0, store.manifest["splits"][split]):
                raise CounterpointError(
                    f"{store.path}: the label {task!r} is {int(positive > 0)} in all {use} rows, from which "
                    "nothing can be learned or told; leave it out of tasks, or split otherwise."
                )
