"""MIND: ``news.tsv`` and ``behaviors.tsv``, tab separated, without header or quotes."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from counterpoint.news.data.rows import (
    ARTICLE_SCHEMA,
    IMPRESSION_SCHEMA,
    BadRows,
    drop_bad,
    in_schema,
    text_blocks,
)
from counterpoint.progress import Progress

TIME = "%m/%d/%Y %I:%M:%S %p"
NEWS = ("article", "category", "subcategory", "title", "abstract", "url", "entities", "abstract_entities")
BEHAVIORS = ("impression", "reader", "time", "history", "candidates")

name = "mind"
article_files: tuple[str, ...] = ("news.tsv",)
impression_files: tuple[str, ...] = ("behaviors.tsv",)
history_file: str | None = None
histories = None
day_begins = 0
without_articles = "put the articles beside it, or use a recipe without texts"


def articles(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the articles of a ``news.tsv``, block by block."""
    for numbers, lines in text_blocks(file, bad, progress):
        rows = _columns(file, numbers, lines, NEWS, bad)
        for field in ("article", "title"):
            rows = drop_bad(
                rows,
                pl.col(field).str.strip_chars() == "",
                bad,
                file,
                field,
                pl.lit("it is empty"),
                "fill it in or remove the row",
            )
        yield in_schema(rows, ARTICLE_SCHEMA)


def impressions(file: Path, bad: BadRows, progress: Progress, *, labelled: bool) -> Iterator[pl.DataFrame]:
    """Yield the impressions of a ``behaviors.tsv``, block by block.

    Where no label is demanded, a file whose first row has none is read as unlabelled throughout.
    """
    told = True if labelled else None
    for numbers, lines in text_blocks(file, bad, progress):
        rows = _columns(file, numbers, lines, BEHAVIORS, bad)
        if rows.is_empty():
            continue
        if told is None:
            told = rows["candidates"][0].rstrip().endswith(("-0", "-1"))
        rows = rows.with_columns(
            moment=pl.col("time").str.to_datetime(TIME, time_unit="us", strict=False),
            shown=_ids("candidates"),
        )
        rows = drop_bad(
            rows,
            pl.col("moment").is_null(),
            bad,
            file,
            "time",
            pl.format("'{}' is not a time", "time"),
            "write it like 11/11/2019 9:05:58 AM",
        )
        rows = drop_bad(
            rows,
            pl.col("shown").list.len() == 0,
            bad,
            file,
            "candidates",
            pl.lit("there are none"),
            "remove the row or name the articles shown",
        )
        if told:
            label = pl.element().str.tail(2)
            unlabelled = pl.col("shown").list.eval(pl.element().filter(~label.is_in(["-0", "-1"])))
            rows = drop_bad(
                rows,
                ~pl.col("shown").list.eval(label.is_in(["-0", "-1"])).list.all(),
                bad,
                file,
                "candidates",
                pl.format("'{}' does not end in -0 or -1", unlabelled.list.first()),
                "mark each candidate as clicked (-1) or not (-0)",
            )
            rows = rows.with_columns(
                clicked=pl.col("shown").list.eval((label == "-1").cast(pl.Int8)),
                shown=pl.col("shown").list.eval(pl.element().str.head(-2)),
            )
        else:
            rows = rows.with_columns(clicked=pl.col("shown").list.eval(pl.lit(-1, dtype=pl.Int8)))
        rows = rows.with_columns(history=_ids("history"), candidates="shown", time="moment")
        yield in_schema(rows, IMPRESSION_SCHEMA)


def _columns(
    file: Path, numbers: list[int], lines: list[str], names: tuple[str, ...], bad: BadRows
) -> pl.DataFrame:
    """Return the lines split at their tabs; one with another number of columns is bad."""
    rows = pl.DataFrame({"line": numbers, "row": lines}, schema={"line": pl.Int64, "row": pl.String})
    tabs = pl.col("row").str.count_matches("\t", literal=True)
    rows = drop_bad(
        rows,
        tabs != len(names) - 1,
        bad,
        file,
        "columns",
        pl.format(f"{{}} columns instead of {len(names)}", tabs + 1),
        f"give it {', '.join(names)}, separated by tabs",
    )
    split = pl.col("row").str.split_exact("\t", len(names) - 1).struct.rename_fields(names)
    return rows.with_columns(split.alias("_split")).unnest("_split")


def _ids(column: str) -> pl.Expr:
    """Return a column of ids separated by spaces as lists; no text is no id."""
    return pl.col(column).str.strip_chars().str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
