"""What a raw format is: which files, which columns, which labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True)
class Chosen:
    """The columns of a log in their roles.

    Attributes:
        user: whose views count together; none where there are no users.
        item: what is viewed, or none.
        time: a whole number that ascends, or none.
        ids: with one id in each row.
        numbers: with one number in each row.
        lists: with any number of ids in each row.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    ids: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


@dataclass(frozen=True)
class Joined:
    """A table of features beside the log, one row for each value of a key.

    Attributes:
        patterns: how its file is named.
        key: the column that it has in common with the log.
        needed: whether the log cannot be read without it.
    """

    patterns: tuple[str, ...]
    key: str
    needed: bool = False


@dataclass(frozen=True)
class Format:
    """A raw format: one module each.

    Attributes:
        name: what ``--format`` calls it.
        patterns: how the files of the log are named; several are read one after another.
        columns: what the columns are, given all there are.
        labels: the label rules, given all columns; none where only the recipe can say.
        validation: how files of validation rows are named, if the data brings its split.
        test: how files of test rows are named.
        joined: tables of features beside the log.
        header: the columns, where the first line does not name them.
        separator: between the fields of a file that is no Parquet.
        list_separator: between the ids in a field of a list column.
        derived: columns that are made of others: of which one, and how, given its text.
        truth: by label, the column with its true probability, in simulated data.
    """

    name: str
    patterns: tuple[str, ...]
    columns: Callable[[Sequence[str]], Chosen]
    labels: Callable[[Sequence[str]], Mapping[str, str]] = lambda columns: {}
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    joined: tuple[Joined, ...] = ()
    header: tuple[str, ...] | None = None
    separator: str = ","
    list_separator: str = ";"
    derived: Mapping[str, tuple[str, pl.Expr]] = field(default_factory=dict)
    truth: Callable[[Sequence[str]], Mapping[str, str]] = lambda columns: {}


def among(columns: Sequence[str], *wanted: str) -> tuple[str, ...]:
    """Return the wanted columns that there are."""
    return tuple(name for name in wanted if name in columns)


def beginning(columns: Sequence[str], *stems: str) -> tuple[str, ...]:
    """Return the columns whose names begin with one of the stems."""
    return tuple(name for name in columns if name.startswith(stems))
