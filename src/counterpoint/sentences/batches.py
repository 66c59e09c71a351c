"""Batches: one of each task for every step, in the order that the recipe asks for, packed without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.encoders.tokens import Frame, Texts
from counterpoint.errors import CounterpointError
from counterpoint.sentences.data.store import Rows, Store
from counterpoint.sentences.recipe import Order, SentencesRecipe
from counterpoint.storage.keys import key

_EVEN = 0.8
"""How much of the exponent an annealed epoch takes away in the end (Stickland and Murray 2019)."""


Pieces = Sequence[Int[np.ndarray, " pieces"]]
"""The word pieces of some sentences, without special tokens."""


@dataclass(frozen=True)
class TaskBatch:
    """Rows of one task, their distinct sentences once.

    Attributes:
        task: its name.
        texts: sentences, or pairs that are encoded jointly.
        sides: where each row's sentences stand among them: one line, or two for pairs encoded apart.
        labels: classes or scores.
        weight: what the mean loss over the rows counts: 1 but for shares of a batch that differ in size.
    """

    task: str
    texts: Texts
    sides: Int[Tensor, "sides rows"]
    labels: Float[Tensor, " rows"]
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "TaskBatch":
        """Return the batch on ``device``."""
        texts, sides, labels = self.texts.to(device), self.sides.to(device), self.labels.to(device)
        return replace(self, texts=texts, sides=sides, labels=labels)


@dataclass(frozen=True)
class StepBatch:
    """The batches of one step.

    Attributes:
        batches: of one task each.
    """

    batches: tuple[TaskBatch, ...]

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def to(self, device: torch.device) -> "StepBatch":
        """Return the batches on ``device``."""
        return StepBatch(tuple(batch.to(device) for batch in self.batches))

    def parts(self) -> Sequence[TaskBatch]:
        """Return the batches, which the model takes one after another."""
        return self.batches


def task_batch(store: Store, recipe: SentencesRecipe, task: str, rows: Rows) -> TaskBatch:
    """Return rows as the model takes them."""
    labels = torch.from_numpy(np.asarray(rows.labels, dtype=np.float32))
    if recipe.task[task].pair == "joint":
        packed = pack(store.frame, *(store.pieces(side) for side in rows.sentences))
        return TaskBatch(task, packed.texts, packed.places[None], labels)
    distinct, inverse = np.unique(rows.sentences, return_inverse=True)
    packed = pack(store.frame, store.pieces(distinct))
    sides = packed.places[torch.from_numpy(inverse.reshape(rows.sentences.shape))]
    return TaskBatch(task, packed.texts, sides, labels)


class TrainingBatches:
    """All batches of the training split, each a function of (seed, epoch, number): resumable at any point.

    A task's rows come in random order, shuffled anew whenever they begin again; the last batch of a pass may
    be smaller. ``sampling.order`` decides which tasks a step has:

    - unbalanced: every task until its rows end; an epoch is one pass over each task (paper 3, section 4.5).
    - balanced: every task in every step; an epoch is one pass over the largest, smaller ones begin again.
    - proportional: as many draws a step as there are tasks, task k with p_k ∝ N_k, its number of rows; a
      task that is drawn twice has two batches, which both count.
    - annealed: the same with p_k ∝ N_k^α and α = 1 - 0.8 e / (E - 1) in epoch e of E, from 0 (Stickland and
      Murray 2019): from the sizes' proportions towards equal shares.

    Drawn epochs have as many batches as one pass over all tasks.

    Args:
        store: the prepared store.
        recipe: the recipe.

    Attributes:
        examples: rows in an epoch, where it does not depend on draws; else in a pass over all tasks.

    Raises:
        CounterpointError: all training rows of a task have one answer.
    """

    def __init__(self, store: Store, recipe: SentencesRecipe) -> None:
        self._store, self._recipe = store, recipe
        self._size, self._seed = recipe.training.batch_size, recipe.training.seed
        self._order: Order = recipe.sampling.order
        self._tasks = recipe.trained
        self._rows = [_drawn(_learnable(store, task), task, recipe) for task in self._tasks]
        self._passes = [-(-len(rows) // self._size) for rows in self._rows]
        self._drawn = lru_cache(maxsize=1)(self._draw)
        self._shuffled = lru_cache(maxsize=len(self._tasks))(self._shuffle)
        self.examples = sum(map(len, self._rows))
        if self._order == "balanced":
            self.examples = sum(
                len(rows) * (len(self) // own) + min(len(rows), len(self) % own * self._size)
                for rows, own in zip(self._rows, self._passes, strict=True)
            )

    def __len__(self) -> int:
        """Steps in an epoch."""
        if self._order in ("unbalanced", "balanced"):
            return max(self._passes)
        return -(-sum(self._passes) // len(self._tasks))

    def batch(self, epoch: int, number: int, *, rank: int = 0, processes: int = 1) -> StepBatch:
        """Return the batches of a step, or one process's share of each.

        The mean gradient of all shares is the batch's: where a batch cannot be divided evenly, they weigh by
        their size. Every share has all tasks; one that no row is left for has the first, counting nothing.
        """
        return StepBatch(
            tuple(
                self._batch(task, epoch, turn, rank, processes) for task, turn in self._turns(epoch, number)
            )
        )

    def _turns(self, epoch: int, number: int) -> list[tuple[int, int]]:
        """Return the tasks of a step, each with the number of its batches earlier in the epoch."""
        tasks = range(len(self._tasks))
        if self._order == "unbalanced":
            return [(task, number) for task in tasks if number < self._passes[task]]
        if self._order == "balanced":
            return [(task, number) for task in tasks]
        drawn = self._drawn(epoch)
        first = number * len(tasks)
        return [
            (int(task), int((drawn[:place] == task).sum()))
            for place, task in enumerate(drawn[first : first + len(tasks)].tolist(), first)
        ]

    def _draw(self, epoch: int) -> Int[np.ndarray, " draws"]:
        """Draw the tasks of an epoch's batches."""
        epochs = self._recipe.training.epochs
        falls = _EVEN * epoch / (epochs - 1) if self._order == "annealed" and epochs > 1 else 0.0
        shares = np.array([len(rows) for rows in self._rows], dtype=np.float64) ** (1 - falls)
        draw = np.random.default_rng((self._seed, epoch, len(self._tasks)))
        return draw.choice(len(shares), size=len(self) * len(shares), p=shares / shares.sum())

    def _batch(self, task: int, epoch: int, turn: int, rank: int, processes: int) -> TaskBatch:
        """Return one task's batch by its place in the epoch."""
        begun, place = divmod(turn, self._passes[task])
        chosen = self._shuffled(task, epoch, begun)[place * self._size : (place + 1) * self._size]
        share = chosen[rank::processes]
        rows = self._rows[task].of(share if len(share) else chosen[:1])
        batch = task_batch(self._store, self._recipe, self._tasks[task], rows)
        return replace(batch, weight=len(share) * processes / len(chosen))

    def _shuffle(self, task: int, epoch: int, begun: int) -> Int[np.ndarray, " rows"]:
        """Return the order of a task's rows when they begin for the ``begun``-th time, from 0."""
        # Seeds of fewer numbers end in zeros: the last number tells these draws from those of an epoch.
        draw = np.random.default_rng((self._seed, epoch, task, begun + 1))
        return draw.permutation(len(self._rows[task]))


def _learnable(store: Store, task: str) -> Rows:
    """Return the training rows of a task, unless all of them have one answer."""
    rows = store.rows(task, "train")
    if len(np.unique(rows.labels)) == 1:
        raise CounterpointError(
            f"{store.path}: the task {task!r} has the answer {rows.labels[0]:g} in all training rows, from "
            "which nothing can be learned; bring rows with others, or leave it out of tasks."
        )
    return rows


def _drawn(rows: Rows, task: str, recipe: SentencesRecipe) -> Rows:
    """Return the share of a task's rows that is trained on, the same for every training seed."""
    draw = np.random.default_rng((recipe.data.split_seed, key(task), 1))
    chosen = draw.permutation(len(rows))[: max(1, round(recipe.sampling.share * len(rows)))]
    return rows.of(np.sort(chosen))


@dataclass(frozen=True)
class Packed:
    """Texts ready for the encoder.

    Attributes:
        texts: shortest first.
        places: where each text that was given stands among them.
    """

    texts: Texts
    places: Int[Tensor, " given"]


def pack(frame: Frame, first: Pieces, second: Pieces | None = None) -> Packed:
    """Return sentences, or pairs that are encoded jointly: special tokens around them, shortest first.

    Args:
        frame: the encoder's special tokens.
        first: the word pieces of each sentence, or of each pair's first one.
        second: of each pair's second one.
    """
    tokens, kinds = _singles(frame, first) if second is None else _pairs(frame, first, second)
    lengths = np.array([len(text) for text in tokens])
    order = np.argsort(lengths, kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    texts = Texts(
        _joined(tokens, order),
        tuple(lengths[order].tolist()),
        None if kinds is None else _joined(kinds, order),
    )
    return Packed(texts, torch.from_numpy(places))


def _singles(frame: Frame, pieces: Pieces) -> tuple[Pieces, None]:
    before, after = np.array(frame.before, dtype=np.int64), np.array(frame.after, dtype=np.int64)
    return [np.concatenate((before, text, after)) for text in pieces], None


def _pairs(frame: Frame, first: Pieces, second: Pieces) -> tuple[Pieces, Pieces | None]:
    """Return the tokens and the segments of pairs; no segments where all are the first one."""
    around = [np.array(part, dtype=np.int64) for part in frame.pair]
    tokens = [
        np.concatenate((around[0], one, around[1], other, around[2]))
        for one, other in zip(first, second, strict=True)
    ]
    of_around = [np.array(part, dtype=np.int64) for part in frame.pair_kinds]
    of_first, of_second = frame.text_kinds
    if not (of_first or of_second or any(part.any() for part in of_around)):
        return tokens, None
    kinds = [
        np.concatenate(
            (
                of_around[0],
                np.full(len(one), of_first),
                of_around[1],
                np.full(len(other), of_second),
                of_around[2],
            )
        )
        for one, other in zip(first, second, strict=True)
    ]
    return tokens, kinds


def _joined(parts: Pieces, order: Int[np.ndarray, " texts"]) -> Int[Tensor, " tokens"]:
    return torch.from_numpy(np.concatenate([parts[place] for place in order.tolist()]).astype(np.int64))
