"""MIND: ``news.tsv`` and ``behaviors.tsv``, tab separated, without header or quotes."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from counterpoint.news.data.formats import Format
from counterpoint.news.data.rows import ARTICLE_SCHEMA, IMPRESSION_SCHEMA, in_schema
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, Check, drop_bad, line_blocks

TIME = "%m/%d/%Y %I:%M:%S %p"
NEWS = ("article", "category", "subcategory", "title", "abstract", "url", "entities", "abstract_entities")
BEHAVIORS = ("impression", "reader", "time", "history", "candidates")


def _read_articles(file: Path, bad: BadRows, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the articles of a ``news.tsv``, block by block."""
    checks = [
        Check(
            field,
            pl.col(field).str.strip_chars() == "",
            pl.lit("it is empty"),
            "fill it in or remove the row",
        )
        for field in ("article", "title")
    ]
    for lines in line_blocks(file, bad, progress):
        rows = drop_bad(_columns(file, lines, NEWS, bad), checks, bad, file)
        yield in_schema(rows, ARTICLE_SCHEMA)


def _read_impressions(
    file: Path, bad: BadRows, progress: Progress, *, labelled: bool
) -> Iterator[pl.DataFrame]:
    """Yield the impressions of a ``behaviors.tsv``, block by block.

    Where no label is demanded, a file whose first row has none is read as unlabelled throughout.
    """
    told = True if labelled else None
    label = pl.element().str.tail(2)
    for lines in line_blocks(file, bad, progress):
        rows = _columns(file, lines, BEHAVIORS, bad)
        if rows.is_empty():
            continue
        if told is None:
            told = rows["candidates"][0].rstrip().endswith(("-0", "-1"))
        rows = rows.with_columns(
            moment=pl.col("time").str.to_datetime(TIME, time_unit="us", strict=False),
            shown=_ids("candidates"),
        )
        rows = drop_bad(rows, [_TIMED, _SHOWN, *([_LABELLED] if told else [])], bad, file)
        if told:
            rows = rows.with_columns(
                clicked=pl.col("shown").list.eval((label == "-1").cast(pl.Int8)),
                shown=pl.col("shown").list.eval(pl.element().str.head(-2)),
            )
        else:
            rows = rows.with_columns(clicked=pl.col("shown").list.eval(pl.lit(-1, dtype=pl.Int8)))
        rows = rows.with_columns(history=_ids("history"), candidates="shown", time="moment")
        yield in_schema(rows, IMPRESSION_SCHEMA)


_TIMED = Check(
    "time",
    pl.col("moment").is_null(),
    pl.format("'{}' is not a time", "time"),
    "write it like 11/11/2019 9:05:58 AM",
)
_SHOWN = Check(
    "candidates",
    pl.col("shown").list.len() == 0,
    pl.lit("there are none"),
    "remove the row or name the articles shown",
)
_IS_LABELLED = pl.element().str.tail(2).is_in(["-0", "-1"])
_LABELLED = Check(
    "candidates",
    ~pl.col("shown").list.eval(_IS_LABELLED).list.all(),
    pl.format(
        "'{}' does not end in -0 or -1",
        pl.col("shown").list.eval(pl.element().filter(~_IS_LABELLED)).list.first(),
    ),
    "mark each candidate as clicked (-1) or not (-0)",
)


def _columns(file: Path, lines: pl.DataFrame, names: tuple[str, ...], bad: BadRows) -> pl.DataFrame:
    """Return the lines split at their tabs; one with another number of columns is bad."""
    tabs = pl.col("row").str.count_matches("\t", literal=True)
    regular = Check(
        "columns",
        tabs != len(names) - 1,
        pl.format(f"{{}} columns instead of {len(names)}", tabs + 1),
        f"give it {', '.join(names)}, separated by tabs",
    )
    split = pl.col("row").str.split_exact("\t", len(names) - 1).struct.rename_fields(names)
    rows = drop_bad(lines, [regular], bad, file)
    return rows.with_columns(split.alias("_split")).unnest("_split")


def _ids(column: str) -> pl.Expr:
    """Return a column of ids separated by spaces as lists; no text is no id."""
    return pl.col(column).str.strip_chars().str.split(" ").list.eval(pl.element().filter(pl.element() != ""))


FORMAT = Format(
    name="mind",
    summary="MIND: news.tsv and behaviors.tsv, in train/, dev/ or valid/, test/, or in one folder",
    article_files=("news.tsv",),
    impression_files=("behaviors.tsv",),
    without_articles="put the articles beside it, or use a recipe without texts",
    articles=_read_articles,
    impressions=_read_impressions,
)
