"""What every reader of raw behaviour logs hands on, and what becomes of malformed rows."""

import codecs
import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

import polars as pl

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.progress import Progress

BLOCK_BYTES = 16 << 20
BLOCK_ROWS = 1_000_000

OUTSIDE = "rows outside the window"
"""The count of rows that a reader drops because their time is not the data set's."""

SYNONYMS = {
    "pv": "click",
    "view": "click",
    "fav": "favourite",
    "favorite": "favourite",
    "purchase": "buy",
}
"""What the behaviours of any format are called here; other names are kept as they are."""


class Format(Protocol):
    """A raw format: one module each.

    Attributes:
        name: what ``--format`` calls it.
        patterns: how its files are named.
    """

    name: str
    patterns: tuple[str, ...]

    def rows(
        self, file: Path, bad: "BadRows", counts: Counter[str], progress: Progress
    ) -> Iterator[pl.DataFrame]:
        """Yield blocks of sound rows, in the order of the file.

        Their columns are user and item (both Int64 or String), behaviour (a name of this package) and, where
        the log has times, time (Int64, of any unit that ascends).
        """
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


@dataclass(frozen=True)
class Check:
    """What makes a row malformed.

    Attributes:
        field: the column at fault.
        wrong: true for a malformed row.
        problem: what is wrong, as text.
        remedy: what to do.
    """

    field: str
    wrong: pl.Expr
    problem: pl.Expr
    remedy: str


def whole_number(field: str, *, signed: bool = False) -> Check:
    """Refuse what is no whole number, or one below 0 unless ``signed``, in a column of text."""
    number = pl.col(field).cast(pl.Int64, strict=False)
    wrong = number.is_null() if signed else number.is_null() | (number < 0)
    what = "no whole number" if signed else "no whole number of 0 or more"
    return Check(field, wrong, said(field, what), "correct it or remove the row")


def one_of(field: str, known: Sequence[str]) -> Check:
    """Refuse what is none of the ``known`` words in a column of text."""
    remedy = f"known are {', '.join(known)}"
    return Check(field, ~pl.col(field).is_in(list(known)), said(field, "unknown"), remedy)


def said(field: str, what: str) -> pl.Expr:
    """Return that the text of a column is ``what``, or missing."""
    text = pl.col(field).cast(pl.String)
    shown, empty = text.str.slice(0, 40).str.replace_all(r"\s", " "), text.is_null() | (text == "")
    return (
        pl.when(empty).then(pl.lit("it is missing")).otherwise(pl.format("'{}' is {}", shown, pl.lit(what)))
    )


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
    faulty = marked.filter(pl.col("_fault").is_not_null()).select("line", row, "_fault", *problems)
    for line, text, number, *told in faulty.iter_rows():
        check = checks[number]
        bad.add(BadRowError(file, line, check.field, told[number], check.remedy), text)
    return marked.filter(pl.col("_fault").is_null()).drop("_fault")


def csv_header(file: Path) -> list[str]:
    """Return the columns that the first line of a CSV file names.

    Raises:
        CounterpointError: the file is missing, empty, or its first line is no header.
    """
    with _opened(file) as stream:
        first = stream.readline().removeprefix(codecs.BOM_UTF8)
    try:
        return [name.strip() for name in next(csv.reader([first.decode("utf-8")], strict=True), [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise CounterpointError(f"{file}, line 1: no header ({error}); name the columns there.") from error


def csv_blocks(
    file: Path,
    columns: Sequence[str],
    wanted: Sequence[str],
    bad: BadRows,
    progress: Progress,
    *,
    header: bool,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a CSV file in blocks: ``line``, ``row`` and the wanted columns as text.

    A line is a row, whatever its quotes say, so that an unbalanced one spoils no other row.

    Args:
        file: the file.
        columns: all that it has.
        wanted: those to return.
        bad: what to do with rows that have more columns, or fewer.
        progress: told how far the reading is.
        header: the first line is none of the rows, and fields may be quoted.
    """
    fields = [f"column {number}" for number in range(len(columns))]
    split = pl.col("row").str.splitn(",", len(columns) + 1).struct.rename_fields([*fields, "rest"])
    found = pl.col("row").str.count_matches(",", literal=True) + 1
    regular = Check(
        "columns",
        pl.col(fields[-1]).is_null() | pl.col("rest").is_not_null(),
        pl.format("{} columns instead of {}", found, pl.lit(len(columns))),
        "separate them by commas",
    )
    named = [pl.col(fields[columns.index(name)]).alias(name) for name in wanted]
    for block in line_blocks(file, bad, progress):
        lines = block.filter(pl.col("line") > 1) if header else block
        quoted = pl.col("row").str.contains('"', literal=True)
        if header and lines.select(quoted.any()).item():
            parsed = _quoted(lines.filter(quoted), fields, bad, file)
            plain = lines.filter(~quoted)
        else:
            parsed, plain = None, lines
        rows = drop_bad(plain.with_columns(split.alias("_")).unnest("_"), [regular], bad, file).drop("rest")
        if parsed is not None:
            rows = pl.concat([rows, parsed]).sort("line")
        yield rows.select("line", "row", *named)


def line_blocks(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the lines of a UTF-8 file in blocks, ``line`` (from 1) and ``row``; empty ones are left out.

    Raises:
        CounterpointError: the file is missing or empty.
        BadRowError: a line is not UTF-8 (unless bad rows are set aside).
    """
    with _opened(file) as stream:
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
                lines = _lines(file, number, chunk, bad).with_columns(pl.col("row").str.strip_suffix("\r"))
                yield lines.filter(pl.col("row") != "")
                number += chunk.count(b"\n") + 1
            progress(f"reading {file.parent.name}/{file.name}", done, total)


def parquet_blocks(file: Path, columns: Sequence[str], progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the rows of a Parquet file in blocks: ``line`` (its row, from 1) and the columns.

    Raises:
        CounterpointError: the file is missing or broken.
    """
    start, total = 0, 1
    while start < total:
        with parquet_errors(file):
            table = pl.scan_parquet(file, glob=False)
            total = table.select(pl.len()).collect().item()
            rows = table.select(columns).slice(start, BLOCK_ROWS).collect()
        yield rows.with_row_index("line", start + 1).with_columns(pl.col("line").cast(pl.Int64))
        start += BLOCK_ROWS
        progress(f"reading {file.parent.name}/{file.name}", min(start, total), total)


@contextmanager
def parquet_errors(file: Path) -> Iterator[None]:
    """Turn what polars raises over a file into one sentence."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        raise CounterpointError(f"{file}: cannot be read as Parquet ({reason}); check the file.") from error


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file that must hold something."""
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CounterpointError(f"{file}: cannot be read ({error.strerror}); check the path.") from error
    with stream:
        if file.stat().st_size == 0:
            raise CounterpointError(f"{file}: the file is empty; put the data there or name another one.")
        yield stream


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


def _quoted(lines: pl.DataFrame, fields: Sequence[str], bad: BadRows, file: Path) -> pl.DataFrame:
    """Return the columns of lines with quotes in them, each line read alone."""
    sound: list[list[object]] = []
    for line, row in lines.select("line", "row").iter_rows():
        try:
            values = next(csv.reader([row], strict=True))
            problem = f"{len(values)} columns instead of {len(fields)}"
        except csv.Error as error:
            values, problem = [], f"the quotes do not fit ({error})"
        if len(values) == len(fields):
            sound.append([line, row, *values])
        else:
            bad.add(BadRowError(file, line, "columns", problem, "keep each row on a line of its own"), row)
    schema = {"line": pl.Int64, "row": pl.String, **dict.fromkeys(fields, pl.String)}
    return pl.DataFrame(sound, schema=schema, orient="row")
