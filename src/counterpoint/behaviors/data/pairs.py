"""The distinct pairs of a log, counted without holding its rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.behaviors.data.filters import frequent
from counterpoint.behaviors.data.log import Log
from counterpoint.behaviors.data.splits import Keys
from counterpoint.behaviors.recipe import Data
from counterpoint.errors import CounterpointError

UNTRAINED = "pairs of users or items without training pairs"
"""The count of held-out pairs that are dropped, after the name of their split."""


@dataclass(frozen=True)
class Pairs:
    """Each pair of a log once, as the number user · items + item.

    Attributes:
        users: the ids behind the numbers of users, ascending.
        items: the ids behind the numbers of items, ascending.
        keys: of each behaviour, the target first.
        times: when each target pair first occurred, where that is known.
    """

    users: pl.Series
    items: pl.Series
    keys: dict[str, Keys]
    times: Int[np.ndarray, " pairs"] | None

    def users_of(self, keys: Keys) -> Int[np.ndarray, " pairs"]:
        """Return the number of each pair's user."""
        return keys // len(self.items)

    def items_of(self, keys: Keys) -> Int[np.ndarray, " pairs"]:
        """Return the number of each pair's item."""
        return keys % len(self.items)


def distinct_pairs(
    log: Log, tasks: Sequence[str], settings: Data | None, counts: Counter[str], file: Path
) -> Pairs:
    """Return each pair once; counts the rows that the filter drops and those that repeat a pair.

    Only the target's pairs are held to filter them; the rows of the other behaviours are streamed past the
    users and items that stay.

    Args:
        log: the rows.
        tasks: the target first.
        settings: of the filter; None leaves all in.
        counts: takes what is dropped.
        file: the log, for messages.

    Raises:
        CounterpointError: the log is of one user, or nothing passes the filter.
    """
    users, items = _everybody(log, tasks) if settings is None else _frequent(log, tasks[0], settings, file)
    if len(users) == 1:
        raise CounterpointError(
            f"{file}: only one user is left, {users.item()!r}; a ranking is learned from several, so bring "
            "more or lower data.least_bought."
        )
    keys: dict[str, Keys] = {}
    times = None
    for task in tasks:
        found = _keys(log, task, users, items, timed=log.timed and task == tasks[0])
        keys[task] = found["key"].to_numpy()
        if "time" in found.columns:
            times = found["time"].to_numpy()
        kept = int(found["rows"].sum())
        counts["rows dropped by the filter"] += log.rows[task] - kept
        counts["repeats merged"] += kept - len(found)
        counts[f"pairs of {task}"] = len(found)
    return Pairs(users, items, keys, times)


def held_out_keys(
    blocks: Sequence[pl.DataFrame], split: str, log: Log, pairs: Pairs, counts: Counter[str]
) -> Keys:
    """Return the keys of held-out pairs; counts the repeats and those with ids that the log lacks."""
    rows = pl.concat(blocks)
    distinct = rows.unique()
    ids = distinct.select(log.ids(distinct["user"]), log.ids(distinct["item"]))
    known = _numbered(ids.lazy(), pairs.users, pairs.items).collect()["key"].sort()
    counts[f"{split} rows read"] += len(rows)
    counts[f"{split} repeats merged"] += len(rows) - len(distinct)
    counts[f"{split} {UNTRAINED}"] += len(distinct) - len(known)
    return known.to_numpy()


def _everybody(log: Log, tasks: Sequence[str]) -> tuple[pl.Series, pl.Series]:
    """Return all ids of the log."""
    users, items = (
        pl.concat([log.scan(task).select(column).unique() for task in tasks])
        .unique()
        .collect(engine="streaming")[column]
        .sort()
        for column in ("user", "item")
    )
    return users, items


def _frequent(log: Log, target: str, settings: Data, file: Path) -> tuple[pl.Series, pl.Series]:
    """Return the ids that pass the filter, from the distinct pairs of the target alone."""
    bought = log.scan(target).select("user", "item").unique().collect(engine="streaming")
    users, items = bought["user"].unique().sort(), bought["item"].unique().sort()
    if len(users) == 1:
        raise CounterpointError(
            f"{file}: all {target} rows are of one user, {users.item()!r}; a ranking is learned from "
            "several, so bring more."
        )
    coded = _numbered(bought.lazy(), users, items).select("user_number", "item_number").collect()
    users_stay, items_stay = frequent(
        coded["user_number"].to_numpy(), coded["item_number"].to_numpy(), settings, file
    )
    return users.filter(pl.Series(users_stay)), items.filter(pl.Series(items_stay))


def _keys(log: Log, task: str, users: pl.Series, items: pl.Series, *, timed: bool) -> pl.DataFrame:
    """Return the key, the rows and perhaps the first time of each pair, in ascending order."""
    aggregates = [pl.len().alias("rows"), *([pl.col("time").min()] if timed else [])]
    rows = _numbered(log.scan(task), users, items)
    return rows.group_by("key").agg(aggregates).collect(engine="streaming").sort("key")


def _numbered(rows: pl.LazyFrame, users: pl.Series, items: pl.Series) -> pl.LazyFrame:
    """Return the rows whose user and item are known, with their numbers and the key of the pair."""
    for column, ids in (("user", users), ("item", items)):
        numbers = pl.LazyFrame({column: ids, f"{column}_number": pl.int_range(len(ids), eager=True)})
        rows = rows.join(numbers, on=column, how="inner")
    return rows.with_columns(key=pl.col("user_number") * len(items) + pl.col("item_number"))
