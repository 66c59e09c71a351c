"""EB-NeRD: ``articles.parquet``, and for each split ``behaviors.parquet`` beside ``history.parquet``.

``history.parquet`` has one row a reader, whose clicks lie before the split. The test bundle tells no clicks;
some of its impressions, all with the same many candidates, only measure what goes beyond accuracy.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from counterpoint.errors import CounterpointError
from counterpoint.news.data.formats import Format
from counterpoint.news.data.rows import (
    ARTICLE_SCHEMA,
    HISTORY_SCHEMA,
    IMPRESSION_SCHEMA,
    in_schema,
)
from counterpoint.news.data.sentiment import SENTIMENTS
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, Check, drop_bad, parquet_blocks, parquet_schema

_Kind = type[pl.DataType]

_ROWS = {"articles": 5_000, "behaviors": 100_000, "history": 50_000}
_VALUES = 1_000_000
"""Rows read at once, and values of lists worked on at once."""

_BEHAVIORS: dict[str, _Kind] = {
    "impression_id": pl.Int64,
    "user_id": pl.Int64,
    "impression_time": pl.Datetime,
    "article_ids_inview": pl.List,
}
_HISTORY: dict[str, _Kind] = {
    "user_id": pl.Int64,
    "article_id_fixed": pl.List,
    "impression_time_fixed": pl.List,
}
_VALUE_COLUMNS = {"read_time_fixed": "history_read_time", "scroll_percentage_fixed": "history_scroll"}


def _read_articles(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the articles of an ``articles.parquet``, block by block."""
    there = parquet_schema(file)
    _check(file, there, {"article_id": pl.Int64, "title": pl.String})
    if "ner_clusters" in there:
        _check(file, there, {"ner_clusters": pl.List, "entity_groups": pl.List})
    wanted = [column for column in _ARTICLES if column in there]
    for first, rows in parquet_blocks(file, _ROWS["articles"], progress, wanted):
        absent = [pl.lit(None, dtype=kind).alias(column) for column, kind in _ARTICLES.items()]
        rows = rows.with_columns(column for column in absent if column.meta.output_name() not in there)
        yield _articles(file, rows.with_row_index("line", first), bad)


def _read_impressions(
    file: Path, bad: BadRows, progress: Progress, *, labelled: bool
) -> Iterator[pl.DataFrame]:
    """Yield the impressions of a ``behaviors.parquet``, block by block, without their histories.

    Where no label is demanded, a file without clicks is read as unlabelled.
    """
    there = parquet_schema(file)
    _check(file, there, {**_BEHAVIORS, "article_ids_clicked": pl.List} if labelled else _BEHAVIORS)
    optional = [column for column in ("article_ids_clicked", "is_beyond_accuracy") if column in there]
    told = labelled
    for first, rows in parquet_blocks(file, _ROWS["behaviors"], progress, [*_BEHAVIORS, *optional]):
        if first == 1 and "article_ids_clicked" in there and len(rows):
            told = labelled or rows["article_ids_clicked"][0] is not None
        for block in _bounded(rows.with_row_index("line", first), "article_ids_inview"):
            yield _impressions(file, block, bad, told=told)


def _read_histories(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the histories of a ``history.parquet``, block by block, oldest click first."""
    there = parquet_schema(file)
    _check(file, there, _HISTORY)
    values = {column: new for column, new in _VALUE_COLUMNS.items() if column in there}
    for first, rows in parquet_blocks(file, _ROWS["history"], progress, [*_HISTORY, *values]):
        for block in _bounded(rows.with_row_index("line", first), "article_id_fixed"):
            yield _histories(file, block.rename(values), bad, tuple(values.values()))


_ARTICLES: dict[str, pl.DataType] = {
    "article_id": pl.Int64(),
    "title": pl.String(),
    "subtitle": pl.String(),
    "body": pl.String(),
    "category": pl.Int64(),
    "category_str": pl.String(),
    "subcategory": pl.List(pl.Int64),
    "ner_clusters": pl.List(pl.String),
    "entity_groups": pl.List(pl.String),
    "sentiment_label": pl.String(),
    "sentiment_score": pl.Float32(),
    "published_time": pl.Datetime("us"),
}
"""The columns that are read, and the type of one that is not there."""


def _articles(file: Path, rows: pl.DataFrame, bad: BadRows) -> pl.DataFrame:
    """Return the articles that are sound."""
    label = pl.col("sentiment_label").str.strip_chars().str.to_lowercase()
    score = pl.col("sentiment_score")
    checks = [
        Check("article_id", pl.col("article_id").is_null(), pl.lit("it is null"), "give the id"),
        Check(
            "entity_groups",
            pl.col("ner_clusters").list.len().fill_null(0) != pl.col("entity_groups").list.len().fill_null(0),
            pl.lit("not as many as ner_clusters"),
            "give each entity its group",
        ),
        Check(
            "sentiment_label",
            ~label.is_in(SENTIMENTS).fill_null(True),
            pl.format("'{}' is no sentiment", "sentiment_label"),
            f"write {', '.join(SENTIMENTS)}, or leave it null",
        ),
        Check(
            "sentiment_score",
            ~score.is_between(0, 1).fill_null(True),
            pl.format("{} is no confidence", "sentiment_score"),
            "give a number from 0 to 1, or leave it null",
        ),
    ]
    rows = drop_bad(rows, checks, bad, file)
    sign = pl.when(label == SENTIMENTS[0]).then(-1.0).when(label == SENTIMENTS[2]).then(1.0).otherwise(0.0)
    entities = [
        _entities(names, kinds) for names, kinds in rows.select("ner_clusters", "entity_groups").iter_rows()
    ]
    ready = rows.with_columns(
        article=pl.col("article_id").cast(pl.String),
        title=pl.col("title").fill_null(""),
        category=pl.coalesce("category_str", pl.col("category").cast(pl.String)),
        subcategory=pl.col("subcategory").list.first().cast(pl.String),
        entities=pl.Series(entities, dtype=pl.String),
        sentiment=label,
        sentiment_score=pl.when(label.is_not_null()).then(score.fill_null(1.0) * sign),
        published=_moment("published_time", rows.schema["published_time"]),
    )
    return in_schema(ready, ARTICLE_SCHEMA)


def _entities(names: list[str | None] | None, kinds: list[str | None] | None) -> str:
    """Return entities as MIND writes them."""
    pairs = zip(names or (), kinds or (), strict=True)
    return json.dumps([{"SurfaceForms": [name], "Type": kind} for name, kind in pairs if name])


def _impressions(file: Path, rows: pl.DataFrame, bad: BadRows, *, told: bool) -> pl.DataFrame:
    """Return the impressions that are sound."""
    shown, clicked = pl.col("article_ids_inview"), pl.col("article_ids_clicked")
    checks = [
        *(
            Check(column, pl.col(column).is_null(), pl.lit("it is null"), "fill it in")
            for column in ("impression_id", "user_id", "impression_time")
        ),
        Check(
            "article_ids_inview",
            shown.list.len().fill_null(0) == 0,
            pl.lit("there are none"),
            "remove the row or name the articles shown",
        ),
        Check(
            "article_ids_inview",
            shown.list.eval(pl.element().is_null()).list.any(),
            pl.lit("a null among the ids"),
            "remove it",
        ),
    ]
    if told:
        strangers = clicked.list.set_difference("article_ids_inview")
        checks += [
            Check(
                "article_ids_clicked",
                clicked.is_null(),
                pl.lit("it is null"),
                "give a list, empty where nothing was clicked",
            ),
            Check(
                "article_ids_clicked",
                strangers.list.len() > 0,
                pl.format("{} is not in view", strangers.list.first().cast(pl.String).fill_null("null")),
                "clicks must be among article_ids_inview",
            ),
        ]
    rows = drop_bad(rows, checks, bad, file)
    ready = rows.with_columns(
        impression=pl.col("impression_id").cast(pl.String),
        reader=pl.col("user_id").cast(pl.String),
        time=_moment("impression_time", rows.schema["impression_time"]),
        candidates=pl.col("article_ids_inview").cast(pl.List(pl.String)),
        clicked=_clicked(rows) if told else pl.col("article_ids_inview").list.eval(pl.lit(-1, dtype=pl.Int8)),
        beyond=pl.col("is_beyond_accuracy") if "is_beyond_accuracy" in rows.columns else pl.lit(False),
    )
    return in_schema(ready, IMPRESSION_SCHEMA)


def _clicked(rows: pl.DataFrame) -> pl.Series:
    """Return 1 or 0 for each candidate in view."""
    shown = rows.select("line", article="article_ids_inview").explode("article")
    clicks = rows.select("line", article="article_ids_clicked").explode("article").unique()
    marked = shown.join(
        clicks.with_columns(clicked=pl.lit(1, dtype=pl.Int8)),
        on=["line", "article"],
        how="left",
        maintain_order="left",
    )
    labels = marked.select("line", pl.col("clicked").fill_null(0))
    return labels.group_by("line", maintain_order=True).agg("clicked")["clicked"]


def _histories(file: Path, rows: pl.DataFrame, bad: BadRows, values: tuple[str, ...]) -> pl.DataFrame:
    """Return the histories that are sound, each in the order of time."""
    length = pl.col("article_id_fixed").list.len().fill_null(0)
    originals = {new: column for column, new in _VALUE_COLUMNS.items()}
    checks = [Check("user_id", pl.col("user_id").is_null(), pl.lit("it is null"), "fill it in")]
    for column in ("impression_time_fixed", *values):
        # What is known of the clicks may be null altogether; the times may not.
        given = pl.col(column).list.len()
        wrong = (given.fill_null(length) if column in values else given.fill_null(0)) != length
        problem = pl.format("{} for {} articles", given.fill_null(0), length)
        checks.append(
            Check(originals.get(column, column), wrong, problem, "give one for each of article_id_fixed")
        )
    for column in ("article_id_fixed", "impression_time_fixed"):
        wrong = pl.col(column).list.eval(pl.element().is_null()).list.any().fill_null(False)
        remedy = "remove that click from all lists"
        checks.append(Check(column, wrong, pl.lit("a null in the list"), remedy))
    rows = drop_bad(rows, checks, bad, file)
    ready = _in_order(rows, values).with_columns(
        reader=pl.col("user_id").cast(pl.String),
        history=pl.col("article_id_fixed").cast(pl.List(pl.String)),
    )
    return in_schema(ready, HISTORY_SCHEMA)


def _in_order(rows: pl.DataFrame, values: tuple[str, ...]) -> pl.DataFrame:
    """Return the histories with their clicks by time; most are so already."""
    backwards = pl.col("impression_time_fixed").list.eval(pl.element().cast(pl.Int64).diff() < 0).list.any()
    disordered = rows.select(backwards.fill_null(False)).to_series()
    if not disordered.any():
        return rows
    order = pl.col("impression_time_fixed").list.eval(pl.element().arg_sort())
    return rows.with_columns(
        pl.when(disordered).then(pl.col(column).list.gather(order)).otherwise(column).alias(column)
        for column in ("article_id_fixed", *values)
    )


def _bounded(rows: pl.DataFrame, column: str) -> Iterator[pl.DataFrame]:
    """Yield the rows in blocks of at most so many values of their lists; one row at least."""
    ends = rows[column].list.len().fill_null(0).cum_sum().to_numpy()
    start = 0
    while start < len(rows):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(ends.searchsorted(done + _VALUES, side="right")))
        yield rows[start:stop]
        start = stop


def _moment(column: str, kind: pl.DataType) -> pl.Expr:
    """Return a column of times in microseconds of UTC, without a zone."""
    moment = pl.col(column)
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        moment = moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return moment.cast(pl.Datetime("us"))


def _check(file: Path, there: pl.Schema, needed: dict[str, _Kind]) -> None:
    """Refuse a file that lacks a column, or has lists or times where there should be none."""
    for column, kind in needed.items():
        if column not in there:
            raise CounterpointError(
                f"{file}: the column {column!r} is missing; restore the original file or add the column."
            )
        for special in (pl.List, pl.Datetime):
            if (there[column] == special) != (kind == special):
                raise CounterpointError(
                    f"{file}: the column {column!r} has the type {there[column]}, expected "
                    f"{_KINDS.get(kind, 'ids or text')}; restore the original file."
                )


_KINDS: dict[_Kind, str] = {pl.List: "lists", pl.Datetime: "times"}


FORMAT = Format(
    name="ebnerd",
    summary="EB-NeRD: articles.parquet above train/, validation/, test/ with behaviors and history.parquet",
    article_files=("articles.parquet",),
    impression_files=("behaviors.parquet",),
    without_articles=(
        "put the articles beside it, use a recipe without texts, or write simulated articles with "
        "counterpoint simulate ebnerd --like {folder} --out NEW"
    ),
    articles=_read_articles,
    impressions=_read_impressions,
    day_begins=7,  # the publisher cut the weeks at 7 in the morning
    history_file="history.parquet",
    histories=_read_histories,
)
