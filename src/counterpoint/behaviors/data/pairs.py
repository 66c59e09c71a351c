"""The distinct pairs of a log, of the users and items that are frequent enough, without holding its rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from counterpoint.behaviors.data.log import Log
from counterpoint.behaviors.recipe import Data
from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress, silent

Keys = Int[np.ndarray, " pairs"]
"""Pairs as numbers, ascending and each once; whatever the numbering, it ascends by user, then by item."""

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
    log: Log,
    tasks: Sequence[str],
    settings: Data | None,
    counts: Counter[str],
    file: Path,
    progress: Progress = silent,
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
        progress: told how many of the behaviours are done.

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
    for number, task in enumerate(tasks):
        progress("finding distinct pairs", number, len(tasks))
        found = _keys(log, task, users, items, timed=log.timed and task == tasks[0])
        keys[task] = found["key"].to_numpy()
        if "time" in found.columns:
            times = found["time"].to_numpy()
        kept = int(found["rows"].sum())
        counts["rows dropped by the filter"] += log.rows[task] - kept
        counts["repeats merged"] += kept - len(found)
        counts[f"pairs of {task}"] = len(found)
    progress("finding distinct pairs", len(tasks), len(tasks))
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


def frequent(
    users: Int[np.ndarray, " pairs"], items: Int[np.ndarray, " pairs"], settings: Data, log: Path
) -> tuple[Bool[np.ndarray, " users"], Bool[np.ndarray, " items"]]:
    """Return which users and which items stay.

    First users with ``least_bought`` items or more, then, among their pairs, items with ``least_buyers``
    users or more: once (paper 4, appendix A.2, which leaves some users with fewer items), or in turns until
    nobody goes any more.

    Args:
        users: of the target's pairs, numbered from 0 without gaps.
        items: of the same pairs, each pair once.
        settings: of the recipe.
        log: the file, for messages.

    Raises:
        CounterpointError: nothing stays.
    """
    how_many_users, how_many_items = int(users.max()) + 1, int(items.max()) + 1
    stays = np.ones(len(users), dtype=bool)
    first_turn: tuple[int, int, int] | None = None
    while True:
        bought = np.bincount(users[stays], minlength=how_many_users)
        users_stay = bought >= settings.least_bought
        stays &= users_stay[users]
        before = int(stays.sum())
        buyers = np.bincount(items[stays], minlength=how_many_items)
        items_stay = buyers >= settings.least_buyers
        stays &= items_stay[items]
        if first_turn is None:
            first_turn = int(users_stay.sum()), int(bought.max()), int(buyers.max())
        if not stays.any():
            raise CounterpointError(f"{log}: {_nothing_stays(settings, *first_turn)}.")
        if settings.filter == "once" or int(stays.sum()) == before:
            return users_stay, items_stay


def _nothing_stays(settings: Data, users: int, most_bought: int, most_buyers: int) -> str:
    """Return the clause that says which threshold was too high, from what the first turn found."""
    if not users:
        return (
            f"no user has {settings.least_bought} items or more (the most is {most_bought}); lower "
            "data.least_bought"
        )
    left = f"data.least_bought = {settings.least_bought} leaves {users} user{'s' * (users != 1)}, and"
    if most_buyers < settings.least_buyers:
        return (
            f"{left} no item has {settings.least_buyers} of them (the most is {most_buyers}); lower "
            "data.least_buyers or data.least_bought"
        )
    return (
        f"{left} with data.least_buyers = {settings.least_buyers} nobody stays when users and items go in "
        'turns; lower one of the two, or set data.filter = "once"'
    )


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
