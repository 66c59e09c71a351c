"""The prepared store: a news data set on disk, memory-mapped, tied to its tokenizer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Int, Shaped

from counterpoint.errors import CounterpointError, UsageError, nearest
from counterpoint.files import read_json
from counterpoint.news.data.arrays import gather, ranges
from counterpoint.tasks.classification import IGNORE

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
        self._arrays: dict[str, Shaped[np.ndarray, " values"]] = {}
        self._renumbering: dict[str, Int[np.ndarray, " names"]] = {}
        version = self.manifest.get("format")
        if version != FORMAT:
            raise CounterpointError(
                f"{path}: a store of version {version}, this program reads version {FORMAT}; "
                "prepare the data again."
            )

    def require(self, fingerprint: str, tokenizer: str, max_title_tokens: int) -> None:
        """Refuse a tokenizer or a title length that the store was not made with."""
        made = self.manifest["tokenizer"]
        if made["fingerprint"] != fingerprint:
            raise CounterpointError(
                f"{self.path}: tokenised for {made['name']!r}, not for {tokenizer!r}; prepare the data again "
                f"with --encoder {tokenizer}."
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

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """The names of categories, subcategories and entity types, by number."""
        labels: dict[str, list[str]] = self.manifest["labels"]
        return labels

    def use_labels(self, labels: dict[str, list[str]]) -> None:
        """Number categories and entity types as a model does; names that it does not know get -100."""
        own: dict[str, list[str]] = self.manifest["labels"]
        for field, names in labels.items():
            numbers = {name: number for number, name in enumerate(names)}
            self._renumbering[field] = np.array(
                [numbers.get(name, IGNORE) for name in own[field]], dtype=np.int32
            )
        self.labels = labels

    @cached_property
    def articles(self) -> pl.DataFrame:
        """Ids and texts; row 0 is the unknown article."""
        return self._table("articles", ["article", "title", "category", "published"])

    @cached_property
    def article_rows(self) -> dict[str, int]:
        """The row of each article id."""
        return {article: row for row, article in enumerate(self.articles["article"]) if row != UNKNOWN}

    def labels_of(self, field: str) -> Int[np.ndarray, " articles"]:
        """Return each article's label under ``category`` or ``subcategory``, -100 where it has none."""
        labels = self._array(f"{field}_labels")
        renumbering = self._renumbering.get(field)
        return labels if renumbering is None else _renumbered(labels, renumbering)

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
        renumbering = self._renumbering.get("entity_types")
        if renumbering is not None:
            types = _renumbered(np.where(tags > 0, (tags - 1) // 2, IGNORE), renumbering)
            tags = np.where(tags > 0, np.where(types >= 0, 2 * types + 2 - tags % 2, IGNORE), tags)
        return tokens, tags, lengths

    def title_lengths(self) -> Int[np.ndarray, " articles"]:
        """Return the number of tokens of every title."""
        return np.diff(self._array("title_offsets"))

    def split(self, name: str) -> Int[np.ndarray, " impressions"]:
        """Return the rows of a split, in the order of the files.

        Raises:
            UsageError: there are no splits of that name.
            CounterpointError: the store has nothing in that split.
        """
        if name not in SPLITS:
            raise UsageError(
                f"no split is called {name!r}{nearest(name, SPLITS)}; known: {', '.join(SPLITS)}."
            )
        if not self.manifest["splits"][name]:
            filled = ", ".join(split for split in SPLITS if self.manifest["splits"][split])
            raise CounterpointError(f"{self.path}: no impressions in split {name!r}; choose among {filled}.")
        return np.flatnonzero(np.asarray(self._array("split")) == SPLITS.index(name))

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
        offsets = self._array("history_offsets")
        ends = np.asarray(offsets[rows + 1])
        lengths = np.minimum(ends - offsets[rows], most)
        return np.asarray(self._array("history_articles")[ranges(ends - lengths, lengths)]), lengths

    def shown_on_last_day(self) -> Int[np.ndarray, " articles"]:
        """Return the articles that were candidates in the last 24 hours of the data."""
        time = self._array("time")
        shown = self.impressions(np.flatnonzero(time >= time.max() - _DAY)).candidates
        return np.unique(shown[shown != UNKNOWN])

    def impression_ids(self, rows: Int[np.ndarray, " impressions"]) -> list[str]:
        """Return the ids of the impressions at ``rows``."""
        ids: list[str] = self._table("impressions", ["impression"])["impression"][rows].to_list()
        return ids

    def _table(self, name: str, columns: list[str]) -> pl.DataFrame:
        try:
            return pl.read_parquet(self.path / f"{name}.parquet", columns=columns, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CounterpointError(
                f"{self.path / name}.parquet: missing or cut short ({error}); prepare the data again."
            ) from error

    def _array(self, name: str) -> Shaped[np.ndarray, " values"]:
        array = self._arrays.get(name)
        if array is None:
            try:
                array = np.load(self.path / "arrays" / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise CounterpointError(
                    f"{self.path}: the array {name!r} is missing or cut short ({error}); prepare the data "
                    "again."
                ) from error
            self._arrays[name] = array
        return array


def _renumbered(
    labels: Int[np.ndarray, " labels"], numbers: Int[np.ndarray, " names"]
) -> Int[np.ndarray, " labels"]:
    """Return ``labels`` with other numbers for the same names; -100 stays."""
    return np.append(numbers, IGNORE)[np.where(labels == IGNORE, len(numbers), labels)]
