"""The raw formats of logs of behaviours: one file each."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint.progress import Progress
from counterpoint.storage.formats import Formats

if TYPE_CHECKING:
    import polars as pl

    from counterpoint.storage.rows import BadRows

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


def others_than(target: str) -> str:
    """Return the name of the count of held-out rows that are dropped, after that of their split."""
    return f"rows of other behaviours than {target}"


@dataclass(frozen=True)
class Format:
    """A raw format of logs of behaviours.

    Attributes:
        name: what ``--format`` calls it.
        summary: what it is, in a line.
        patterns: how its files are named.
        rows: yields blocks of sound rows, in the order of the file. Their columns are user and item (both
            Int64 or String), behaviour (a name of this package) and, where the log has times, time (Int64, of
            any unit that ascends).
        suffixes: what its files must end in, where that is not said by the patterns.
        own: whether it is for logs of one's own.
        pairs: yields blocks of user and item, the sound pairs of ``target`` that the file of a split holds
            out; none where no such files stand beside a log. Rows of other behaviours are counted as
            `others_than` says.
    """

    name: str
    summary: str
    patterns: tuple[str, ...]
    rows: "Callable[[Path, BadRows, Counter[str], Progress], Iterator[pl.DataFrame]]"
    suffixes: tuple[str, ...] = ()
    own: bool = False
    pairs: "Callable[[Path, str, str, BadRows, Counter[str], Progress], Iterator[pl.DataFrame]] | None" = None


FORMATS = Formats(__name__, Format)
