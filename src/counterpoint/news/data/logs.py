"""One's own logs: ``articles`` and ``impressions`` as CSV, JSON lines or Parquet.

``articles``: article, title (both needed), subtitle, abstract, body, category, subcategory, entities (a JSON
list as MIND writes it, or one of objects with SurfaceForms and Type), sentiment, published (ISO 8601).

``impressions``: impression, reader, time (ISO 8601), candidates (all needed), history (oldest first), clicked
(the candidates that were clicked; a file without this column is unlabelled). The three lists are JSON or
Parquet lists, or ids separated by spaces. Other columns are ignored.
"""

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.news.data.rows import ARTICLE_SCHEMA, IMPRESSION_SCHEMA, BadRows, text_blocks
from counterpoint.progress import Progress

name = "logs"
article_files: tuple[str, ...] = ("articles.parquet", "articles.jsonl", "articles.csv")
impression_files: tuple[str, ...] = ("impressions.parquet", "impressions.jsonl", "impressions.csv")

_BLOCK = 20_000
_Row = tuple[int, dict[str, Any]]


def articles(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the articles of a file, block by block."""
    yield from _blocks(file, bad, progress, ("article", "title"), _article, ARTICLE_SCHEMA)


def impressions(file: Path, bad: BadRows, progress: Progress, *, labelled: bool) -> Iterator[pl.DataFrame]:
    """Yield the impressions of a file, block by block."""
    needed = ("impression", "reader", "time", "candidates", *(("clicked",) if labelled else ()))
    yield from _blocks(file, bad, progress, needed, _impression, IMPRESSION_SCHEMA)


class _FieldError(Exception):
    """A field of a row is malformed: (field, problem, remedy)."""


def _blocks(
    file: Path,
    bad: BadRows,
    progress: Progress,
    needed: tuple[str, ...],
    parse: Callable[[dict[str, Any]], dict[str, Any]],
    schema: dict[str, pl.DataType],
) -> Iterator[pl.DataFrame]:
    """Yield the rows that ``parse`` accepts as data frames of ``schema``."""
    rows = _READERS[file.suffix](file, bad, progress)
    while block := list(islice(rows, _BLOCK)):
        parsed: list[dict[str, Any]] = []
        for line, row in block:
            try:
                missing = next((field for field in needed if field not in row), None)
                if missing is not None:
                    raise _FieldError(missing, "the column is missing", f"give {', '.join(needed)}")
                parsed.append({"line": line, **parse(row)})
            except _FieldError as error:
                bad.add(BadRowError(file, line, *error.args), json.dumps(row, default=str))
        yield pl.DataFrame(parsed, schema=schema)


_NOT_TEXT = ("line", "entities", "published")


def _article(row: dict[str, Any]) -> dict[str, Any]:
    """Return one article; texts that are absent stay null."""
    entities = row.get("entities")
    published = row.get("published")
    return {
        **{field: _text(row.get(field), field) for field in ARTICLE_SCHEMA if field not in _NOT_TEXT},
        "article": _needed(row, "article"),
        "title": _needed(row, "title"),
        "entities": json.dumps(entities) if isinstance(entities, list) else _text(entities, "entities"),
        "published": None if published in (None, "") else _time(published, "published"),
    }


def _impression(row: dict[str, Any]) -> dict[str, Any]:
    """Return one impression, its clicks as one label for each candidate."""
    candidates = _id_list(row["candidates"], "candidates")
    if not candidates:
        raise _FieldError("candidates", "there are none", "remove the row or name the articles shown")
    if "clicked" in row:
        clicks = set(_id_list(row["clicked"], "clicked"))
        strangers = clicks.difference(candidates)
        if strangers:
            raise _FieldError(
                "clicked", f"{min(strangers)!r} is no candidate", "clicks must be among the candidates"
            )
        clicked = [int(candidate in clicks) for candidate in candidates]
    else:
        clicked = [-1] * len(candidates)
    return {
        "impression": _needed(row, "impression"),
        "reader": _needed(row, "reader"),
        "time": _time(row["time"], "time"),
        "history": _id_list(row.get("history"), "history"),
        "candidates": candidates,
        "clicked": clicked,
    }


def _text(value: Any, field: str) -> str | None:
    """Return a value as text; JSON can hold halves of characters, which no file can."""
    text = None if value is None else str(value)
    if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
        raise _FieldError(field, "half of a surrogate pair", "write the whole character")
    return text


def _needed(row: dict[str, Any], field: str) -> str:
    """Return a text that must not be empty."""
    text = _text(row[field], field)
    if text is None or not text.strip():
        raise _FieldError(field, "it is empty", "fill it in or remove the row")
    return text


def _id_list(value: Any, field: str) -> list[str]:
    """Return ids from a list, or from text that separates them by spaces."""
    if isinstance(value, list) and all(isinstance(article, str | int) for article in value):
        return [_text(article, field) or "" for article in value]
    if value is None or isinstance(value, str):
        return (_text(value, field) or "").split()
    raise _FieldError(field, f"{value!r} is no list of ids", "give a list, or ids separated by spaces")


def _time(value: Any, field: str) -> datetime:
    """Return a moment without time zone, in UTC where one was given."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise _FieldError(field, f"{value!r} is not a time", "write it like 2026-03-01T08:15:00") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _csv_rows(file: Path, bad: BadRows, progress: Progress) -> Iterator[_Row]:
    """Yield the rows of a CSV file with a header; a quoted field may hold line breaks."""
    last = 0

    def lines() -> Iterator[str]:
        nonlocal last
        for numbers, block in text_blocks(file, bad, progress):
            for number, line in zip(numbers, block, strict=True):
                last = number
                yield line + "\n"

    header: list[str] = []
    first = 1
    try:
        for row in csv.reader(lines(), strict=True):
            if row and not header:
                header = row
            elif row and len(row) != len(header):
                problem = f"{len(row)} columns instead of {len(header)}"
                bad.add(BadRowError(file, first, "columns", problem, "match the header"), ",".join(row))
            elif row:
                yield first, dict(zip(header, row, strict=True))
            first = last + 1
    except csv.Error as error:
        raise CounterpointError(
            f"{file}, line {first}: not valid CSV ({error}); correct the quotes, or write JSON lines."
        ) from error


def _jsonl_rows(file: Path, bad: BadRows, progress: Progress) -> Iterator[_Row]:
    """Yield the objects of a file with one JSON object a line."""
    for numbers, block in text_blocks(file, bad, progress):
        for number, line in zip(numbers, block, strict=True):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("it is something else")
            except (ValueError, RecursionError) as error:
                problem = f"not a JSON object ({error})"
                bad.add(BadRowError(file, number, "line", problem, "write one object a line"), line)
                continue
            yield number, row


def _parquet_rows(file: Path, bad: BadRows, progress: Progress) -> Iterator[_Row]:
    """Yield the rows of a Parquet file, block by block."""
    start, total = 0, 1
    while start < total:
        try:
            table = pl.scan_parquet(file, glob=False)
            total = table.select(pl.len()).collect().item()
            rows = table.slice(start, _BLOCK).collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CounterpointError(
                f"{file}: cannot be read as Parquet ({error}); check the file."
            ) from error
        yield from enumerate(rows.iter_rows(named=True), start + 1)
        start += _BLOCK
        progress(f"reading {file.parent.name}/{file.name}", min(start, total), total)


_READERS: dict[str, Callable[[Path, BadRows, Progress], Iterator[_Row]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
