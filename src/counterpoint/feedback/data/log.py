"""A raw log, read once, checked and typed: its rows on disk in parts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from counterpoint.errors import CounterpointError
from counterpoint.feedback.data.checks import typed
from counterpoint.feedback.data.formats import Format, Joined
from counterpoint.feedback.data.formats.table import JSON
from counterpoint.feedback.data.layout import Source
from counterpoint.feedback.data.plan import Plan, columns_of, separator_of
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, parquet_blocks
from counterpoint.storage.text_tables import csv_blocks, json_blocks

_PARQUET_ROWS = 1 << 18  # read at once


@dataclass(frozen=True)
class Part:
    """Some rows of the log.

    Attributes:
        path: Parquet with a column for each role, named by `counterpoint.feedback.data.checks`.
        rows: how many.
        split: that the data puts them in; none where the recipe decides.
    """

    path: Path
    rows: int
    split: str | None

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Return some of the columns."""
        return pl.read_parquet(self.path, columns=list(columns), glob=False)


def read_log(
    source: Source, plan: Plan, folder: Path, bad: BadRows, counts: Counter[str], progress: Progress
) -> list[Part]:
    """Read the log once, block by block, into ``folder``.

    Raises:
        BadRowError: a malformed row.
        CounterpointError: a file is missing, empty or broken, or the log has no rows.
    """
    reading = _Reading(source.format, plan, bad, counts, progress)
    parts: list[Part] = []
    given = bool(source.test)
    files = [("train" if given else None, file) for file in source.log]
    files += [("validation", file) for file in source.validation] + [("test", file) for file in source.test]
    features = [_features(file, each, reading) for each, file in source.joined]
    for split, file in files:
        for block in _blocks(file, features, reading):
            counts["rows read"] += len(block)
            path = folder / f"{len(parts):06d}.parquet"
            block.write_parquet(path, compression="lz4")
            parts.append(Part(path, len(block), split))
    counts["rows read"] += bad.count
    if not any(part.rows for part in parts):
        raise CounterpointError(f"{source.log[0]}: the log has no rows; put some there.")
    return parts


@dataclass(frozen=True)
class _Reading:
    """What all files of a log are read by, and what is noted on the way.

    Attributes:
        form: the log's form.
        plan: which columns are read, in which roles.
        bad: what becomes of malformed rows.
        counts: added to.
        progress: told how far the reading is.
        kinds: by list column, whether its ids are whole numbers, as far as is known; filled in.
    """

    form: Format
    plan: Plan
    bad: BadRows
    counts: Counter[str]
    progress: Progress
    kinds: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class _Features:
    """A table to be joined, in memory: one row for each value of the key."""

    file: Path
    key: str
    table: pl.DataFrame


def _features(file: Path, joined: Joined, reading: _Reading) -> _Features:
    """Read the columns of a table that the plan takes."""
    columns = list(columns_of(file, reading.form))
    wanted = [joined.key, *(name for name in columns if name in reading.plan.columns and name != joined.key)]
    separator = separator_of(file, reading.form)
    blocks = csv_blocks(
        file, columns, wanted, reading.bad, reading.progress, header=True, separator=separator
    )
    table = pl.concat([block.select(wanted) for block in blocks])
    twice = table.filter(pl.col(joined.key).is_duplicated())
    if len(twice):
        raise CounterpointError(
            f"{file}: {joined.key} {twice[joined.key][0]!r} stands there twice; keep one row for each."
        )
    return _Features(file, joined.key, table)


def _blocks(file: Path, joined: Sequence[_Features], reading: _Reading) -> Iterator[pl.DataFrame]:
    """Yield the sound rows of one file, by role."""
    form, plan = reading.form, reading.plan
    columns = list(columns_of(file, form))
    derived = {name: made for name, made in form.derived.items() if name in plan.columns}
    needed = {*plan.columns, *(made_of for made_of, _ in derived.values()), *(each.key for each in joined)}
    wanted = [name for name in columns if name in needed]
    for block in _raw(file, columns, wanted, reading):
        for each in joined:
            extra = [name for name in each.table.columns if name not in block.columns or name == each.key]
            known = block[each.key].cast(pl.String).is_in(each.table[each.key].implode())
            reading.counts[f"rows without {each.file.name}"] += int((~known).sum())
            keyed = block.with_columns(pl.col(each.key).cast(pl.String))
            block = keyed.join(each.table.select(extra), on=each.key, how="left", maintain_order="left")
        block = block.with_columns(made.alias(name) for name, (_, made) in derived.items())
        yield typed(block, plan, form.list_separator, reading.kinds, reading.bad, file)


def _raw(
    file: Path, columns: Sequence[str], wanted: Sequence[str], reading: _Reading
) -> Iterator[pl.DataFrame]:
    """Yield the wanted columns with the numbers of the lines, and their text where there is one."""
    form, lists, bad, progress = reading.form, reading.plan.chosen.lists, reading.bad, reading.progress
    if file.suffix == ".parquet":
        for first, block in parquet_blocks(file, _PARQUET_ROWS, progress, wanted):
            yield block.with_row_index("line", first).with_columns(pl.col("line").cast(pl.Int64))
    elif file.suffix in JSON:
        single = [name for name in wanted if name not in lists]
        several = [name for name in wanted if name in lists]
        yield from json_blocks(file, single, bad, progress, fractions=True, lists=several)
    elif form.read is not None:
        yield from form.read(file, form.partner_of(file), wanted, lists, bad, progress)
    else:
        header, separator = form.header is None, separator_of(file, form)
        yield from csv_blocks(
            file, columns, wanted, bad, progress, header=header, separator=separator, quotes=header
        )
