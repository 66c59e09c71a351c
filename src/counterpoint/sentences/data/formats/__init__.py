"""The raw formats of sentences: one file each."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from counterpoint.progress import Progress
from counterpoint.storage.formats import Formats

if TYPE_CHECKING:
    import polars as pl

    from counterpoint.sentences.recipe import Task
    from counterpoint.storage.rows import BadRows


class ReadRows(Protocol):
    """Reads a file of one task."""

    def __call__(
        self, file: Path, task: "Task", *, labelled: bool, bad: "BadRows", progress: Progress
    ) -> "pl.DataFrame":
        """Return its sound rows in their order, as `formats.sentences.read_rows` has them."""
        ...


@dataclass(frozen=True)
class Format:
    """A raw format of sentences: files for each task, named as the recipe says.

    Attributes:
        name: what ``--format`` calls it.
        summary: what it is, in a line.
        suffixes: what its files end in.
        rows: reads one of them.
        own: whether it is for files of one's own.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    rows: ReadRows
    own: bool = True


FORMATS = Formats(__name__, Format)
