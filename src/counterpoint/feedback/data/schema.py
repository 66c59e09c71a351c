"""What a row of feedback consists of: its columns, and how many values those of ids know."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Column:
    """A column of ids.

    Attributes:
        name: of the column.
        size: rows of its vocabulary; row 0 is the bucket of unknown ids.
    """

    name: str
    size: int


@dataclass(frozen=True)
class Schema:
    """The columns that a model takes, in order, and the labels that it predicts.

    Attributes:
        ids: columns with one id in each row.
        numbers: columns of numbers, standardised.
        lists: columns with any number of ids in each row.
        labels: what is predicted; each is 1 or 0 in each row.
    """

    ids: tuple[Column, ...]
    numbers: tuple[str, ...]
    lists: tuple[Column, ...]
    labels: tuple[str, ...]

    @property
    def fields(self) -> int:
        """How many columns a model takes."""
        return len(self.ids) + len(self.numbers) + len(self.lists)

    def as_dict(self) -> dict[str, Any]:
        """Return the schema as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Return the schema that `as_dict` told, also by way of JSON."""
        return cls(
            ids=tuple(Column(**each) for each in given["ids"]),
            numbers=tuple(given["numbers"]),
            lists=tuple(Column(**each) for each in given["lists"]),
            labels=tuple(given["labels"]),
        )
