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


def _named(*stems: str) -> tuple[str, ...]:
    return tuple(f"{stem}*{suffix}" for stem in stems for suffix in SUFFIXES)


FORMAT = Format(
    name="table",
    patterns=_named("train", "views"),
    columns=_columns,
    validation=_named("validation"),
    test=_named("test"),
)
