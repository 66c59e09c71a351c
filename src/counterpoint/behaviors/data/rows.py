"""What every reader of raw behaviour logs hands on, and how their columns are checked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, Check
from counterpoint.storage.text_tables import said

OUTSIDE = "rows outside the window"
"""The count of rows that a reader drops because their time is not the data set's."""

SYNONYMS = {
    "pv": "click",
    "view": "click",
    "fav": "favourite",
    "favorite": "favourite",
    "purchase": "buy",
}
"""What the behaviours of any format are called here; other names are kept as they are."""


class Format(Protocol):
    """A raw format: one module each.

    Attributes:
        name: what ``--format`` calls it.
        patterns: how its files are named.
    """

    name: str
    patterns: tuple[str, ...]

    def rows(
        self, file: Path, bad: BadRows, counts: Counter[str], progress: Progress
    ) -> Iterator[pl.DataFrame]:
        """Yield blocks of sound rows, in the order of the file.

        Their columns are user and item (both Int64 or String), behaviour (a name of this package) and, where
        the log has times, time (Int64, of any unit that ascends).
        """
        ...


def whole_number(field: str, *, signed: bool = False) -> Check:
    """Refuse what is no whole number, or one below 0 unless ``signed``, in a column of text."""
    number = pl.col(field).cast(pl.Int64, strict=False)
    wrong = number.is_null() if signed else number.is_null() | (number < 0)
    what = "no whole number" if signed else "no whole number of 0 or more"
    return Check(field, wrong, said(field, what), "correct it or remove the row")


def one_of(field: str, known: Sequence[str]) -> Check:
    """Refuse what is none of the ``known`` words in a column of text."""
    remedy = f"known are {', '.join(known)}"
    return Check(field, ~pl.col(field).is_in(list(known)), said(field, "unknown"), remedy)
