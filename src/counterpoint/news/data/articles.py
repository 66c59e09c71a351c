"""Writing articles into a store: checked, tokenised, their entities tagged."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.encoders.tokens import Tokenizer
from counterpoint.errors import BadRowError
from counterpoint.news.data.arrays import GrowingArray, RaggedArray
from counterpoint.news.data.entities import EntityError, Span, locate, tag
from counterpoint.news.data.rows import BadRows
from counterpoint.tasks.classification import IGNORE

_SPAN = pl.Struct(
    {"start": pl.Int32, "end": pl.Int32, "type": pl.String, "entity": pl.String, "confidence": pl.Float32}
)
_TEXTS = (
    "article",
    "title",
    "subtitle",
    "abstract",
    "body",
    "category",
    "subcategory",
    "sentiment",
    "published",
)
_COUNTS = (
    "articles", "duplicate articles", "truncated titles", "entity spans found", "entity spans searched",
    "entity spans lost", "entity spans overlapping", "entity spans cut off with the title",
)  # fmt: skip
_CHUNK = 2_000


class ArticleWriter:
    """Takes blocks of articles; row 0 is the unknown article with an empty title.

    Attributes:
        ids: the row of each article id.
        labels: names of categories, subcategories and entity types, in order of first appearance.
        counts: articles, duplicates, truncated titles, and what became of the entities.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, max_title_tokens: int) -> None:
        self.ids: dict[str, int] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
        self._folder, self._tokenizer, self._max_tokens = folder, tokenizer, max_title_tokens
        self._numbers: dict[str, dict[str, int]] = {"category": {}, "subcategory": {}, "entity_types": {}}
        self._contents: list[int] = []
        arrays = folder / "arrays"
        self._tokens = RaggedArray(arrays, "title_tokens", "title_offsets", np.int32)
        self._tags = GrowingArray(arrays / "title_tags.npy", np.int32)
        self._labels = {
            field: GrowingArray(arrays / f"{field}_labels.npy", np.int32)
            for field in ("category", "subcategory")
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
        """Add a block of articles; one that came before with the same content is counted and left out."""
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
                    bad.add(
                        BadRowError(file, line, "article", problem, "keep one of the two"),
                        f"{article}\t{title}",
                    )
                continue
            try:
                found, how = locate(title, raw)
            except EntityError as fault:
                bad.add(
                    BadRowError(file, line, "entities", str(fault), "correct the entities"),
                    f"{article}\t{raw}",
                )
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
        blocks = pl.scan_ipc(sorted(self._blocks.iterdir()), glob=False)
        blocks.sink_parquet(self._folder / "articles.parquet")
        shutil.rmtree(self._blocks)

    def _write(self, block: pl.DataFrame, spans: list[list[Span]]) -> None:
        """Tokenise and write articles that are known to be sound."""
        encoded = self._tokenizer.encode(block["title"].to_list(), self._max_tokens)
        types = self._numbers["entity_types"]
        tagged = [
            tag(one.offsets, one.special, found, types) for one, found in zip(encoded, spans, strict=True)
        ]
        tags = np.concatenate(tagged)
        self._tokens.append(
            np.concatenate([one.ids for one in encoded]), np.array([len(one.ids) for one in encoded])
        )
        self._tags.append(tags)
        begun = int(((tags > 0) & (tags % 2 == 1)).sum())
        self.counts["truncated titles"] += sum(one.truncated for one in encoded)
        self.counts["entity spans cut off with the title"] += sum(map(len, spans)) - begun
        for field, array in self._labels.items():
            numbers = self._numbers[field]
            array.append(
                np.array(
                    [numbers.setdefault(name, len(numbers)) if name else IGNORE for name in block[field]]
                )
            )
        entities = [[vars(span) for span in found] for found in spans]
        table = block.with_columns(entities=pl.Series(entities, dtype=pl.List(_SPAN)))
        table.write_ipc(self._blocks / f"{self._written:06d}.arrow", compression="lz4")
        self._written += 1
