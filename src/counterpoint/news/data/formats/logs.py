"""One's own logs: ``articles`` and ``impressions`` as CSV, JSON lines or Parquet.

``articles``: article, title (both needed), subtitle, abstract, body, category, subcategory, entities (a JSON
list as MIND writes it, or one of objects with SurfaceForms and Type), sentiment (negative, neutral, positive,
or a number from -1 to 1), published (ISO 8601).

``impressions``: impression, reader, time (ISO 8601), candidates (all needed), history (oldest first), clicked
(the candidates that were clicked; a file without this column is unlabelled), history_read_time in seconds and
history_scroll in percent (as long as the history, null where unknown). The lists are JSON or Parquet lists,
or ids or numbers separated by spaces. Other columns are ignored.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.news.data.formats import Format
from counterpoint.news.data.rows import (
    ARTICLE_SCHEMA,
    HISTORY_VALUES,
    IMPRESSION_SCHEMA,
)
from counterpoint.news.data.sentiment import SENTIMENTS, sentiment_of
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, line_blocks, parquet_blocks

_BLOCK = 20_000
_Row = tuple[int, dict[str, Any]]


def _read_articles(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the articles of a file, block by block."""
    yield from _blocks(file, bad, progress, ("article", "title"), _article, ARTICLE_SCHEMA)


def _read_impressions(
    file: Path, bad: BadRows, progress: Progress, *, labelled: bool
) -> Iterator[pl.DataFrame]:
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


_PLAIN = ("subtitle", "abstract", "body", "category", "subcategory")


def _article(row: dict[str, Any]) -> dict[str, Any]:
    """Return one article; texts that are absent stay null."""
    entities = row.get("entities")
    published = row.get("published")
    sentiment, score = _sentiment(row.get("sentiment"))
    return {
        **{field: _text(row.get(field), field) for field in _PLAIN},
        "article": _needed(row, "article"),
        "title": _needed(row, "title"),
        "entities": json.dumps(entities) if isinstance(entities, list) else _text(entities, "entities"),
        "sentiment": sentiment,
        "sentiment_score": score,
        "published": None if published in (None, "") else _time(published, "published"),
    }


def _sentiment(value: Any) -> tuple[str | None, float | None]:
    """Return the class and the score of a class or a score; a class alone counts as certain."""
    text = (_text(value, "sentiment") or "").strip().lower()
    if not text:
        return None, None
    if text in SENTIMENTS:
        return text, SENTIMENTS.index(text) - 1.0
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not -1 <= score <= 1:
        raise _FieldError(
            "sentiment", f"{value!r} is no sentiment", f"write {', '.join(SENTIMENTS)} or a number in [-1, 1]"
        )
    return sentiment_of(score), score


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
    history = _id_list(row.get("history"), "history")
    return {
        "impression": _needed(row, "impression"),
        "reader": _needed(row, "reader"),
        "time": _time(row["time"], "time"),
        "history": history,
        **{
            f"history_{name}": _numbers(row.get(f"history_{name}"), f"history_{name}", len(history))
            for name in HISTORY_VALUES
        },
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


def _numbers(value: Any, field: str, wanted: int) -> list[float | None] | None:
    """Return one number or null for each of ``wanted`` clicks, from a list, JSON or text with spaces."""
    if value is None or value == "":
        return None
    try:
        listed = value
        if isinstance(value, str):
            listed = json.loads(value) if value.lstrip().startswith("[") else value.split()
        numbers = [None if one is None else float(one) for one in listed]
        if any(map(math.isinf, filter(None, numbers))):
            raise ValueError
    except (TypeError, ValueError, RecursionError):
        raise _FieldError(field, f"{value!r} is no list of numbers", "give a list with nulls") from None
    if len(numbers) != wanted:
        problem = f"{len(numbers)} numbers for a history of {wanted} articles"
        raise _FieldError(field, problem, "give one for each, or null")
    return numbers


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
        for block in line_blocks(file, bad, progress):
            for number, line in block.iter_rows():
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
    for block in line_blocks(file, bad, progress):
        for number, line in block.iter_rows():
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
    for first, rows in parquet_blocks(file, _BLOCK, progress):
        yield from enumerate(rows.iter_rows(named=True), first)


_READERS: dict[str, Callable[[Path, BadRows, Progress], Iterator[_Row]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}


FORMAT = Format(
    name="logs",
    summary="your own: articles and impressions as .csv, .jsonl or .parquet",
    article_files=("articles.parquet", "articles.jsonl", "articles.csv"),
    impression_files=("impressions.parquet", "impressions.jsonl", "impressions.csv"),
    without_articles="put the articles beside it, or use a recipe without texts",
    articles=_read_articles,
    impressions=_read_impressions,
    own=True,
)
