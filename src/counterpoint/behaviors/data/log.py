"""A log that was read and checked: its rows on disk, behaviour by behaviour."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from counterpoint.behaviors.data.formats import OUTSIDE, SYNONYMS
from counterpoint.behaviors.data.layout import Source
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.errors import UsageError, nearest
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows

_WHOLE = r"^(?:0|[1-9]\d{0,17})$"


@dataclass
class Log:
    """The rows of a log that belong to tasks.

    Attributes:
        files: of each behaviour, Parquet with user, item and perhaps time.
        rows: how many each behaviour has.
        timed: whether rows have times.
        kinds: the type of the ids of users and of items: whole numbers if all of them are.
    """

    files: dict[str, list[Path]]
    rows: Counter[str] = field(default_factory=Counter)
    timed: bool = False
    kinds: dict[str, pl.DataType] = field(default_factory=lambda: {"user": pl.Int64(), "item": pl.Int64()})

    def scan(self, behaviour: str) -> pl.LazyFrame:
        """Return the rows of a behaviour: user, item, and time where it is known."""
        typed = [pl.col(column).cast(kind) for column, kind in self.kinds.items()]
        return pl.scan_parquet(self.files[behaviour], glob=False).with_columns(typed)

    def ids(self, values: pl.Series) -> pl.Series:
        """Return ids that stand elsewhere in the type of this log's, null where they cannot be."""
        kind = self.kinds[values.name]
        if kind == pl.Int64 and values.dtype == pl.String:
            values = values.set(~values.str.contains(_WHOLE), None)
        return values.cast(kind)


def read_log(
    source: Source,
    recipe: BehaviorsRecipe,
    folder: Path,
    bad: BadRows,
    counts: Counter[str],
    progress: Progress,
) -> Log:
    """Read the log once, block by block, into ``folder``: the rows of the recipe's tasks.

    Raises:
        BadRowError: a malformed row.
        UsageError: the log has no rows, has a behaviour that is neither a task nor ignored, or lacks a
            task's.
    """
    tasks = recipe.tasks
    log = Log({task: [] for task in tasks})
    order = _TimeOrder()
    others: Counter[str] = Counter()
    for number, block in enumerate(source.format.rows(source.log, bad, counts, progress)):
        counts["rows read"] += len(block)
        if "time" in block.columns:
            log.timed = True
            order.add(block)
        for (behaviour,), rows in block.partition_by("behaviour", as_dict=True).items():
            if behaviour not in log.files:
                others[behaviour] += len(rows)
                continue
            for column in ("user", "item"):
                if log.kinds[column] == pl.Int64 and not _all_whole(rows[column]):
                    log.kinds[column] = pl.String()
            file = folder / f"{tasks.index(behaviour)}-{number}.parquet"
            rows.drop("behaviour").write_parquet(file, compression="lz4")
            log.files[behaviour].append(file)
            log.rows[behaviour] += len(rows)
    counts["rows read"] += counts[OUTSIDE] + bad.count
    counts["rows of ignored behaviours"] = sum(others.values())
    counts["rows out of time order"] = order.count
    _refuse_strangers(source, others, tasks, recipe.data.ignore)
    _refuse_empty_tasks(source, log, tasks, counts["rows read"])
    return log


class _TimeOrder:
    """Counts rows that are earlier than the row before them of the same user."""

    def __init__(self) -> None:
        self.count = 0
        self._last: pl.DataFrame | None = None

    def add(self, block: pl.DataFrame) -> None:
        times = block.select("user", "time")
        if self._last is not None:
            times = pl.concat([self._last.join(times, on="user", how="semi"), times])
        times = times.sort("user", maintain_order=True)
        same = pl.col("user") == pl.col("user").shift()
        self.count += times.select((same & (pl.col("time") < pl.col("time").shift())).sum()).item()
        last = times.filter((pl.col("user") != pl.col("user").shift(-1)).fill_null(True))
        if self._last is not None:
            last = pl.concat([self._last.join(last, on="user", how="anti"), last])
        self._last = last


def _all_whole(values: pl.Series) -> bool:
    """Return whether all ids are whole numbers, written in the only way there is."""
    return values.dtype != pl.String or bool(values.str.contains(_WHOLE).all())


def _refuse_strangers(
    source: Source, others: Counter[str], tasks: Sequence[str], ignore: Sequence[str]
) -> None:
    """Refuse a log with a behaviour that the recipe does not speak of."""
    ignored = {SYNONYMS.get(name, name) for name in ignore}
    strangers = {name: rows for name, rows in others.items() if name not in ignored}
    if strangers:
        name, rows = max(strangers.items(), key=lambda entry: (entry[1], entry[0]))
        more = f" and {len(strangers) - 1} more behaviours" if len(strangers) > 1 else ""
        raise UsageError(
            f"{source.log}: {rows:,} rows of {name[:40]!r}{more}, neither a task of the recipe nor in "
            f"data.ignore{nearest(name, tasks)}; add {name[:40]!r} to tasks or to data.ignore."
        )


def _refuse_empty_tasks(source: Source, log: Log, tasks: Sequence[str], read: int) -> None:
    """Refuse a log that lacks a task's behaviour; without its target a recipe would become another."""
    filled = [task for task in tasks if log.rows[task]]
    empty = [task for task in tasks if task not in filled]
    if not empty:
        return
    has, first = ", ".join(filled), empty[0]
    if not read:
        said = "the log has no rows; bring one that has some"
    elif not filled:
        said = f"none of {read:,} rows is of a task of the recipe; bring a log of {first}, or set tasks anew"
    elif first == tasks[0]:
        said = (
            f"not a single row of {first!r}, the target; it has {has}: put another behaviour first in tasks, "
            "or bring a log that has it"
        )
    else:
        said = (
            f"not a single row of {first!r}, a task of the recipe; it has {has}: leave {first!r} out of "
            "tasks or bring a log that has it"
        )
    raise UsageError(f"{source.log}: {said}.")
