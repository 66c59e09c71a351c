"""Training batches: pairs with a behaviour, and fresh pairs without any beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from counterpoint.behaviors.data.store import Interactions, Store
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.errors import CounterpointError


@dataclass(frozen=True)
class PairBatch:
    """Pairs of a user and an item.

    Attributes:
        users: rows of the users.
        items: rows of the items.
        labels: whether the pair has each task's behaviour, 1 or 0.
    """

    users: Int[Tensor, " pairs"]
    items: Int[Tensor, " pairs"]
    labels: Float[Tensor, "pairs tasks"]

    def __len__(self) -> int:
        return len(self.users)

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on ``device``."""
        return PairBatch(self.users.to(device), self.items.to(device), self.labels.to(device))


class TrainingBatches:
    """All batches of the training split, each a function of (seed, epoch, number): resumable at any point.

    An epoch goes once through all pairs with at least one of the tasks' behaviours; each brings
    ``sampling.negatives`` items drawn for its user, evenly from those that ``sampling.reject`` leaves, with
    replacement and anew in every epoch. Positives and negatives alike are rows of an epoch, in random order,
    and all tasks share them: a row's labels tell which behaviours its pair has. Behaviours of the store that
    are no task of the recipe count for nothing.

    Time and memory of a batch do not depend on the number of items, nor time on how many of them a user has
    met: allowed items are found by their number, in one binary search and without a second try.

    Args:
        store: the prepared store.
        recipe: the recipe.

    Attributes:
        examples: rows in an epoch, the negatives included.

    Raises:
        CounterpointError: a task has no training pairs, no item is left to draw for some user, or more
            negatives are asked for than there are items.
    """

    def __init__(self, store: Store, recipe: BehaviorsRecipe) -> None:
        self._seed, self._size = recipe.training.seed, recipe.training.batch_size
        self._negatives = recipe.sampling.negatives
        by_task = [store.interactions("train", task) for task in recipe.tasks]
        for task, pairs in zip(recipe.tasks, by_task, strict=True):
            if not len(pairs):
                raise CounterpointError(
                    f"{store.path}: there is no training pair of the task {task!r}; leave it out of the "
                    "recipe's tasks."
                )
        self._positives = _Labelled(by_task, store.item_count)
        rejected = self._positives.pairs if recipe.sampling.reject == "any" else by_task[0]
        self._allowed = _Allowed(rejected, store.item_count)
        self._check(store)
        self.examples = len(self._positives) * (1 + self._negatives)
        self._epoch_order: tuple[int, Int[np.ndarray, " rows"]] = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.examples // self._size)

    def batch(self, epoch: int, number: int, *, rank: int = 0, processes: int = 1) -> PairBatch:
        """Return a batch, or one process's share of it.

        Shares are equally large, so that their mean gradient is the batch's: where the last batch cannot be
        divided, its first rows come again.
        """
        rows = self._order(epoch)[number * self._size : (number + 1) * self._size]
        positive, place = np.divmod(rows, 1 + self._negatives)
        users, items = self._positives.users[positive], self._positives.pairs.items[positive]
        draw = np.random.default_rng((self._seed, epoch, 1 + number))
        negative = np.flatnonzero(place)
        items[negative] = self._allowed.draw(users[negative], draw)
        labels = self._positives.labels[positive]
        labels[negative] = self._positives.labels_of(users[negative], items[negative])
        share = np.resize(np.arange(len(rows)), -(-len(rows) // processes) * processes)[rank::processes]
        return PairBatch(
            torch.from_numpy(users[share].astype(np.int64)),
            torch.from_numpy(items[share].astype(np.int64)),
            torch.from_numpy(labels[share].astype(np.float32)),
        )

    def _order(self, epoch: int) -> Int[np.ndarray, " rows"]:
        """Return the order of an epoch's rows; the last one asked for is kept."""
        if self._epoch_order[0] != epoch:
            # The last number tells this draw from those of the batches: seeds of fewer numbers end in zeros.
            draw = np.random.default_rng((self._seed, epoch, 0))
            small = self.examples < np.iinfo(np.int32).max
            rows: Int[np.ndarray, " rows"] = np.arange(self.examples, dtype=np.int32 if small else np.int64)
            draw.shuffle(rows)
            self._epoch_order = epoch, rows
        return self._epoch_order[1]

    def _check(self, store: Store) -> None:
        """Raise where no item is left to draw, or more are asked for than there are."""
        without = np.flatnonzero((self._positives.pairs.counts() > 0) & (self._allowed.counts == 0))
        if len(without):
            user = store.user_ids[int(without[0])]
            raise CounterpointError(
                f"{store.path}: more negatives asked for than items exist: user {user!r} has met all "
                f"{store.item_count} items, which leaves none for sampling.negatives={self._negatives}; "
                "leave the user out or keep more items."
            )
        if self._negatives > store.item_count:
            raise CounterpointError(
                f"{store.path}: more negatives asked for than items exist: sampling.negatives="
                f"{self._negatives}, and there are {store.item_count} items; lower sampling.negatives or "
                "keep more items."
            )


class _Labelled:
    """The pairs that have a behaviour, and which ones.

    Args:
        by_task: the pairs of each task.
        items: how many items there are.
    """

    def __init__(self, by_task: Sequence[Interactions], items: int) -> None:
        self.pairs = Interactions.union(by_task)
        self.users = self.pairs.users()
        self.labels: UInt8[np.ndarray, "pairs tasks"] = np.zeros((len(self), len(by_task)), dtype=np.uint8)
        numbers = _numbered(self.pairs, items)
        for column, pairs in enumerate(by_task):
            self.labels[np.searchsorted(numbers, _numbered(pairs, items)), column] = 1

    def __len__(self) -> int:
        return len(self.pairs)

    def labels_of(
        self, users: Int[np.ndarray, " some"], items: Int[np.ndarray, " some"]
    ) -> UInt8[np.ndarray, "some tasks"]:
        """Return the labels of any pairs; one without a behaviour has none."""
        first = self.pairs.offsets[users]
        place = first + _how_many(self.pairs.items, self.pairs.offsets, users, items) - 1
        # Where a user has no item up to this one, the place is another user's, who may have it.
        found = (place >= first) & (self.pairs.items[place] == items)
        labels: UInt8[np.ndarray, "some tasks"] = self.labels[place] * found[:, None]
        return labels


class _Allowed:
    """For every user the items that are not rejected, numbered in ascending order.

    Below the rejected item r, the j-th of its user's (from 0), are r - j allowed ones. So the allowed item
    with the number k (from 0) is k + j, for the j rejected ones that have at most k allowed ones below them.

    Args:
        rejected: the pairs that are not to be drawn.
        items: how many items there are.

    Attributes:
        counts: allowed items of each user.
    """

    def __init__(self, rejected: Interactions, items: int) -> None:
        self.counts: Int[np.ndarray, " users"] = items - rejected.counts()
        self._offsets = np.asarray(rejected.offsets)  # a mapped array is slow to index
        within = np.arange(len(rejected)) - np.repeat(self._offsets[:-1], rejected.counts())
        self._allowed_below = (rejected.items - within).astype(np.int32)

    def draw(self, users: Int[np.ndarray, " some"], draw: np.random.Generator) -> Int[np.ndarray, " some"]:
        """Return an allowed item for each of these users, each equally likely."""
        numbers = draw.integers(self.counts[users])
        items: Int[np.ndarray, " some"] = numbers + _how_many(
            self._allowed_below, self._offsets, users, numbers
        )
        return items


def _numbered(pairs: Interactions, items: int) -> Int[np.ndarray, " pairs"]:
    """Return a number for each pair, ascending as the pairs are."""
    numbers: Int[np.ndarray, " pairs"] = pairs.users().astype(np.int64) * items + pairs.items
    return numbers


def _how_many(
    values: Int[np.ndarray, " pairs"],
    offsets: Int[np.ndarray, " users+1"],
    users: Int[np.ndarray, " some"],
    limits: Int[np.ndarray, " some"],
) -> Int[np.ndarray, " some"]:
    """Return how many of each user's values, which ascend, are not above a limit.

    A binary search in each user's values at once: a user's few values lie together in memory, where a search
    through those of all users would fetch its way to them from all over it.
    """
    low, high = offsets[users], offsets[users + 1]
    longest = int((high - low).max(initial=0))
    for _ in range(longest.bit_length()):
        middle = (low + high) // 2
        # A search that has ended may stand behind the last value.
        above = (low == high) | (values[np.minimum(middle, len(values) - 1)] > limits)
        low, high = np.where(above, low, middle + 1), np.where(above, middle, high)
    counts: Int[np.ndarray, " some"] = low - offsets[users]
    return counts
