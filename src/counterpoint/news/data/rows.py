"""What every reader of raw news logs hands on, and what becomes of malformed rows."""

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import polars as pl

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.progress import Progress

BLOCK_BYTES = 8 << 20

ARTICLE_SCHEMA: dict[str, pl.DataType] = {
    "line": pl.Int64(),
    "article": pl.String(),
    "title": pl.String(),
    "subtitle": pl.String(),
    "abstract": pl.String(),
    "body": pl.String(),
    "category": pl.String(),
    "subcategory": pl.String(),
    "entities": pl.String(),
    "abstract_entities": pl.String(),
    "sentiment": pl.String(),
    "sentiment_score": pl.Float32(),
    "published": pl.Datetime("us"),
}
"""A block of articles.

Entities are MIND's JSON lists, empty text where there are none. ``sentiment`` is one of `SENTIMENTS`; its
score lies in [-1, 1] and is negative for negative ones.
"""

SENTIMENTS = ("negative", "neutral", "positive")

IMPRESSION_SCHEMA: dict[str, pl.DataType] = {
    "line": pl.Int64(),
    "impression": pl.String(),
    "reader": pl.String(),
    "time": pl.Datetime("us"),
    "history": pl.List(pl.String),
    "history_read_time": pl.List(pl.Float32),
    "history_scroll": pl.List(pl.Float32),
    "candidates": pl.List(pl.String),
    "clicked": pl.List(pl.Int8),
    "beyond": pl.Boolean(),
}
"""A block of impressions.

``clicked`` is 1 or 0 for each candidate, -1 where it is not told. A null ``history`` is the one that the
part's file of histories has for the reader. What is known of its clicks (seconds read, percent scrolled) is
null, or a list as long as the history. ``beyond`` marks impressions that only measure other things than
accuracy.
"""

HISTORY_SCHEMA = {
    name: IMPRESSION_SCHEMA[name]
    for name in ("line", "reader", "history", "history_read_time", "history_scroll")
}
"""A block of histories that stand in a file of their own, one a reader."""

HISTORY_VALUES = ("read_time", "scroll")
"""What may be known of the clicks of a history: columns ``history_read_time`` and ``history_scroll``."""


class Format(Protocol):
    """A raw format: one module each.

    Attributes:
        name: what ``--format`` calls it.
        article_files: possible names of the file of articles, best first.
        impression_files: possible names of the file of impressions, best first.
        history_file: name of the file beside it where each reader's history stands, if that is so.
        day_begins: the hour of the day at which the publisher cut the data into days.
        without_articles: what to do where the articles are missing.
    """

    name: str
    article_files: tuple[str, ...]
    impression_files: tuple[str, ...]
    day_begins: int
    without_articles: str

    @property
    def history_file(self) -> str | None: ...  # noqa: D102

    @property
    def histories(self) -> "Callable[[Path, BadRows, Progress], Iterator[pl.DataFrame]] | None":
        """Yield blocks of `HISTORY_SCHEMA` from the file of histories, where there is one."""
        ...

    def articles(self, file: Path, bad: "BadRows", progress: Progress) -> Iterator[pl.DataFrame]:
        """Yield blocks of `ARTICLE_SCHEMA`."""
        ...

    def impressions(
        self, file: Path, bad: "BadRows", progress: Progress, *, labelled: bool
    ) -> Iterator[pl.DataFrame]:
        """Yield blocks of `IMPRESSION_SCHEMA`; where ``labelled``, a candidate without its label is bad."""
        ...


class BadRows:
    """What happens to malformed rows: the first one stops the job, or all are set aside and counted."""

    def __init__(self, policy: Literal["stop", "skip"], aside: Path) -> None:
        self.policy, self.aside, self.count = policy, aside, 0

    def add(self, error: BadRowError, row: str) -> None:
        """Raise ``error``, or write it and the ``row`` to the file of bad rows."""
        if self.policy == "stop":
            raise error
        entry = {"file": str(error.file), "line": error.line, "field": error.field}
        with self.aside.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**entry, "problem": str(error), "row": row}, ensure_ascii=False) + "\n")
        self.count += 1


def text_blocks(file: Path, bad: BadRows, progress: Progress) -> Iterator[tuple[list[int], list[str]]]:
    """Yield the lines of a UTF-8 file in blocks, with their numbers; only one block is in memory.

    Raises:
        CounterpointError: the file is missing or empty.
        BadRowError: a line is not UTF-8 (unless bad rows are set aside).
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CounterpointError(f"{file}: cannot be read ({error.strerror}); check the path.") from error
    with stream:
        total = file.stat().st_size
        if total == 0:
            raise CounterpointError(f"{file}: the file is empty; put the data there or name another folder.")
        number, rest, done = 1, b"", 0
        while chunk := stream.read(BLOCK_BYTES):
            chunk = chunk if done else chunk.removeprefix(codecs.BOM_UTF8)
            done = stream.tell()
            chunk = rest + chunk
            end = len(chunk) if done >= total else chunk.rfind(b"\n") + 1
            chunk, rest = chunk[:end], chunk[end:]
            if chunk:
                chunk = chunk.removesuffix(b"\n")
                yield _decoded(file, number, chunk, bad)
                number += chunk.count(b"\n") + 1
            progress(f"reading {file.parent.name}/{file.name}", done, total)


def parquet_schema(file: Path) -> pl.Schema:
    """Return the columns of a Parquet file with their types.

    Raises:
        CounterpointError: the file is missing or broken.
    """
    with _parquet_errors(file):
        return pl.scan_parquet(file, glob=False).collect_schema()


def parquet_blocks(
    file: Path, size: int, progress: Progress, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the rows of a Parquet file in blocks of ``size``, with the number of each block's first row.

    Args:
        file: the file.
        size: rows of a block.
        progress: told how far the reading is.
        columns: which to read; by default all.

    Raises:
        CounterpointError: the file is missing or broken.
    """
    start, total = 0, 1
    while start < total:
        with _parquet_errors(file):
            table = pl.scan_parquet(file, glob=False)
            total = table.select(pl.len()).collect().item()
            chosen = table if columns is None else table.select(columns)
            rows = chosen.slice(start, size).collect()
        yield start + 1, rows
        start += size
        progress(f"reading {file.parent.name}/{file.name}", min(start, total), total)


@contextmanager
def _parquet_errors(file: Path) -> Iterator[None]:
    """Turn what polars raises over a file into one sentence."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CounterpointError(f"{file}: cannot be read as Parquet ({error}); check the file.") from error


def _decoded(file: Path, first: int, chunk: bytes, bad: BadRows) -> tuple[list[int], list[str]]:
    """Return the numbers and texts of the lines, in one go where all are UTF-8."""
    try:
        lines = chunk.decode("utf-8").split("\n")
        numbers = list(range(first, first + len(lines)))
    except UnicodeDecodeError:
        numbers, lines = [], []
        for number, line in enumerate(chunk.split(b"\n"), first):
            try:
                lines.append(line.decode("utf-8"))
                numbers.append(number)
            except UnicodeDecodeError as error:
                problem = f"byte {error.start + 1} of the line is not UTF-8"
                bad.add(
                    BadRowError(file, number, "text", problem, "save the file as UTF-8"),
                    line.decode("utf-8", errors="replace"),
                )
    if b"\r" in chunk:
        lines = [line.removesuffix("\r") for line in lines]
    return numbers, lines


def drop_bad(
    block: pl.DataFrame, wrong: pl.Expr, bad: BadRows, file: Path, field: str, problem: pl.Expr, remedy: str
) -> pl.DataFrame:
    """Report the rows of ``block`` where ``wrong`` holds and return the others.

    Args:
        block: rows with the columns ``line`` and ``row`` (the raw text).
        wrong: true (or null) for a malformed row.
        bad: what to do with it.
        file: where the rows come from.
        field: the column at fault.
        problem: what is wrong, as text.
        remedy: what to do.
    """
    marked = block.with_columns(wrong.fill_null(True).alias("_wrong"))
    if not marked["_wrong"].any():
        return block
    faulty = marked.filter("_wrong").select("line", "row", problem.alias("_problem"))
    for line, row, text in faulty.iter_rows():
        bad.add(BadRowError(file, line, field, text, remedy), row)
    return marked.filter(~pl.col("_wrong")).drop("_wrong")


def in_schema(rows: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return the columns of ``schema`` in its order and types; one that is not there is null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    )
