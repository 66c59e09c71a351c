"""Taobao's UserBehavior-2017 as it is published: CSV without a header, 100 million rows.

User, item, category, behaviour (pv, buy, cart, fav), seconds since 1970. The data set's nine days are
those of Beijing, from 25 November to 3 December 2017; a few rows lie outside them, some by years.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from counterpoint.behaviors.data.checks import one_of, whole_number
from counterpoint.behaviors.data.formats import OUTSIDE, SYNONYMS, Format
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, drop_bad
from counterpoint.storage.text_tables import csv_blocks

BEGIN = int(datetime(2017, 11, 24, 16, tzinfo=UTC).timestamp())
END = int(datetime(2017, 12, 3, 16, tzinfo=UTC).timestamp())

_COLUMNS = ("user", "item", "category", "behaviour", "time")
_USED = ("user", "item", "behaviour", "time")
_BEHAVIOURS = ("pv", "buy", "cart", "fav")


def _read_rows(file: Path, bad: BadRows, counts: Counter[str], progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the rows of the nine days; counts the others."""
    checks = [
        whole_number("user"),
        whole_number("item"),
        one_of("behaviour", _BEHAVIOURS),
        whole_number("time", signed=True),  # some moments lie before 1970
    ]
    for block in csv_blocks(file, _COLUMNS, _USED, bad, progress, header=False, quotes=False):
        sound = drop_bad(block, checks, bad, file).select(
            pl.col("user", "item").cast(pl.Int64),
            pl.col("behaviour").replace(SYNONYMS),
            pl.col("time").cast(pl.Int64),
        )
        inside = sound.filter(pl.col("time").is_between(BEGIN, END, closed="left"))
        counts[OUTSIDE] += len(sound) - len(inside)
        yield inside


FORMAT = Format(
    name="userbehavior",
    summary="Taobao's UserBehavior-2017: UserBehavior*.csv without a header",
    patterns=("UserBehavior*.csv",),
    rows=_read_rows,
)
