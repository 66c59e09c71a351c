"""Data without a file of articles: the articles are the ids that occur."""

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from counterpoint.news.data.layout import Source
from counterpoint.news.data.rows import ARTICLE_SCHEMA, in_schema
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows


def bare_articles(source: Source, progress: Progress) -> pl.DataFrame:
    """Return the distinct ids of candidates and histories, in order, as articles without any text."""
    ids = pl.DataFrame({"article": []}, schema={"article": pl.String})
    for column in _columns(source, progress):
        found = column.explode(empty_as_null=False).drop_nulls().unique()
        ids = pl.concat([ids, found.rename("article").to_frame()]).unique()
    ids = ids.sort(pl.col("article").str.len_bytes(), "article").with_columns(title=pl.lit(""))
    return in_schema(ids.with_row_index("line", 1), ARTICLE_SCHEMA)


def _columns(source: Source, progress: Progress) -> Iterator[pl.Series]:
    """Yield every list of ids, block by block; what is malformed is told when it is read again."""
    unheard = BadRows("skip", Path(os.devnull))
    for part in source.parts:
        if part.histories is not None and source.format.histories is not None:
            for block in source.format.histories(part.histories, unheard, progress):
                yield block["history"]
        labelled = part.role != "test"
        for block in source.format.impressions(part.impressions, unheard, progress, labelled=labelled):
            yield block["candidates"]
            yield block["history"]
