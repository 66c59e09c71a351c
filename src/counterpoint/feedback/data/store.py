"""The prepared store: a log of views on disk, split and numbered, memory-mapped."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int, Shaped, UInt8

from counterpoint.errors import CounterpointError
from counterpoint.feedback.data.fitted import Fitted
from counterpoint.feedback.data.schema import Schema
from counterpoint.feedback.data.splits import SPLITS
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.storage.prepared import (
    map_array,
    read_manifest,
    read_table,
    refuse_missing_task,
    refuse_other_settings,
    refuse_unknown_split,
)

FORMAT = 1
FITTED = "fitted"


@dataclass(frozen=True)
class Rows:
    """The rows of one split, in the log's order; arrays are mapped, not loaded.

    Attributes:
        ids: rows of the ids in the vocabularies of their columns.
        numbers: standardised.
        lists: of each list column, its ids and where each row's begin; one more offset at the end.
        labels: 1 or 0.
        users: the number of each row's user; of the row itself where the log has no users.
        items: the number of each row's item, or none.
        truth: the labels' true probabilities, in simulated data.
    """

    ids: Int[np.ndarray, "rows ids"]
    numbers: Float[np.ndarray, "rows numbers"]
    lists: tuple[tuple[Int[np.ndarray, " values"], Int[np.ndarray, " rows+1"]], ...]
    labels: UInt8[np.ndarray, "rows labels"]
    users: Int[np.ndarray, " rows"]
    items: Int[np.ndarray, " rows"] | None
    truth: Float[np.ndarray, "rows labels"] | None

    def __len__(self) -> int:
        return len(self.labels)


class Store:
    """A prepared store, opened for reading.

    Args:
        path: its folder.

    Attributes:
        path: its folder.
        manifest: what preparation wrote about it.
        schema: its columns and labels.

    Raises:
        CounterpointError: it is no store, or one of another workload or version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path, "feedback", FORMAT)
        self.schema = Schema.from_dict(self.manifest["schema"])
        self._opened: dict[str, Rows] = {}

    def require(self, recipe: FeedbackRecipe) -> None:
        """Refuse a recipe for which the store was not prepared.

        Raises:
            CounterpointError: a task, a label rule, a column or a setting differs.
        """
        for task in recipe.tasks:
            refuse_missing_task(self.path, task, self.schema.labels, "the labels ")
        made_with = {
            "labels": self.manifest["labels"],
            **{f"columns.{role}": value for role, value in self.manifest["columns"].items()},
            **{f"data.{name}": value for name, value in self.manifest["settings"].items()},
        }
        columns = {
            f"columns.{role}": value if isinstance(value, str) else list(value)
            for role, value in recipe.columns.model_dump(exclude_none=True).items()
        }
        asked = {
            **({"labels": recipe.labels} if recipe.labels else {}),
            **columns,
            **{f"data.{name}": value for name, value in recipe.data.model_dump().items()},
        }
        # A column that is not named may be None or empty; both say the same.
        told = {key: value for key, value in asked.items() if value or made_with.get(key)}
        refuse_other_settings(self.path, made_with, told)

    @property
    def counts(self) -> dict[str, int]:
        """What preparation counted."""
        counts: dict[str, int] = self.manifest["counts"]
        return counts

    @property
    def unit(self) -> str:
        """What metrics are averaged over: users, or rows where the log has no users."""
        return "users" if self.manifest["columns"]["user"] else "rows"

    def tasks(self, recipe: FeedbackRecipe) -> tuple[str, ...]:
        """Return the labels that a recipe learns."""
        return recipe.tasks or self.schema.labels

    def positions(self, tasks: tuple[str, ...]) -> list[int]:
        """Return the places of some labels among all."""
        return [self.schema.labels.index(task) for task in tasks]

    @cached_property
    def users(self) -> pl.Series:
        """The id of each user, by number."""
        return read_table(self.path, "users", ["user"])["user"]

    @cached_property
    def items(self) -> pl.Series:
        """The id of each item, by number."""
        return read_table(self.path, "items", ["item"])["item"]

    @property
    def fitted_folder(self) -> Path:
        """Where that stands which was fitted on the training rows."""
        return self.path / FITTED

    @cached_property
    def fitted(self) -> Fitted:
        """What training rows told: the vocabulary of each column, and the scales of numbers."""
        return Fitted.load(self.fitted_folder)

    def rows(self, split: str) -> Rows:
        """Return the rows of a split.

        Raises:
            UsageError: there is no such split.
            CounterpointError: an array is missing or cut short, or an id lies beyond its vocabulary.
        """
        refuse_unknown_split(split, SPLITS)
        if split not in self._opened:
            self._opened[split] = self._open(split)
        return self._opened[split]

    def _open(self, split: str) -> Rows:
        def array(name: str) -> Shaped[np.ndarray, " *shape"]:
            return map_array(self.path, f"{split}_{name}")

        lists = [
            (array(f"list{place}"), array(f"list{place}_offsets")) for place in range(len(self.schema.lists))
        ]
        rows = Rows(
            array("ids"),
            array("numbers"),
            tuple(lists),
            array("labels"),
            array("users"),
            array("items") if self.manifest["columns"]["item"] else None,
            array("truth") if self.manifest["truth"] else None,
        )
        for place, column in enumerate(self.schema.ids):
            self._refuse_beyond(split, column.name, rows.ids[:, place], column.size)
        for (values, _), column in zip(rows.lists, self.schema.lists, strict=True):
            self._refuse_beyond(split, column.name, values, column.size)
        return rows

    def _refuse_beyond(self, split: str, name: str, ids: Int[np.ndarray, " values"], size: int) -> None:
        """Refuse ids that no row of a table belongs to."""
        if len(ids) and (int(ids.max()) >= size or int(ids.min()) < 0):
            place = int(np.flatnonzero((ids >= size) | (ids < 0))[0])
            raise CounterpointError(
                f"{self.path}, split {split}, row {place + 1}, field {name!r}: the id {int(ids[place])} lies "
                f"beyond the vocabulary, which has rows 0 to {size - 1}; prepare the data again."
            )
