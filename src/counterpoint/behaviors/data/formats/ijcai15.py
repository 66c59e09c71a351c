"""The log of IJCAI-15's contest (Tmall) as it is published: CSV with a header.

Needed are user_id, item_id, time_stamp (a day of 2014 as MMDD) and action_type (0 click, 1 cart, 2 buy,
3 favourite); category, seller and brand are ignored.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from counterpoint.behaviors.data.checks import one_of, whole_number
from counterpoint.behaviors.data.formats import Format
from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, Check, drop_bad
from counterpoint.storage.text_tables import csv_blocks, csv_header

_NEEDED = ("user_id", "item_id", "time_stamp", "action_type")
_BEHAVIOURS = {"0": "click", "1": "cart", "2": "buy", "3": "favourite"}


def _read_rows(file: Path, bad: BadRows, counts: Counter[str], progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the rows."""
    header = csv_header(file)
    missing = [column for column in _NEEDED if header.count(column) != 1]
    if missing:
        raise CounterpointError(
            f"{file}, line 1: no column is called {missing[0]!r}, or more than one; the header must name "
            f"{', '.join(_NEEDED)} once each."
        )
    number = pl.col("time_stamp").cast(pl.Int64, strict=False)
    checks = [
        whole_number("user_id"),
        whole_number("item_id"),
        whole_number("time_stamp"),
        Check(
            "time_stamp",
            ~((number // 100).is_between(1, 12) & (number % 100).is_between(1, 31)),
            pl.format("'{}' is no day", pl.col("time_stamp")),
            "write month and day as MMDD",
        ),
        one_of("action_type", tuple(_BEHAVIOURS)),
    ]
    for block in csv_blocks(file, header, _NEEDED, bad, progress, header=True):
        yield drop_bad(block, checks, bad, file).select(
            user=pl.col("user_id").cast(pl.Int64),
            item=pl.col("item_id").cast(pl.Int64),
            behaviour=pl.col("action_type").replace(_BEHAVIOURS),
            time=pl.col("time_stamp").cast(pl.Int64),
        )


FORMAT = Format(
    name="ijcai15",
    summary="IJCAI-15 (Tmall): *user_log*.csv with its header",
    patterns=("*user_log*.csv",),
    rows=_read_rows,
)
