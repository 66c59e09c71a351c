"""The raw formats of news: one file each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from counterpoint.progress import Progress
from counterpoint.storage.formats import Formats

if TYPE_CHECKING:
    import polars as pl

    from counterpoint.storage.rows import BadRows


class ReadImpressions(Protocol):
    """Reads a file of impressions."""

    def __call__(
        self, file: Path, bad: "BadRows", progress: Progress, *, labelled: bool
    ) -> "Iterator[pl.DataFrame]":
        """Yield blocks of `IMPRESSION_SCHEMA`; where ``labelled``, a candidate without its label is bad."""
        ...


@dataclass(frozen=True)
class Format:
    """A raw format of news; the schemas stand in `counterpoint.news.data.rows`.

    Attributes:
        name: what ``--format`` calls it.
        summary: what it is, in a line.
        article_files: possible names of the file of articles, best first.
        impression_files: possible names of the file of impressions, best first.
        without_articles: what to do where the articles are missing.
        articles: yields blocks of `ARTICLE_SCHEMA`.
        impressions: yields blocks of `IMPRESSION_SCHEMA`.
        own: whether it is for logs of one's own.
        day_begins: the hour of the day at which the publisher cut the data into days.
        history_file: name of the file beside it where each reader's history stands, if that is so.
        histories: yields blocks of `HISTORY_SCHEMA` from that file.
    """

    name: str
    summary: str
    article_files: tuple[str, ...]
    impression_files: tuple[str, ...]
    without_articles: str
    articles: "Callable[[Path, BadRows, Progress], Iterator[pl.DataFrame]]"
    impressions: ReadImpressions
    own: bool = False
    day_begins: int = 0
    history_file: str | None = None
    histories: "Callable[[Path, BadRows, Progress], Iterator[pl.DataFrame]] | None" = None


FORMATS = Formats(__name__, Format)
