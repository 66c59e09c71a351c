"""The prepared store: a log of behaviours on disk, split and numbered, memory-mapped."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.errors import CounterpointError, UsageError, nearest
from counterpoint.storage.prepared import (
    map_array,
    read_manifest,
    read_table,
    refuse_missing_task,
    refuse_other_settings,
    refuse_unknown_split,
)

FORMAT = 1
SPLITS = ("train", "validation", "test")

RivalLists = dict[str, Int[np.ndarray, "scored depth"]]
"""The first items of each scored user, by the name of what ranked them."""


@dataclass(frozen=True)
class Interactions:
    """Pairs of one behaviour in one split: a CSR matrix without values.

    Attributes:
        offsets: where each user's items begin; one more at the end.
        items: rows of items, ascending within each user, each once.
    """

    offsets: Int[np.ndarray, " users+1"]
    items: Int[np.ndarray, " pairs"]

    @classmethod
    def of_pairs(
        cls, users: Int[np.ndarray, " pairs"], items: Int[np.ndarray, " pairs"], how_many_users: int
    ) -> Self:
        """Return pairs that come in any order, those that repeat as one."""
        width = int(items.max(initial=-1)) + 1
        keys = users.astype(np.int64) * width + items
        if (keys[1:] <= keys[:-1]).any():
            keys = np.unique(keys)
        owners, items = np.divmod(keys, max(width, 1))
        offsets = np.zeros(how_many_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(owners, minlength=how_many_users), out=offsets[1:])
        return cls(offsets, items.astype(np.int32))

    @classmethod
    def union(cls, several: Sequence["Interactions"]) -> Self:
        """Return the pairs that are in any of ``several`` over the same users."""
        users = np.concatenate([one.users() for one in several])
        items = np.concatenate([one.items for one in several])
        return cls.of_pairs(users, items, len(several[0].offsets) - 1)

    def without(self, others: "Interactions") -> Self:
        """Return the pairs that are not among the ``others``, which are over the same users."""
        width = 1 + max(int(pairs.items.max(initial=-1)) for pairs in (self, others))
        own, theirs = (pairs.users().astype(np.int64) * width + pairs.items for pairs in (self, others))
        kept = np.isin(own, theirs, invert=True)
        return self.of_pairs(self.users()[kept], self.items[kept], len(self.offsets) - 1)

    def users(self) -> Int[np.ndarray, " pairs"]:
        """Return the user of each pair."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int32), self.counts())

    def counts(self) -> Int[np.ndarray, " users"]:
        """Return how many items each user has."""
        return np.diff(self.offsets)

    def of(self, user: int) -> Int[np.ndarray, " items"]:
        """Return the items of one user."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def __len__(self) -> int:
        return len(self.items)


class Store:
    """A prepared store, opened for reading; arrays are mapped, not loaded.

    Users and items have rows from 0, ascending by id: those with a training pair of any behaviour.

    Args:
        path: its folder.

    Attributes:
        path: its folder.
        manifest: what preparation did and counted.
        target: the behaviour that is predicted for its own sake.
        behaviours: the target, then the auxiliary ones.
        user_count: rows of users.
        item_count: rows of items.
        rival_lists: what an evaluation ranks without a model, by what it depends on: only the last one's, for
            the next model that is evaluated on this store.

    Raises:
        CounterpointError: it is no store, or one of another workload or version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path, "behaviors", FORMAT)
        self.target: str = self.manifest["target"]
        self.behaviours: tuple[str, ...] = tuple(self.manifest["behaviours"])
        self.user_count: int = self.manifest["rows"]["users"]
        self.item_count: int = self.manifest["rows"]["items"]
        self.rival_lists: dict[Hashable, RivalLists] = {}
        self._opened: dict[tuple[str, str], Interactions] = {}

    def require(self, recipe: BehaviorsRecipe) -> None:
        """Refuse a recipe that the store was not made for."""
        if recipe.target != self.target:
            raise CounterpointError(
                f"{self.path}: prepared for the target {self.target!r}, the recipe's is {recipe.target!r}; "
                "prepare the data again or put the other first in tasks."
            )
        for task in recipe.tasks:
            refuse_missing_task(self.path, task, self.behaviours)
        settings = self.manifest["settings"]
        refuse_other_settings(
            self.path,
            {f"data.{name}": made_with for name, made_with in settings.items()},
            {f"data.{name}": getattr(recipe.data, name) for name in settings},
        )

    @property
    def counts(self) -> dict[str, int]:
        """What preparation counted."""
        counts: dict[str, int] = self.manifest["counts"]
        return counts

    @cached_property
    def user_ids(self) -> pl.Series:
        """The id of each row of users, as in the data."""
        return read_table(self.path, "users", ["user"])["user"]

    @cached_property
    def item_ids(self) -> pl.Series:
        """The id of each row of items, as in the data."""
        return read_table(self.path, "items", ["item"])["item"]

    @cached_property
    def user_rows(self) -> Mapping[str, int]:
        """The row of each user's id, written as text."""
        return _rows(self.user_ids)

    @cached_property
    def item_rows(self) -> Mapping[str, int]:
        """The row of each item's id, written as text."""
        return _rows(self.item_ids)

    def interactions(self, split: str, behaviour: str) -> Interactions:
        """Return the pairs of a behaviour: any that the store has in training, the target elsewhere.

        Raises:
            UsageError: there is no such split, or no such behaviour in it.
            CounterpointError: an array is missing or cut short.
        """
        refuse_unknown_split(split, SPLITS)
        held = self.behaviours if split == "train" else (self.target,)
        if behaviour not in held:
            raise UsageError(
                f"{self.path}: the {split} split has no pairs of {behaviour!r}"
                f"{nearest(behaviour, held)}, only of {', '.join(held)}."
            )
        if (split, behaviour) not in self._opened:
            stem = array_stem(split, self.behaviours.index(behaviour))
            self._opened[split, behaviour] = Interactions(
                map_array(self.path, f"{stem}_offsets"), map_array(self.path, f"{stem}_items")
            )
        return self._opened[split, behaviour]


def array_stem(split: str, behaviour: int) -> str:
    """Return how the arrays of a split and a behaviour begin; names of behaviours may not suit files."""
    return f"{split}_{behaviour}"


def _rows(ids: pl.Series) -> dict[str, int]:
    return {name: row for row, name in enumerate(ids.cast(pl.String).to_list())}
