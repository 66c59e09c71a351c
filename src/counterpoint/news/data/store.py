"""The prepared store: a news data set on disk, memory-mapped, tied to its tokenizer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Int, Shaped

from counterpoint.errors import CounterpointError
from counterpoint.files import read_json
from counterpoint.news.data.arrays import gather, ranges

FORMAT = 1
UNKNOWN = 0
"""The article in the first row, which stands for every candidate that has no article."""

_DAY = 86_400_000_000

Split = Literal["train", "validation", "test", "unlabelled"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "unlabelled")


@dataclass(frozen=True)
class Impressions:
    """Some impressions of a store, as flat arrays.

    Attributes:
        rows: their rows in the store.
        offsets: where each impression's candidates begin; one more at the end.
        candidates: article rows.
        clicked: 1, 0, or -1 where not told.
        history: row of each impression's history.
        time: microseconds since 1970.
    """

    rows: Int[np.ndarray, " impressions"]
    offsets: Int[np.ndarray, " impressions+1"]
    candidates: Int[np.ndarray, " candidates"]
    clicked: Int[np.ndarray, " candidates"]
    history: Int[np.ndarray, " impressions"]
    time: Int[np.ndarray, " impressions"]

    def __len__(self) -> int:
        return len(self.rows)


class Store:
    """A prepared store, opened for reading; arrays are mapped, not loaded.

    Args:
        path: its folder.

    Raises:
        CounterpointError: it is no store, incomplete, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "manifest.json").is_file():
            raise CounterpointError(f"{path}: not a prepared store; run counterpoint prepare first.")
        self.manifest: dict[str, Any] = read_json(path / "manifest.json")
        if self.manifest.get("format") != FORMAT:
            raise CounterpointError(
                f"{path}: a store of version {self.manifest.get('format')}, this program reads version {FORMAT}; "
                "prepare the data again."
            )

    def require(self, fingerprint: str, tokenizer: str, max_title_tokens: int) -> None:
        """Refuse a tokenizer or a title length that the store was not made with."""
        made = self.manifest["tokenizer"]
        if made["fingerprint"] != fingerprint:
            raise CounterpointError(
                f"{self.path}: tokenised for {made['name']!r}, not for {tokenizer!r}; prepare the data again with "
                f"--encoder {tokenizer}."
            )
        if made["max_title_tokens"] != max_title_tokens:
            raise CounterpointError(
                f"{self.path}: titles were cut at {made['max_title_tokens']} tokens, the recipe asks for "
                f"{max_title_tokens}; prepare the data again or set data.max_title_tokens."
            )

    @property
    def counts(self) -> dict[str, int]:
        """What preparation counted."""
        counts: dict[str, int] = self.manifest["counts"]
        return counts

    @property
    def labels(self) -> dict[str, list[str]]:
        """The names of categories, subcategories and entity types, by number."""
        labels: dict[str, list[str]] = self.manifest["labels"]
        return labels

    @cached_property
    def articles(self) -> pl.DataFrame:
        """Ids and texts; row 0 is the unknown article."""
        return pl.read_parquet(self.path / "articles.parquet", columns=["article", "title", "category", "published"])

    @cached_property
    def article_rows(self) -> dict[str, int]:
        """The row of each article id."""
        return {article: row for row, article in enumerate(self.articles["article"]) if row != UNKNOWN}

    def labels_of(self, field: str) -> Int[np.ndarray, " articles"]:
        """Return each article's label under ``category`` or ``subcategory``, -100 where it has none."""
        return self._array(f"{field}_labels")

    def truth(self, rows: Int[np.ndarray, " impressions"]) -> Float[np.ndarray, " candidates"] | None:
        """Return the true click probability of every candidate, which only simulated data knows."""
        if not self.manifest["simulated"]:
            return None
        return gather(self._array("truth"), self._array("candidate_offsets"), rows)[0]

    def titles(
        self, articles: Int[np.ndarray, " titles"]
    ) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, " tokens"], Int[np.ndarray, " titles"]]:
        """Return tokens, typed BIO tags and lengths of the titles of ``articles``."""
        offsets = self._array("title_offsets")
        tokens, lengths = gather(self._array("title_tokens"), offsets, articles)
        tags, _ = gather(self._array("title_tags"), offsets, articles)
        return tokens, tags, lengths

    def title_lengths(self) -> Int[np.ndarray, " articles"]:
        """Return the number of tokens of every title."""
        return np.diff(self._array("title_offsets"))

    def split(self, name: str) -> Int[np.ndarray, " impressions"]:
        """Return the rows of a split, in the order of the files.

        Raises:
            CounterpointError: the store has no such split.
        """
        known = [split for split in SPLITS if self.manifest["splits"].get(split)]
        if name not in known:
            raise CounterpointError(f"{self.path}: no impressions in split {name!r}; it has {', '.join(known)}.")
        return np.flatnonzero(np.asarray(self._array("split")) == SPLITS.index(name))  # type: ignore[arg-type]

    def impressions(self, rows: Int[np.ndarray, " impressions"]) -> Impressions:
        """Return the impressions at ``rows``."""
        offsets = self._array("candidate_offsets")
        candidates, lengths = gather(self._array("candidates"), offsets, rows)
        clicked, _ = gather(self._array("clicked"), offsets, rows)
        return Impressions(
            rows,
            np.concatenate(([0], np.cumsum(lengths))),
            candidates,
            clicked,
            np.asarray(self._array("history")[rows]),
            np.asarray(self._array("time")[rows]),
        )

    def histories(
        self, rows: Int[np.ndarray, " histories"], most: int
    ) -> tuple[Int[np.ndarray, " articles"], Int[np.ndarray, " histories"]]:
        """Return the ``most`` recent articles of each history, oldest first, and how many those are."""
        from counterpoint.news.data.arrays import ranges

        offsets = self._array("history_offsets")
        ends = np.asarray(offsets[rows + 1])
        lengths = np.minimum(ends - offsets[rows], most)
        return np.asarray(self._array("history_articles")[ranges(ends - lengths, lengths)]), lengths

    def shown_on_last_day(self) -> Int[np.ndarray, " articles"]:
        """Return the articles that were candidates in the last 24 hours of the data."""
        time = self._array("time")
        shown = self.impressions(np.flatnonzero(time >= time.max() - _DAY))
        articles = np.unique(shown.candidates)
        return articles[articles != UNKNOWN]

    def impression_ids(self, rows: Int[np.ndarray, " impressions"]) -> list[str]:
        """Return the ids of the impressions at ``rows``."""
        table = pl.scan_parquet(self.path / "impressions.parquet").select("impression")
        ids: list[str] = table.collect()["impression"][rows].to_list()
        return ids

    def _array(self, name: str) -> Shaped[np.ndarray, " values"]:
        array = self._arrays.get(name)
        if array is None:
            try:
                array = np.load(self.path / "arrays" / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise CounterpointError(
                    f"{self.path}: the array {name!r} is missing or cut short ({error}); prepare the data again."
                ) from error
            self._arrays[name] = array
        return array

    @cached_property
    def _arrays(self) -> dict[str, Shaped[np.ndarray, " values"]]:
        return {}
