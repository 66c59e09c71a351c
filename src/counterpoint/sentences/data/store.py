"""The prepared store: the rows of all tasks on disk, their sentences tokenised once and memory-mapped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from counterpoint.encoders.tokens import Frame, Tokenizer
from counterpoint.errors import CounterpointError
from counterpoint.sentences.data.splits import SPLITS
from counterpoint.sentences.recipe import SentencesRecipe, Task
from counterpoint.storage.arrays import gather
from counterpoint.storage.prepared import (
    map_array,
    read_manifest,
    read_table,
    refuse_missing_task,
    refuse_other_settings,
    refuse_unknown_split,
)

FORMAT = 1


@dataclass(frozen=True)
class Rows:
    """The rows of a task in one split.

    Attributes:
        ids: as in the data.
        sentences: rows of the store's sentences: one for each side of each row.
        labels: classes or scores; NaN in the unlabelled split.
    """

    ids: pl.Series
    sentences: Int[np.ndarray, "sides rows"]
    labels: Float[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, places: Int[np.ndarray, " some"]) -> "Rows":
        """Return the rows that stand at these places."""
        return Rows(self.ids.gather(places), self.sentences[:, places], self.labels[places])


class Store:
    """A prepared store, opened for reading; tokens are mapped, not loaded.

    Args:
        path: its folder.

    Attributes:
        path: its folder.
        manifest: what preparation did and counted.
        tasks: the tasks' names, in the order that evaluations have.
        frame: the special tokens around sentences and pairs.

    Raises:
        CounterpointError: it is no store, or one of another workload or version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path, "sentences", FORMAT)
        self.tasks: tuple[str, ...] = tuple(self.manifest["tasks"])
        self.frame = Frame(**self.manifest["tokenizer"]["frame"])

    @property
    def counts(self) -> dict[str, int]:
        """What preparation counted."""
        counts: dict[str, int] = self.manifest["counts"]
        return counts

    def require(self, recipe: SentencesRecipe, tokenizer: Tokenizer, *, trained: bool = False) -> None:
        """Refuse a recipe or a tokenizer that the store was not made for.

        Args:
            recipe: the recipe.
            tokenizer: its encoder's.
            trained: there is a model already: some of its tasks, without training rows, are enough.
        """
        made_with = self.manifest["tokenizer"]
        if tokenizer.fingerprint != made_with["fingerprint"]:
            raise CounterpointError(
                f"{self.path}: tokenised for {made_with['name']}, {tokenizer.name} splits words otherwise; "
                "prepare the data again or set encoder.name."
            )
        some = [name for name in recipe.tasks if name in self.tasks] if trained else []
        for name in some or recipe.tasks:
            refuse_missing_task(self.path, name, self.tasks)
            if not trained and not self.counts[f"train rows of {name}"]:
                raise CounterpointError(
                    f"{self.path}: prepared without training rows of the task {name!r}; prepare data that "
                    "has some, or leave it out of tasks."
                )
            if shape_of(recipe.task[name]) != self.manifest["tasks"][name]:
                raise CounterpointError(
                    f"{self.path}: the task {name!r} was prepared with other columns, classes or scores than "
                    "the recipe's; prepare the data again."
                )
        settings = self.manifest["settings"]
        refuse_other_settings(
            self.path,
            {f"data.{key}": value for key, value in settings.items()},
            {f"data.{key}": getattr(recipe.data, key) for key in settings},
        )

    def befell(self, what: str, tasks: Sequence[str], splits: Sequence[str]) -> dict[str, int]:
        """Return how many rows of each task were ``set aside`` or ``cut``, tasks without any left out."""
        found = {
            name: sum(self.counts.get(f"{split} rows of {name} {what}", 0) for split in splits)
            for name in tasks
        }
        return {name: number for name, number in found.items() if number}

    def rows(self, task: str, split: str) -> Rows:
        """Return the rows of a task in a split; there may be none.

        Raises:
            UsageError: there is no such split.
            CounterpointError: a file is missing or cut short.
        """
        refuse_unknown_split(split, SPLITS)
        columns = ["id", "label", "first", "second"][: 2 + len(self.manifest["tasks"][task]["texts"])]
        table = read_table(self.path, table_name(self.tasks.index(task), split), columns)
        sides = [table[column].to_numpy() for column in columns[2:]]
        return Rows(table["id"], np.stack(sides), table["label"].to_numpy())

    def texts(self, sentences: Int[np.ndarray, " some"]) -> list[str]:
        """Return sentences as they were read."""
        every = read_table(self.path, "sentences", ["text"])["text"]
        return every.gather(sentences).to_list()

    def pieces(self, sentences: Int[np.ndarray, " some"]) -> list[Int[np.ndarray, " pieces"]]:
        """Return the word pieces of sentences, without special tokens."""
        tokens, offsets = (map_array(self.path, name) for name in ("tokens", "offsets"))
        found, lengths = gather(tokens, offsets, sentences)
        return np.split(found, np.cumsum(lengths))[:-1]

    def lengths(self) -> Int[np.ndarray, " sentences"]:
        """Return how many word pieces each sentence has."""
        return np.diff(map_array(self.path, "offsets"))


def shape_of(task: Task) -> dict[str, Any]:
    """Return, as JSON holds it, what of a task shapes a store."""
    scores = None if task.scores is None else list(task.scores)
    return {"texts": list(task.texts), "label": task.label, "classes": task.classes, "scores": scores}


def table_name(task: int, split: str) -> str:
    """Return how the table of a task's rows is called; names of tasks may not suit files."""
    return f"task-{task}-{split}"
