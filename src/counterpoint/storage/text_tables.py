"""Reading tables that are text, CSV or JSON lines, block by block; what is malformed is told row by row."""

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, Check, drop_bad, line_blocks, opened

_SEPARATORS = {",": "commas", "\t": "tabs"}

JSON_LIST: Final = pl.Struct({"ids": pl.List(pl.String), "whole": pl.Boolean, "mixed": pl.Boolean})
"""A list of JSON: its ids as texts, whether the first is a number (or null), whether others differ."""


def csv_header(file: Path, separator: str = ",") -> list[str]:
    """Return the columns that the first line of a CSV file names.

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
    quotes: bool = True,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a CSV file in blocks: ``line``, ``row`` and the wanted columns as text.

    A line is a row, whatever its quotes say, so that an unbalanced one spoils no other row; an empty one is
    none.

    Args:
        file: the file.
        columns: all that it has.
        wanted: those to return.
        bad: what to do with rows that have more columns, or fewer.
        progress: told how far the reading is.
        header: the first line is none of the rows.
        separator: between fields, one character.
        quotes: fields may be quoted.
    """
    fields = [f"column {number}" for number in range(len(columns))]
    split = pl.col("row").str.splitn(separator, len(columns) + 1).struct.rename_fields([*fields, "rest"])
    found = pl.col("row").str.count_matches(separator, literal=True) + 1
    regular = Check(
        "columns",
        pl.col(fields[-1]).is_null() | pl.col("rest").is_not_null(),
        pl.format("{} columns instead of {}", found, pl.lit(len(columns))),
        f"separate them by {_SEPARATORS.get(separator, repr(separator))}",
    )
    named = [pl.col(fields[columns.index(name)]).alias(name) for name in wanted]
    for block in line_blocks(file, bad, progress):
        lines = block.filter((pl.col("line") > int(header)) & (pl.col("row") != ""))
        quoted = pl.col("row").str.contains('"', literal=True)
        if quotes and lines.select(quoted.any()).item():
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


def said(field: str, what: str) -> pl.Expr:
    """Return that the text of a column is ``what``, or missing."""
    text = pl.col(field).cast(pl.String)
    shown, empty = text.str.slice(0, 40).str.replace_all(r"\s", " "), text.is_null() | (text == "")
    return (
        pl.when(empty).then(pl.lit("it is missing")).otherwise(pl.format("'{}' is {}", shown, pl.lit(what)))
    )


def json_columns(file: Path) -> list[str]:
    """Return the keys of the first object in the file."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as stream:
            for line in stream:
                row = _object(line)
                if isinstance(row, dict):
                    return list(row)
    except OSError as error:
        raise CounterpointError(f"{file}: cannot be read ({error.strerror}); check the path.") from error
    raise CounterpointError(f"{file}: there is no JSON object in it; write one on each line.")


def json_blocks(
    file: Path,
    columns: Sequence[str],
    bad: BadRows,
    progress: Progress,
    *,
    fractions: bool = False,
    lists: Sequence[str] = (),
) -> Iterator[pl.DataFrame]:
    """Yield the objects of a file with one JSON object a line: ``line``, ``row`` and the columns as text.

    An empty line is none.

    Args:
        file: the file.
        columns: the keys to read, without the lists.
        bad: what to do with lines that are no object, and with values that are neither numbers nor text.
        progress: told how far the reading is.
        fractions: numbers may have some.
        lists: keys of lists of ids, whole numbers or texts; yielded as `JSON_LIST`, missing ones empty.
    """
    number = "number" if fractions else "whole number"
    texts = dict.fromkeys(columns, pl.String())
    schema = pl.Schema({"line": pl.Int64(), "row": pl.String(), **texts, **dict.fromkeys(lists, JSON_LIST)})
    for block in line_blocks(file, bad, progress):
        sound: list[list[Any]] = []
        for line, text in block.filter(pl.col("row") != "").iter_rows():
            row = _object(text)
            if not isinstance(row, dict):
                problem = "not a JSON object"
                bad.add(BadRowError(file, line, "line", problem, "write one object a line"), text)
                continue
            values = [row.get(column) for column in columns]
            odd = next((place for place, value in enumerate(values) if not _is_plain(value, fractions)), None)
            if odd is not None:
                problem = f"{str(values[odd])[:40]!a} is neither a {number} nor text"
                bad.add(BadRowError(file, line, columns[odd], problem, "write one of the two"), text)
                continue
            told = {name: _no_list(row.get(name)) for name in lists}
            wrong = next((name for name, problem in told.items() if problem), None)
            if wrong is not None:
                remedy = "write a list of whole numbers or of texts"
                bad.add(BadRowError(file, line, wrong, told[wrong], remedy), text)
                continue
            single = ("" if value is None else str(value) for value in values)
            sound.append([line, text, *single, *(_ids(row.get(name)) for name in lists)])
        yield pl.DataFrame(sound, schema=schema, orient="row")


def _object(text: str) -> Any:
    """Return what a line of JSON says, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_plain(value: Any, fractions: bool) -> bool:
    """Return whether a value of JSON is a number, whole unless it may have ``fractions``, or sound text."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    numbers = (int, float) if fractions else int
    return value is None or (isinstance(value, numbers) and not isinstance(value, bool))


def _no_list(value: Any) -> str:
    """Return why a value of JSON is no list of ids; nothing where it is one, or missing."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return f"{str(value)[:40]!a} is no list"
    odd = next((each for each in value if not _is_plain(each, fractions=False)), None)
    return "" if odd is None else f"{str(odd)[:40]!a} in the list is neither a whole number nor text"


def _ids(value: list[int | str | None] | None) -> dict[str, Any]:
    """Return a list of JSON as a `JSON_LIST`."""
    ids = [each for each in value or () if each is not None]
    whole = isinstance(ids[0], int) if ids else None
    return {
        "ids": [str(each) for each in ids],
        "whole": whole,
        "mixed": any(isinstance(each, int) != whole for each in ids),
    }
