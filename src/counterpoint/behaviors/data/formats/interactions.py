"""One's own log, or a log in the form of a table: CSV, JSON lines or Parquet.

Columns: user, item (whole numbers or text), behaviour (or behavior) and, if known, time (whole numbers, or
ISO 8601). Other columns are ignored. Files that begin with ``train`` or ``interactions`` are the log; the
pairs (user, item) in files that begin with ``test`` and ``validation`` are held out as they are.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from counterpoint.behaviors.data.formats import SYNONYMS, Format, others_than
from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, Check, drop_bad, parquet_blocks, parquet_schema
from counterpoint.storage.text_tables import csv_blocks, csv_header, json_blocks, json_columns, said

SUFFIXES = (".parquet", ".csv", ".jsonl")

PARQUET_ROWS = 1_000_000
"""Rows of a Parquet file that are read at once."""

_Blocks = Iterator[pl.DataFrame]

_NEGATIVE = r"^-(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_POINTED = r"^\d+\.0*$"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _read_rows(file: Path, bad: BadRows, counts: Counter[str], progress: Progress) -> _Blocks:
    """Yield the rows."""
    clock = _Clock(file)
    for block in _blocks(file, ("user", "item", "behaviour"), ("time",), bad, progress):
        checks = [*_ids(block), _filled("behaviour")]
        timed = "time" in block.columns
        if timed:
            block = block.with_columns(_moment=clock.read(block["time"]))
            problem = said("time", "no time")
            remedy = "write a whole number or 2026-03-01T08:15:00"
            checks.append(Check("time", pl.col("_moment").is_null(), problem, remedy))
        sound = drop_bad(block, checks, bad, file)
        clock.refuse_two_kinds()
        times = [pl.col("_moment").alias("time")] if timed else []
        yield sound.select("user", "item", pl.col("behaviour").replace(SYNONYMS), *times)


def _read_pairs(
    file: Path, split: str, target: str, bad: BadRows, counts: Counter[str], progress: Progress
) -> _Blocks:
    """Yield the pairs, user and item, that a split's file holds out.

    Where the file has a column of behaviours, rows of others than ``target`` are counted and dropped.
    """
    for block in _blocks(file, ("user", "item"), ("behaviour",), bad, progress):
        checks = _ids(block)
        if "behaviour" in block.columns:
            checks.append(_filled("behaviour"))
        sound = drop_bad(block, checks, bad, file)
        if "behaviour" in block.columns:
            chosen = sound.filter(pl.col("behaviour").replace(SYNONYMS) == target)
            counts[f"{split} {others_than(target)}"] += len(sound) - len(chosen)
            sound = chosen
        yield sound.select("user", "item")


class _Clock:
    """Reads the times of one file and takes care that they are all of one kind."""

    def __init__(self, file: Path) -> None:
        self._file, self._kinds = file, set[str]()

    def read(self, values: pl.Series) -> pl.Series:
        """Return each time as a number, microseconds since 1970 for ISO 8601, null where it is no time."""
        if values.dtype.is_temporal():
            self._kinds.add("ISO 8601")
            return values.cast(pl.Datetime("us")).cast(pl.Int64)
        numbers = values.cast(pl.Int64, strict=False)
        if numbers.count():
            self._kinds.add("whole numbers")
        if values.dtype != pl.String or not numbers.null_count():
            return numbers
        texts = values.filter(numbers.is_null()).drop_nulls().unique()
        moments = {text: moment for text in texts if (moment := _microseconds(text)) is not None}
        if not moments:
            return numbers
        self._kinds.add("ISO 8601")
        read = values.replace_strict(moments, default=None, return_dtype=pl.Int64)
        return pl.select(pl.coalesce(numbers, read)).to_series()

    def refuse_two_kinds(self) -> None:
        """Raise if numbers and ISO 8601 stand in one file: which is earlier, nobody knows."""
        if len(self._kinds) > 1:
            raise CounterpointError(
                f"{self._file}: the times are {' and '.join(sorted(self._kinds))}; write all of one kind."
            )


def _microseconds(text: str) -> int | None:
    """Return a moment in microseconds since 1970, in UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _ids(block: pl.DataFrame) -> list[Check]:
    """Refuse ids that are missing, below 0, or whole numbers that were written as others (1.0)."""
    checks = []
    for field in ("user", "item"):
        name, is_text = pl.col(field), not block.schema[field].is_integer()
        wrong = (name == "") | name.str.contains(_NEGATIVE) if is_text else name.is_null() | (name < 0)
        remedy = "give every row an id, text or a number from 0 on"
        checks.append(Check(field, wrong, said(field, "below 0"), remedy))
        if is_text:
            problem = said(field, "written with a decimal point")
            checks.append(Check(field, name.str.contains(_POINTED), problem, "write ids as whole numbers"))
    return checks


def _filled(field: str) -> Check:
    """Refuse a text that is missing."""
    return Check(field, pl.col(field) == "", said(field, "empty"), "fill it in or remove the row")


def _blocks(
    file: Path, needed: Sequence[str], optional: Sequence[str], bad: BadRows, progress: Progress
) -> _Blocks:
    """Yield the rows of a file in blocks: ``line`` and its needed and optional columns.

    Raises:
        CounterpointError: a needed column is missing, there twice, or of no fitting type.
    """
    columns, read = _READERS[file.suffix]
    known = columns(file)
    chosen: dict[str, str] = {}
    for column in (*needed, *optional):
        spellings = ("behaviour", "behavior") if column == "behaviour" else (column,)
        found = [name for name in known if name in spellings]
        if len(found) > 1 or (not found and column in needed):
            raise CounterpointError(
                f"{file}: {len(found) or 'no'} columns are called {' or '.join(spellings)} (there are "
                f"{', '.join(known) or 'none'}); name {', '.join(needed)} once each."
            )
        if found:
            chosen[column] = found[0]
    for block in read(file, list(chosen.values()), bad, progress):
        yield block.rename({theirs: ours for ours, theirs in chosen.items()}).with_columns(
            pl.col(column).str.strip_chars() for column in chosen if block[chosen[column]].dtype == pl.String
        )


def _csv(file: Path, columns: Sequence[str], bad: BadRows, progress: Progress) -> _Blocks:
    return csv_blocks(file, csv_header(file), columns, bad, progress, header=True)


def _parquet_columns(file: Path) -> list[str]:
    return parquet_schema(file).names()


def _parquet(file: Path, columns: Sequence[str], bad: BadRows, progress: Progress) -> _Blocks:
    """Yield numbers as Int64 and texts, of whatever encoding, as String; times as they are."""
    for first, rows in parquet_blocks(file, PARQUET_ROWS, progress, columns):
        block = rows.with_row_index("line", first)
        for column in columns:
            kind = block.schema[column]
            if kind.is_integer():
                cast = pl.col(column).cast(pl.Int64, strict=False)
            elif kind in (pl.String, pl.Categorical, pl.Enum):
                cast = pl.col(column).cast(pl.String)
            elif column == "time" and kind in (pl.Date, pl.Datetime):
                continue
            else:
                raise CounterpointError(f"{file}: column {column!r} is {kind}; write whole numbers or text.")
            block = block.with_columns(cast)
        yield block


_READERS: dict[
    str, tuple[Callable[[Path], list[str]], Callable[[Path, Sequence[str], BadRows, Progress], _Blocks]]
] = {
    ".csv": (csv_header, _csv),
    ".jsonl": (json_columns, json_blocks),
    ".parquet": (_parquet_columns, _parquet),
}


FORMAT = Format(
    name="interactions",
    summary="your own: interactions* or train* (.csv, .jsonl, .parquet), with test* if it brings its split",
    patterns=tuple(f"{stem}*{suffix}" for stem in ("train", "interactions") for suffix in SUFFIXES),
    rows=_read_rows,
    suffixes=SUFFIXES,
    own=True,
    pairs=_read_pairs,
)
