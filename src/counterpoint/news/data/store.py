"""The prepared store: a news data set on disk, memory-mapped, tied to its tokenizer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt64

from counterpoint.errors import CounterpointError
from counterpoint.storage.arrays import gather, ranges
from counterpoint.storage.prepared import map_array, read_manifest, read_table, refuse_unknown_split

FORMAT = 2
UNKNOWN = 0
"""The article in the first row, which stands for every candidate that has no article."""
UNKNOWN_TIME = int(np.iinfo(np.int64).max)
"""When an article appeared of which that is not known."""
IGNORE = -100
"""The label that no loss and no metric looks at: padding, special tokens, unknown classes."""

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
        reader: row of each impression's reader.
    """

    rows: Int[np.ndarray, " impressions"]
    offsets: Int[np.ndarray, " impressions+1"]
    candidates: Int[np.ndarray, " candidates"]
    clicked: Int[np.ndarray, " candidates"]
    history: Int[np.ndarray, " impressions"]
    time: Int[np.ndarray, " impressions"]
    reader: Int[np.ndarray, " impressions"]

    def __len__(self) -> int:
        return len(self.rows)


class Store:
    """A prepared store, opened for reading; arrays are mapped, not loaded.

    Args:
        path: its folder.

    Raises:
        CounterpointError: it is no store, or one of another workload or version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path, "news", FORMAT)
        self._arrays: dict[str, Shaped[np.ndarray, " values"]] = {}
        self._renumbering: dict[str, Int[np.ndarray, " names"]] = {}

    @property
    def counts(self) -> dict[str, int]:
        """What preparation counted."""
        counts: dict[str, int] = self.manifest["counts"]
        return counts

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """The names of categories, subcategories, entity types and sentiments, by number."""
        labels: dict[str, list[str]] = self.manifest["labels"]
        return labels

    @cached_property
    def entities(self) -> list[str]:
        """The names of the entities by number: Wikidata ids, or surface forms where there is none."""
        return self._own_entities()

    def use_labels(self, labels: dict[str, list[str]]) -> None:
        """Number categories, entities and all else that has names as a model does.

        A name that the model does not know gets -100; an entity that it does not know is left out.
        """
        for field, names in labels.items():
            own = self._own_entities() if field == "entities" else self.manifest["labels"].get(field, [])
            numbers = {name: number for number, name in enumerate(names)}
            self._renumbering[field] = np.array([numbers.get(name, IGNORE) for name in own], dtype=np.int32)
        if "entities" in labels:
            self.entities = labels["entities"]
        self.labels = {**self.manifest["labels"], **labels}

    @cached_property
    def articles(self) -> pl.DataFrame:
        """Ids and texts; row 0 is the unknown article."""
        return read_table(self.path, "articles", ["article", "title", "category", "published"])

    @cached_property
    def article_rows(self) -> dict[str, int]:
        """The row of each article id."""
        return {article: row for row, article in enumerate(self.articles["article"]) if row != UNKNOWN}

    def labels_of(self, field: str) -> Int[np.ndarray, " articles"]:
        """Return each article's label under ``category``, ``subcategory`` or ``sentiment``; -100 for none."""
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

    def has_text(self, field: str) -> bool:
        """Return whether any article has a ``title``, ``subtitle``, ``abstract`` or ``body``."""
        return field in self.manifest["texts"]

    def texts(
        self, field: str, articles: Int[np.ndarray, " texts"]
    ) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, " texts"]]:
        """Return tokens and lengths of a text field of ``articles``; an absent text is the empty one.

        Raises:
            CounterpointError: no article has such a text.
        """
        if not self.has_text(field):
            source = ", ".join(self.manifest["source"]["files"])
            known = " and ".join(self.manifest["texts"]) or "ids"
            raise CounterpointError(
                f"{self.path}: no article of {source} has the text {field!r}, only {known}; leave it out of "
                "the recipe, or add it there and prepare the data again."
            )
        return gather(self._array(f"{field}_tokens"), self._array(f"{field}_offsets"), articles)

    def entity_lists(
        self, articles: Int[np.ndarray, " lists"]
    ) -> tuple[Int[np.ndarray, " entities"], Int[np.ndarray, " lists"]]:
        """Return the distinct entities of each article, in order, and how many those are."""
        numbers, lengths = gather(self._array("entities"), self._array("entity_offsets"), articles)
        renumbering = self._renumbering.get("entities")
        if renumbering is None:
            return numbers, lengths
        numbers = _renumbered(numbers, renumbering)
        known = numbers != IGNORE
        lists = np.repeat(np.arange(len(lengths)), lengths)
        return numbers[known], np.bincount(lists[known], minlength=len(lengths))

    def entity_vectors(self) -> tuple[list[str], Float32[np.ndarray, "entities size"]] | None:
        """Return the ids and vectors of ``entity_embedding.vec``, if the data had one."""
        if not (self.path / "entity_vectors.npy").is_file():
            return None
        ids: list[str] = read_table(self.path, "entity_vectors", ["id"])["id"].to_list()
        return ids, np.load(self.path / "entity_vectors.npy", allow_pickle=False)

    def sentiment_scores(self) -> Float32[np.ndarray, " articles"]:
        """Return each article's sentiment from -1 (negative) to 1 (positive), NaN where unknown."""
        return np.asarray(self._array("sentiment_scores"))

    def published(self) -> Int[np.ndarray, " articles"]:
        """Return when each article appeared, in microseconds since 1970, `UNKNOWN_TIME` where unknown."""
        return np.asarray(self._array("published"))

    def reader_keys(self) -> UInt64[np.ndarray, " readers"]:
        """Return the key of each reader's id, by which a model knows readers without holding their ids."""
        return np.asarray(self._array("reader_keys"))

    def split(self, name: str) -> Int[np.ndarray, " impressions"]:
        """Return the rows of a split, in the order of the files.

        Raises:
            UsageError: there are no splits of that name.
            CounterpointError: the store has nothing in that split.
        """
        refuse_unknown_split(name, SPLITS)
        if not self.manifest["splits"][name]:
            filled = ", ".join(split for split in SPLITS if self.manifest["splits"][split])
            raise CounterpointError(f"{self.path}: no impressions in split {name!r}; choose among {filled}.")
        return np.flatnonzero(np.asarray(self._array("split")) == SPLITS.index(name))

    def splits_before(self, name: str) -> list[str]:
        """Return the splits with clicks that came before one, the earliest first."""
        before = {"train": 0, "validation": 1, "unlabelled": 3}.get(name, 2)
        return [split for split in SPLITS[:before] if self.manifest["splits"].get(split)]

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
            np.asarray(self._array("reader")[rows]),
        )

    def candidate_counts(self, rows: Int[np.ndarray, " impressions"]) -> Int[np.ndarray, " impressions"]:
        """Return how many candidates the impressions at ``rows`` have."""
        offsets = self._array("candidate_offsets")
        counts: Int[np.ndarray, " impressions"] = offsets[rows + 1] - offsets[rows]
        return counts

    def beyond(self) -> Bool[np.ndarray, " impressions"]:
        """Return which impressions measure other things than accuracy: EB-NeRD's ``is_beyond_accuracy``."""
        return np.asarray(self._array("beyond"))

    def histories(
        self, rows: Int[np.ndarray, " histories"], most: int
    ) -> tuple[Int[np.ndarray, " articles"], Int[np.ndarray, " histories"]]:
        """Return the ``most`` recent articles of each history, oldest first, and how many those are."""
        places, lengths = self._recent(rows, most)
        return np.asarray(self._array("history_articles")[places]), lengths

    def has_history_values(self, name: str) -> bool:
        """Return whether ``read_time`` or ``scroll`` is known of any click in a history."""
        return name in self.manifest["history values"]

    def history_values(
        self, name: str, rows: Int[np.ndarray, " histories"], most: int
    ) -> Float32[np.ndarray, " articles"]:
        """Return what is known of the clicks that `histories` returns for the same arguments.

        Args:
            name: ``read_time`` in seconds, or ``scroll`` in percent of the page, 0 to 100.
            rows: of histories.
            most: how many clicks of each.

        Returns:
            One value a click, NaN where it is unknown.
        """
        places, _ = self._recent(rows, most)
        if not self.has_history_values(name):
            return np.full(len(places), np.nan, dtype=np.float32)
        return np.asarray(self._array(f"history_{name}")[places])

    def shown_on_last_day(self) -> Int[np.ndarray, " articles"]:
        """Return the articles that were candidates in the last 24 hours of the data."""
        time = self._array("time")
        shown = self.impressions(np.flatnonzero(time >= time.max() - _DAY)).candidates
        return np.unique(shown[shown != UNKNOWN])

    def impression_ids(self, rows: Int[np.ndarray, " impressions"]) -> list[str]:
        """Return the ids of the impressions at ``rows``; reads the file from the first row to the last."""
        if not len(rows):
            return []
        first = int(rows.min())
        table = read_table(self.path, "impressions", ["impression"], first, int(rows.max()) - first + 1)
        ids: list[str] = table["impression"][rows - first].to_list()
        return ids

    def _recent(
        self, rows: Int[np.ndarray, " histories"], most: int
    ) -> tuple[Int[np.ndarray, " articles"], Int[np.ndarray, " histories"]]:
        """Return where the ``most`` recent articles of each history stand, and how many those are."""
        offsets = self._array("history_offsets")
        ends = np.asarray(offsets[rows + 1])
        lengths = np.minimum(ends - offsets[rows], most)
        return ranges(ends - lengths, lengths), lengths

    def _own_entities(self) -> list[str]:
        """Return the entities by the store's own numbers."""
        names: list[str] = read_table(self.path, "entities", ["entity"])["entity"].to_list()
        return names

    def _array(self, name: str) -> Shaped[np.ndarray, " values"]:
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = map_array(self.path, name)
        return array


def _renumbered(
    labels: Int[np.ndarray, " labels"], numbers: Int[np.ndarray, " names"]
) -> Int[np.ndarray, " labels"]:
    """Return ``labels`` with other numbers for the same names; -100 stays."""
    return np.append(numbers, IGNORE)[np.where(labels == IGNORE, len(numbers), labels)]
