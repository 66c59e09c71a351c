"""Writing articles into a store: checked, tokenised, their entities tagged and listed."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.encoders.tokens import Encoded, Tokenizer, encode
from counterpoint.errors import BadRowError
from counterpoint.news.data.entities import EntityError, Span, locate, mentioned, tag
from counterpoint.news.data.rows import ARTICLE_SCHEMA, in_schema
from counterpoint.news.data.sentiment import SENTIMENTS, sentiment_of, vader
from counterpoint.news.data.store import IGNORE, UNKNOWN_TIME
from counterpoint.news.recipe import TEXTS, Data
from counterpoint.storage.arrays import GrowingArray, RaggedArray
from counterpoint.storage.rows import BadRows

_SPAN = pl.Struct(
    {"start": pl.Int32, "end": pl.Int32, "type": pl.String, "entity": pl.String, "confidence": pl.Float32}
)
_NOT_KEPT = ("line", "entities", "abstract_entities")
_COUNTS = (
    "articles", "articles without a title", "duplicate articles", "entity spans found",
    "entity spans searched", "entity spans lost", "entity spans overlapping",
    "entity spans cut off with the title", "entities", "sentiment negative", "sentiment neutral",
    "sentiment positive", "sentiment unknown",
)  # fmt: skip
_TRUNCATED = {
    "title": "truncated titles", "subtitle": "truncated subtitles", "abstract": "truncated abstracts",
    "body": "truncated bodies",
}  # fmt: skip
_CHUNK = 2_000


class ArticleWriter:
    """Takes blocks of articles; row 0 is the unknown article with an empty title.

    Args:
        folder: the store's.
        tokenizer: the encoder's.
        shape: where texts are cut, and whose sentiment counts.
        bad: takes malformed rows.

    Attributes:
        ids: the row of each article id.
        labels: names of categories, subcategories and entity types, in order of first appearance, and of
            sentiments.
        counts: articles, duplicates, truncated texts, sentiments, and what became of the entities.
        texts: which text fields any article has.

    Raises:
        UsageError: VADER is asked for and not installed.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, shape: Data, bad: BadRows) -> None:
        self.ids: dict[str, int] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys((*_COUNTS, *_TRUNCATED.values()), 0))
        self.texts: tuple[str, ...] = ()
        self._folder, self._bad = folder, bad
        self._compound = vader() if shape.sentiment == "vader" else None
        self._numbers: dict[str, dict[str, int]] = {"category": {}, "subcategory": {}, "entity_types": {}}
        self._numbers["sentiment"] = {name: number for number, name in enumerate(SENTIMENTS)}
        self._entity_numbers: dict[str, int] = {}
        self._contents: list[int] = []
        arrays = folder / "arrays"
        self._texts = {
            field: TextWriter(
                arrays,
                field,
                tokenizer,
                shape.max_title_tokens if field == "title" else shape.max_text_tokens,
            )
            for field in TEXTS
        }
        self._tags = GrowingArray(arrays / "title_tags.npy", np.int32)
        self._labels = {
            field: GrowingArray(arrays / f"{field}_labels.npy", np.int32)
            for field in ("category", "subcategory", "sentiment")
        }
        self._scores = GrowingArray(arrays / "sentiment_scores.npy", np.float32)
        self._published = GrowingArray(arrays / "published.npy", np.int64)
        self._entities = RaggedArray(arrays, "entities", "entity_offsets", np.int32)
        self._blocks = folder / "article-blocks"
        self._blocks.mkdir()
        self._written = 0
        unknown = in_schema(pl.DataFrame({"article": [""], "title": [""]}), ARTICLE_SCHEMA)
        self._write(unknown.drop(_NOT_KEPT), [[]], [[]])

    @property
    def labels(self) -> dict[str, list[str]]:
        """The names by number."""
        return {field: list(numbers) for field, numbers in self._numbers.items()}

    def add(self, file: Path, block: pl.DataFrame) -> None:
        """Add a block of articles; one that came before with the same content is counted and left out."""
        contents = block.drop("line").hash_rows(seed=0).to_list()
        keep: list[int] = []
        spans: list[list[Span]] = []
        entities: list[list[str]] = []
        columns = block.select("line", "article", "title", "entities", "abstract_entities").iter_rows()
        for place, (line, article, title, raw, more) in enumerate(columns):
            row = self.ids.get(article)
            if row is not None:
                if self._contents[row - 1] == contents[place]:
                    self.counts["duplicate articles"] += 1
                else:
                    problem = f"{article!r} came before with other content"
                    self._bad.add(
                        BadRowError(file, line, "article", problem, "keep one of the two"),
                        f"{article}\t{title}",
                    )
                continue
            field = "entities"
            try:
                found, how = locate(title, raw)
                names = mentioned(raw)
                field = "abstract_entities"
                names += mentioned(more)
            except EntityError as fault:
                self._bad.add(
                    BadRowError(file, line, field, str(fault), "correct the entities"),
                    f"{article}\t{raw if field == 'entities' else more}",
                )
                continue
            for kind, number in how.items():
                self.counts[f"entity spans {kind}"] += number
            self._contents.append(contents[place])
            self.ids[article] = len(self._contents)
            keep.append(place)
            spans.append(found)
            entities.append(list(dict.fromkeys(names)))
        self.counts["articles"] += len(keep)
        kept = block.drop(_NOT_KEPT)[keep]
        self.counts["articles without a title"] += int((kept["title"] == "").sum())
        for start in range(0, len(keep), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            self._write(kept[chunk], spans[chunk], entities[chunk])

    def close(self) -> None:
        """Finish all files; texts that no article has leave none."""
        for field, writer in self._texts.items():
            writer.close(keep=field == "title" or writer.present)
            self.counts[_TRUNCATED[field]] = writer.truncated
        self.texts = tuple(field for field, writer in self._texts.items() if writer.present)
        self._entities.close()
        for array in (self._tags, *self._labels.values(), self._scores, self._published):
            array.close()
        self.counts["entities"] = len(self._entity_numbers)
        names = pl.DataFrame({"entity": list(self._entity_numbers)}, schema={"entity": pl.String})
        names.write_parquet(self._folder / "entities.parquet")
        blocks = pl.scan_ipc(sorted(self._blocks.iterdir()), glob=False)
        blocks.sink_parquet(self._folder / "articles.parquet")
        shutil.rmtree(self._blocks)

    def _write(self, block: pl.DataFrame, spans: list[list[Span]], entities: list[list[str]]) -> None:
        """Tokenise and write articles that are known to be sound."""
        if self._compound is not None:
            scores = [self._compound(title) if title.strip() else None for title in block["title"]]
            names = [None if score is None else sentiment_of(score) for score in scores]
            block = block.with_columns(
                sentiment=pl.Series(names, dtype=pl.String),
                sentiment_score=pl.Series(scores, dtype=pl.Float32),
            )
        encoded = {field: writer.add(block[field].to_list()) for field, writer in self._texts.items()}
        self._write_tags(encoded["title"], spans)
        for field, array in self._labels.items():
            numbers = self._numbers[field]
            array.append(
                np.array(
                    [numbers.setdefault(name, len(numbers)) if name else IGNORE for name in block[field]]
                )
            )
        self._scores.append(block["sentiment_score"].fill_null(float("nan")).to_numpy())
        self._published.append(block["published"].dt.epoch("us").fill_null(UNKNOWN_TIME).to_numpy())
        known = self._entity_numbers
        self._entities.append(
            np.array([known.setdefault(name, len(known)) for names in entities for name in names], dtype=int),
            np.array([len(names) for names in entities]),
        )
        if self.ids:  # the unknown article does not count
            for name, number in block["sentiment"].fill_null("unknown").value_counts().iter_rows():
                self.counts[f"sentiment {name}"] += number
        listed = [[vars(span) for span in found] for found in spans]
        table = block.with_columns(entities=pl.Series(listed, dtype=pl.List(_SPAN)))
        table.write_ipc(self._blocks / f"{self._written:06d}.arrow", compression="lz4")
        self._written += 1

    def _write_tags(self, titles: list[Encoded], spans: list[list[Span]]) -> None:
        """Write the entity tags of titles."""
        types = self._numbers["entity_types"]
        tags = np.concatenate(
            [tag(one.offsets, one.special, found, types) for one, found in zip(titles, spans, strict=True)]
        )
        self._tags.append(tags)
        begun = int(((tags > 0) & (tags % 2 == 1)).sum())
        self.counts["entity spans cut off with the title"] += sum(map(len, spans)) - begun


class TextWriter:
    """Takes the texts of one field, article after article; an absent one is the empty text.

    Args:
        arrays: folder of the store's arrays.
        field: the field's name.
        tokenizer: the encoder's.
        max_tokens: where texts are cut, special tokens included.

    Attributes:
        truncated: how many were cut.
        present: whether any article had a text.
    """

    def __init__(self, arrays: Path, field: str, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.truncated, self.present = 0, False
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._tokens = RaggedArray(arrays, f"{field}_tokens", f"{field}_offsets", np.int32)

    def add(self, texts: Sequence[str | None]) -> list[Encoded]:
        """Tokenise and write some articles' texts; return them tokenised."""
        given = [text or "" for text in texts]
        self.present = self.present or any(map(str.strip, given))
        encoded = encode(self._tokenizer, given, self._max_tokens)
        self.truncated += sum(one.truncated for one in encoded)
        self._tokens.append(
            np.concatenate([np.array(one.ids, dtype=np.int32) for one in encoded]),
            np.array([len(one.ids) for one in encoded]),
        )
        return encoded

    def close(self, *, keep: bool) -> None:
        """Finish the files, or remove them."""
        self._tokens.close()
        if not keep:
            self._tokens.remove()
