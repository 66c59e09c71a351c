"""What every reader of raw news logs hands on, and what becomes of malformed rows."""

import codecs
import json
from collections.abc import Iterator
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
    "sentiment": pl.String(),
    "published": pl.Datetime("us"),
}
"""A block of articles; ``entities`` is MIND's JSON list, empty text where there is none."""

IMPRESSION_SCHEMA: dict[str, pl.DataType] = {
    "line": pl.Int64(),
    "impression": pl.String(),
    "reader": pl.String(),
    "time": pl.Datetime("us"),
    "history": pl.List(pl.String),
    "candidates": pl.List(pl.String),
    "clicked": pl.List(pl.Int8),
}
"""A block of impressions; ``clicked`` is 1 or 0 for each candidate, -1 where it is not told."""


class Format(Protocol):
    """A raw format: one module each."""

    name: str
    article_files: tuple[str, ...]
    impression_files: tuple[str, ...]

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
