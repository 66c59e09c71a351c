"""Reading raw files in blocks of rows, and what becomes of malformed ones."""

import codecs
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import polars as pl

from counterpoint.errors import BadRowError, CounterpointError, on_one_line
from counterpoint.progress import Progress

BLOCK_BYTES = 8 << 20


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


@dataclass(frozen=True)
class Check:
    """What makes a row malformed.

    Attributes:
        field: the column at fault.
        wrong: true (or null) for a malformed row.
        problem: what is wrong, as text.
        remedy: what to do.
    """

    field: str
    wrong: pl.Expr
    problem: pl.Expr
    remedy: str


def drop_bad(block: pl.DataFrame, checks: Sequence[Check], bad: BadRows, file: Path) -> pl.DataFrame:
    """Report the rows that fail a check, in their order and each once, and return the others.

    Args:
        block: rows with the columns ``line`` and ``row`` (the raw text; without it, the row as JSON).
        checks: the earlier ones go first.
        bad: what to do with malformed rows.
        file: where the rows come from.
    """
    fault = pl.coalesce(
        pl.when(check.wrong.fill_null(True)).then(pl.lit(number, pl.Int32))
        for number, check in enumerate(checks)
    )
    marked = block.with_columns(fault.alias("_fault"))
    if marked["_fault"].null_count() == len(marked):
        return block
    problems = [check.problem.cast(pl.String).alias(f"_{number}") for number, check in enumerate(checks)]
    row = (
        pl.col("row")
        if "row" in block.columns
        else pl.struct(pl.exclude("^(line|_.*)$")).struct.json_encode()
    )
    faulty = marked.filter(pl.col("_fault").is_not_null()).select(
        "line", row.alias("_row"), "_fault", *problems
    )
    for line, text, number, *told in faulty.iter_rows():
        check = checks[number]
        bad.add(BadRowError(file, line, check.field, told[number], check.remedy), text)
    return marked.filter(pl.col("_fault").is_null()).drop("_fault")


def line_blocks(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the lines of a UTF-8 file in blocks, ``line`` (from 1) and ``row``; only one block is in memory.

    Raises:
        CounterpointError: the file is missing or empty.
        BadRowError: a line is not UTF-8 (unless bad rows are set aside).
    """
    with opened(file) as stream:
        total = file.stat().st_size
        number, rest, done = 1, b"", 0
        while chunk := stream.read(BLOCK_BYTES):
            chunk = chunk if done else chunk.removeprefix(codecs.BOM_UTF8)
            done = stream.tell()
            chunk = rest + chunk
            end = len(chunk) if done >= total else chunk.rfind(b"\n") + 1
            chunk, rest = chunk[:end], chunk[end:]
            if chunk:
                chunk = chunk.removesuffix(b"\n")
                yield _lines(file, number, chunk, bad).with_columns(pl.col("row").str.strip_suffix("\r"))
                number += chunk.count(b"\n") + 1
            progress(f"reading {file.parent.name}/{file.name}", done, total)


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file that must hold something.

    Raises:
        CounterpointError: it is missing or empty.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CounterpointError(f"{file}: cannot be read ({error.strerror}); check the path.") from error
    with stream:
        if file.stat().st_size == 0:
            raise CounterpointError(f"{file}: the file is empty; put the data there or name another one.")
        yield stream


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


def _lines(file: Path, first: int, chunk: bytes, bad: BadRows) -> pl.DataFrame:
    """Return the numbers and texts of the lines, in one go where all are UTF-8."""
    try:
        lines = pl.Series("row", [chunk.decode("utf-8")]).str.split("\n").explode()
        return pl.DataFrame({"line": pl.int_range(first, first + len(lines), eager=True), "row": lines})
    except UnicodeDecodeError:
        pass
    sound: list[tuple[int, str]] = []
    for number, line in enumerate(chunk.split(b"\n"), first):
        try:
            sound.append((number, line.decode("utf-8")))
        except UnicodeDecodeError as error:
            problem = f"byte {error.start + 1} of the line is not UTF-8"
            bad.add(
                BadRowError(file, number, "text", problem, "save the file as UTF-8"),
                line.decode("utf-8", errors="replace"),
            )
    return pl.DataFrame(sound, schema={"line": pl.Int64, "row": pl.String}, orient="row")


@contextmanager
def _parquet_errors(file: Path) -> Iterator[None]:
    """Turn what polars raises over a file into one sentence."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CounterpointError(
            f"{file}: cannot be read as Parquet ({on_one_line(error)}); check the file."
        ) from error
