"""One's own table: CSV, tab-separated, JSON lines or Parquet, whose columns and labels the recipe declares.

Files that begin with ``train`` or ``views`` are the log; those that begin with ``validation`` and ``test``
are held out as they are. Ids in a list are separated by semicolons, or are lists in JSON and Parquet. The
first object of JSON lines names the columns; those after it may leave some out.
"""

from collections.abc import Sequence

from counterpoint.feedback.data.formats import Chosen, Format, among

JSON = (".jsonl", ".ndjson")
SUFFIXES = (".parquet", ".csv", ".tsv", *JSON)


def _columns(columns: Sequence[str]) -> Chosen:
    return Chosen(
        user="user",
        item=next(iter(among(columns, "item")), None),
        time=next(iter(among(columns, "time")), None),
    )


def named(stems: Sequence[str], suffixes: Sequence[str] = SUFFIXES) -> tuple[str, ...]:
    """Return how files are named that begin with one of the stems and end with one of the suffixes."""
    return tuple(f"{stem}*{suffix}" for stem in stems for suffix in suffixes)


LOG, VALIDATION, TEST = ("train", "views"), ("validation",), ("test",)

FORMAT = Format(
    name="table",
    summary="your own: views* or train* (.csv, .tsv, .jsonl, .parquet), declared by the recipe",
    patterns=named(LOG),
    columns=_columns,
    own=True,
    validation=named(VALIDATION),
    test=named(TEST),
)
