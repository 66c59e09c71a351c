"""What every reader of raw news logs hands on."""

import polars as pl

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

Entities are MIND's JSON lists, empty text where there are none. ``sentiment`` is one of
`counterpoint.news.data.sentiment.SENTIMENTS`; its score lies in [-1, 1] and is negative for negative ones.
"""

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


def in_schema(rows: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return the columns of ``schema`` in its order and types; one that is not there is null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    )
