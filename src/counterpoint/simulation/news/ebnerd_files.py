"""EB-NeRD's files: their columns and types, the simulated articles' rows, and writing part by part."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.simulation.news.danish import SENTIMENTS, Article
from counterpoint.simulation.news.headlines import Category

START = datetime(2025, 9, 22, 7)
MOMENT = pl.Datetime("us")
FIRST_CATEGORY, FIRST_SUBCATEGORY = 101, 1001

ARTICLES = {
    "article_id": pl.Int32(),
    "title": pl.String(),
    "subtitle": pl.String(),
    "last_modified_time": MOMENT,
    "premium": pl.Boolean(),
    "body": pl.String(),
    "published_time": MOMENT,
    "image_ids": pl.List(pl.Int64),
    "article_type": pl.String(),
    "url": pl.String(),
    "ner_clusters": pl.List(pl.String),
    "entity_groups": pl.List(pl.String),
    "topics": pl.List(pl.String),
    "category": pl.Int16(),
    "subcategory": pl.List(pl.Int16),
    "category_str": pl.String(),
    "total_inviews": pl.Int32(),
    "total_pageviews": pl.Int32(),
    "total_read_time": pl.Float32(),
    "sentiment_score": pl.Float32(),
    "sentiment_label": pl.String(),
}
BEHAVIORS = {
    "impression_id": pl.UInt32(),
    "article_id": pl.Int32(),
    "impression_time": MOMENT,
    "read_time": pl.Float32(),
    "scroll_percentage": pl.Float32(),
    "device_type": pl.Int8(),
    "article_ids_inview": pl.List(pl.Int32),
    "article_ids_clicked": pl.List(pl.Int32),
    "user_id": pl.UInt32(),
    "is_sso_user": pl.Boolean(),
    "gender": pl.Int8(),
    "postcode": pl.Int8(),
    "age": pl.Int8(),
    "is_subscriber": pl.Boolean(),
    "session_id": pl.UInt32(),
    "next_read_time": pl.Float32(),
    "next_scroll_percentage": pl.Float32(),
}
_LABELS = ("article_id", "article_ids_clicked", "next_read_time", "next_scroll_percentage")
UNLABELLED = {name: kind for name, kind in BEHAVIORS.items() if name not in _LABELS} | {
    "is_beyond_accuracy": pl.Boolean()
}
HISTORY = {
    "user_id": pl.UInt32(),
    "impression_time_fixed": pl.List(MOMENT),
    "scroll_percentage_fixed": pl.List(pl.Float32),
    "article_id_fixed": pl.List(pl.Int32),
    "read_time_fixed": pl.List(pl.Float32),
}
TRUTH = {
    "impression": pl.UInt32(),
    "probability": pl.List(pl.Float32),
    "position_free": pl.List(pl.Float32),
    "position": pl.List(pl.UInt16),
}

Columns = dict[str, pl.DataType]


class PartedFile:
    """A Parquet file written in parts, joined at the end, so that memory holds one part at a time."""

    def __init__(self, target: Path, columns: Columns) -> None:
        target.parent.mkdir(exist_ok=True)
        self._target, self._columns = target, columns
        self._parts: list[Path] = []
        self._last: list[Path] = []

    def append(self, rows: pl.DataFrame, *, last: bool = False) -> None:
        """Add rows, of which the file takes its columns; ``last``: behind all those that are not last."""
        part = self._target.with_suffix(f".{len(self._parts) + len(self._last):06d}")
        rows.select(pl.col(name).cast(kind) for name, kind in self._columns.items()).write_parquet(part)
        (self._last if last else self._parts).append(part)

    def finish(self) -> None:
        """Join the parts."""
        parts = [*self._parts, *self._last]
        pl.scan_parquet(parts, glob=False).sink_parquet(self._target, row_group_size=2**16)
        for part in parts:
            part.unlink()


def moments(seconds: Int[np.ndarray, " times"]) -> pl.Series:
    """The moments so many seconds after the start."""
    return pl.Series(np.datetime64(START, "us") + seconds.astype("timedelta64[s]"), dtype=MOMENT)


def article_rows(
    chance: random.Random,
    categories: Sequence[Category],
    articles: Sequence[tuple[int, int, int, datetime, Article]],
) -> pl.DataFrame:
    """The rows of ``articles.parquet``, whose totals are left empty.

    ``articles`` are ids, subcategories (counted over all categories), sentiments (-1, 0, 1), times and texts.
    """
    each = len(categories[0].subcategories)
    names = [name for category in categories for name in category.subcategories]
    columns: dict[str, list[object]] = {name: [] for name in ARTICLES}
    for number, subcategory, sentiment, published, article in articles:
        category = categories[subcategory // each]
        # A second subcategory is the editors' whim: only the first one drives clicks.
        listed = [subcategory] + [chance.randrange(len(names))] * (chance.random() < 0.25)
        row = {
            "article_id": number,
            "title": article.title,
            "subtitle": article.subtitle,
            "last_modified_time": published + timedelta(seconds=int(chance.expovariate(1 / 7200))),
            "premium": chance.random() < 0.1,
            "body": article.body,
            "published_time": published,
            "image_ids": [chance.randrange(10**6, 10**7) for _ in range(chance.randrange(4))],
            "article_type": "article_default" if chance.random() < 0.9 else "article_feature",
            "url": f"https://simulated.example/{category.name}/{number}",
            "ner_clusters": [entity.label for entity in article.entities],
            "entity_groups": [entity.kind for entity in article.entities],
            "topics": list(dict.fromkeys(names[index].capitalize() for index in listed)),
            "category": FIRST_CATEGORY + subcategory // each,
            "subcategory": [FIRST_SUBCATEGORY + index for index in dict.fromkeys(listed)],
            "category_str": category.name,
            "total_inviews": None,
            "total_pageviews": None,
            "total_read_time": None,
            "sentiment_score": round(chance.uniform(0.5, 1.0), 4),
            "sentiment_label": SENTIMENTS[sentiment + 1],
        }
        for name, value in row.items():
            columns[name].append(value)
    return pl.DataFrame(columns, schema=ARTICLES)
