"""Writing articles into a store: checked, tokenised, their entities tagged."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.encoders.tokens import Tokenizer
from counterpoint.errors import BadRowError
from counterpoint.news.data.arrays import GrowingArray, RaggedArray
from counterpoint.news.data.entities import EntityFault, Span, locate, tag
from counterpoint.news.data.rows import BadRows
from counterpoint.tasks.classification import IGNORE

_SPAN = pl.Struct(
    {"start": pl.Int32, "end": pl.Int32, "type": pl.String, "entity": pl.String, "confidence": pl.Float32}
)
_TEXTS = ("article", "title", "subtitle", "abstract", "body", "category", "subcategory", "sentiment", "published")
_CHUNK = 2_000


class ArticleWriter:
    """Takes blocks of articles; row 0 is the unknown article with an empty title.

    Attributes:
        ids: the row of each article id.
        labels: names of categories, subcategories and entity types, in order of first appearance.
        counts: articles, duplicates, truncated titles, entities found, searched and lost.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, max_title_tokens: int) -> None:
        self.ids: dict[str, int] = {}
        self.counts: Counter[str] = Counter(
            {
                f"{what}": 0
                for what in (
                    "articles", "duplicate articles", "truncated titles", "entity spans found",
                    "entity spans searched", "entity spans lost", "entity spans cut off with the title",
                )
            }
        )  # fmt: skip
        self._folder, self._tokenizer, self._max_tokens = folder, tokenizer, max_title_tokens
        self._numbers: dict[str, dict[str, int]] = {"category": {}, "subcategory": {}, "entity_types": {}}
        self._contents: list[int] = []
        arrays = folder / "arrays"
        self._tokens = RaggedArray(arrays, "title_tokens", "title_offsets", np.int32)
        self._tags = GrowingArray(arrays / "title_tags.npy", np.int16)
        self._labels = {
            field: GrowingArray(arrays / f"{field}_labels.npy", np.int16) for field in ("category", "subcategory")
        }
        self._blocks = folder / "article-blocks"
        self._blocks.mkdir()
        self._written = 0
        unknown = pl.DataFrame({field: [None] for field in _TEXTS}).with_columns(
            article=pl.lit(""), title=pl.lit(""), published=pl.lit(None, dtype=pl.Datetime("us"))
        )
        self._write(unknown.with_columns(pl.col(pl.Null).cast(pl.String)), [[]])

    @property
    def labels(self) -> dict[str, list[str]]:
        """The names by number."""
        return {field: list(numbers) for field, numbers in self._numbers.items()}

    def add(self, file: Path, block: pl.DataFrame, bad: BadRows) -> None:
        """Add a block of articles; one that was there already with the same content is counted and left out."""
        contents = block.drop("line").hash_rows(seed=0).to_list()
        keep: list[int] = []
        spans: list[list[Span]] = []
        columns = block.select("line", "article", "title", "entities").iter_rows()
        for place, (line, article, title, raw) in enumerate(columns):
            row = self.ids.get(article)
            if row is not None:
                if self._contents[row - 1] == contents[place]:
                    self.counts["duplicate articles"] += 1
                else:
                    problem = f"{article!r} came before with other content"
                    bad.add(BadRowError(file, line, "article", problem, "keep one of the two"), f"{article}\t{title}")
                continue
            try:
                found, how = locate(title, raw)
            except EntityFault as fault:
                bad.add(BadRowError(file, line, "entities", str(fault), "correct the entities"), f"{article}\t{raw}")
                continue
            for kind, number in how.items():
                self.counts[f"entity spans {kind}"] += number
            self._contents.append(contents[place])
            self.ids[article] = len(self._contents)
            keep.append(place)
            spans.append(found)
        self.counts["articles"] += len(keep)
        kept = block.select(_TEXTS)[keep]
        for start in range(0, len(keep), _CHUNK):
            self._write(kept[start : start + _CHUNK], spans[start : start + _CHUNK])

    def close(self) -> None:
        """Finish all files."""
        self._tokens.close()
        self._tags.close()
        for array in self._labels.values():
            array.close()
        pl.scan_parquet(self._blocks / "*.parquet").sink_parquet(self._folder / "articles.parquet")
        for block in self._blocks.iterdir():
            block.unlink()
        self._blocks.rmdir()

    def _write(self, block: pl.DataFrame, spans: list[list[Span]]) -> None:
        """Tokenise and write articles that are known to be sound."""
        encoded = self._tokenizer.encode(block["title"].to_list(), self._max_tokens)
        for one, found in zip(encoded, spans, strict=True):
            tags = tag(one.offsets, one.special, found, self._numbers["entity_types"])
            self._tokens.append(np.asarray(one.ids), np.array([len(one.ids)]))
            self._tags.append(tags)
            self.counts["truncated titles"] += one.truncated
            self.counts["entity spans cut off with the title"] += len(found) - int(((tags > 0) & (tags % 2 == 1)).sum())
        for field, array in self._labels.items():
            numbers = self._numbers[field]
            array.append(
                np.array([numbers.setdefault(name, len(numbers)) if name else IGNORE for name in block[field]])
            )
        entities = [[vars(span) for span in found] for found in spans]
        block.with_columns(entities=pl.Series(entities, dtype=pl.List(_SPAN))).write_parquet(
            self._blocks / f"{self._written:06d}.parquet"
        )
        self._written += 1
