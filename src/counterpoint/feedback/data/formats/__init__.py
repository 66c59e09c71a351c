"""What a raw format is: which files, which columns, which labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from counterpoint.progress import Progress
from counterpoint.storage.formats import Formats

if TYPE_CHECKING:
    import polars as pl

    from counterpoint.storage.rows import BadRows


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


class Reader(Protocol):
    """Reads a file whose lines are no rows of a table."""

    def __call__(
        self,
        file: Path,
        partner: Path | None,
        wanted: Sequence[str],
        lists: Sequence[str],
        bad: "BadRows",
        progress: Progress,
    ) -> "Iterator[pl.DataFrame]":
        """Yield its rows in blocks: ``line``, ``row`` and the wanted columns as text, or as lists of texts.

        Args:
            file: the file.
            partner: the one that goes with it, if the format has such.
            wanted: the columns to return.
            lists: those of them that are list columns.
            bad: what to do with malformed rows.
            progress: told how far the reading is.
        """


@dataclass(frozen=True)
class Format:
    """A raw format: one module each.

    Attributes:
        name: what ``--format`` calls it.
        summary: what it is, in a line.
        patterns: how the files of the log are named; several are read one after another.
        columns: what the columns are, given all there are.
        own: whether it is for tables of one's own.
        labels: the label rules, given all columns; none where only the recipe can say.
        validation: how files of validation rows are named, if the data brings its split.
        test: how files of test rows are named.
        joined: tables of features beside the log.
        header: the columns, where the first line does not name them.
        separator: between the fields of a file that is no Parquet.
        list_separator: between the ids in a field of a list column.
        derived: columns that are made of others: of which one, and how, given its text.
        truth: by label, the column with its true probability, in simulated data.
        read: how lines become rows, where they are not simply separated fields.
        partner: what the name of the file that goes with each of the log's has in place of what.
    """

    name: str
    summary: str
    patterns: tuple[str, ...]
    columns: Callable[[Sequence[str]], Chosen]
    own: bool = False
    labels: Callable[[Sequence[str]], Mapping[str, str]] = lambda columns: {}
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    joined: tuple[Joined, ...] = ()
    header: tuple[str, ...] | None = None
    separator: str = ","
    list_separator: str = ";"
    derived: "Mapping[str, tuple[str, pl.Expr]]" = field(default_factory=dict)
    truth: Callable[[Sequence[str]], Mapping[str, str]] = lambda columns: {}
    read: Reader | None = None
    partner: tuple[str, str] | None = None

    def partner_of(self, file: Path) -> Path | None:
        """Return the file that goes with one of the log's, none where the format has no such files."""
        return None if self.partner is None else file.with_name(file.name.replace(*self.partner))


def among(columns: Sequence[str], *wanted: str) -> tuple[str, ...]:
    """Return the wanted columns that there are."""
    return tuple(name for name in wanted if name in columns)


def beginning(columns: Sequence[str], *stems: str) -> tuple[str, ...]:
    """Return the columns whose names begin with one of the stems."""
    return tuple(name for name in columns if name.startswith(stems))


FORMATS = Formats(__name__, Format)
