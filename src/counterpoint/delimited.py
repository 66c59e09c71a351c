"""Files of separated values, CSV or with tabs: a line is a row, read in blocks and checked."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.progress import Progress
from counterpoint.rows import BadRows, Check, drop_bad, line_blocks, opened

_SEPARATORS = {",": "commas", "\t": "tabs"}


def said(field: str, what: str) -> pl.Expr:
    """Return that the text of a column is ``what``, or missing."""
    text = pl.col(field).cast(pl.String)
    shown, empty = text.str.slice(0, 40).str.replace_all(r"\s", " "), text.is_null() | (text == "")
    return (
        pl.when(empty).then(pl.lit("it is missing")).otherwise(pl.format("'{}' is {}", shown, pl.lit(what)))
    )


def csv_header(file: Path, separator: str = ",") -> list[str]:
    """Return the columns that the first line of a file of separated values names.

    Raises:
        CounterpointError: the file is missing, empty, or its first line is no header.
    """
    with opened(file) as stream:
        first = stream.readline().removeprefix(codecs.BOM_UTF8)
    try:
        return [
            name.strip()
            for name in next(csv.reader([first.decode("utf-8")], delimiter=separator, strict=True), [])
        ]
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
    separator: str = ",",
) -> Iterator[pl.DataFrame]:
    """Yield a file's rows in blocks: ``line``, ``row`` and the wanted columns as text.

    A line is a row, whatever its quotes say, so that an unbalanced one spoils no other row; an empty one is
    none.

    Args:
        file: the file.
        columns: all that it has.
        wanted: those to return.
        bad: what to do with rows that have more columns, or fewer.
        progress: told how far the reading is.
        header: the first line is none of the rows, and fields may be quoted.
        separator: between the fields.
    """
    fields = [f"column {number}" for number in range(len(columns))]
    split = pl.col("row").str.splitn(separator, len(columns) + 1).struct.rename_fields([*fields, "rest"])
    found = pl.col("row").str.count_matches(separator, literal=True) + 1
    regular = Check(
        "columns",
        pl.col(fields[-1]).is_null() | pl.col("rest").is_not_null(),
        pl.format("{} columns instead of {}", found, pl.lit(len(columns))),
        f"separate them by {_SEPARATORS.get(separator, separator)}",
    )
    named = [pl.col(fields[columns.index(name)]).alias(name) for name in wanted]
    for block in line_blocks(file, bad, progress):
        lines = block.filter((pl.col("line") > int(header)) & (pl.col("row") != ""))
        quoted = pl.col("row").str.contains('"', literal=True)
        if header and lines.select(quoted.any()).item():
            parsed = _quoted(lines.filter(quoted), fields, separator, bad, file)
            plain = lines.filter(~quoted)
        else:
            parsed, plain = None, lines
        rows = drop_bad(plain.with_columns(split.alias("_")).unnest("_"), [regular], bad, file).drop("rest")
        if parsed is not None:
            rows = pl.concat([rows, parsed]).sort("line")
        yield rows.select("line", "row", *named)


def _quoted(
    lines: pl.DataFrame, fields: Sequence[str], separator: str, bad: BadRows, file: Path
) -> pl.DataFrame:
    """Return the columns of lines with quotes in them, each line read alone."""
    sound: list[list[object]] = []
    for line, row in lines.select("line", "row").iter_rows():
        try:
            values = next(csv.reader([row], delimiter=separator, strict=True))
            problem = f"{len(values)} columns instead of {len(fields)}"
        except csv.Error as error:
            values, problem = [], f"the quotes do not fit ({error})"
        if len(values) == len(fields):
            sound.append([line, row, *values])
        else:
            bad.add(BadRowError(file, line, "columns", problem, "keep each row on a line of its own"), row)
    schema = {"line": pl.Int64, "row": pl.String, **dict.fromkeys(fields, pl.String)}
    return pl.DataFrame(sound, schema=schema, orient="row")
