"""How the columns of raw behaviour logs are checked."""

from collections.abc import Sequence

import polars as pl

from counterpoint.storage.rows import Check
from counterpoint.storage.text_tables import said


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
