"""What models read of articles: packed texts, numbers of categories and ids, entities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.encoders.tokens import Texts, Tokenizer
from counterpoint.news.data.store import Store
from counterpoint.news.recipe import NewsRecipe
from counterpoint.storage.arrays import ranges

MOST_ENTITIES = 10
"""Entities read of an article: the first ones, as they stand in the title before the abstract."""


@dataclass(frozen=True)
class PackedTexts:
    """One text of every article, packed shortest first.

    Attributes:
        texts: the texts.
        place: where each article's text stands among them; nothing where both have one order.
    """

    texts: Texts
    place: Int[Tensor, " articles"] | None = None

    def to(self, device: torch.device) -> "PackedTexts":
        """Return the texts on ``device``."""
        return PackedTexts(self.texts.to(device), None if self.place is None else self.place.to(device))


@dataclass(frozen=True)
class ArticleFeatures:
    """What a model reads of some articles.

    Attributes:
        count: articles.
        texts: by field; titles stand in the articles' order.
        numbers: by field, the row of an embedding; 0 is unknown.
        entities: numbers of each article's entities, from 0; -1 pads.
        lower: states of the titles' tokens after the frozen layers, where they are cached.
    """

    count: int
    texts: Mapping[str, PackedTexts]
    numbers: Mapping[str, Int[Tensor, " articles"]]
    entities: Int[Tensor, "articles places"] | None = None
    lower: Float[Tensor, "tokens hidden"] | None = None

    def __len__(self) -> int:
        return self.count

    def title_lengths(self) -> tuple[int, ...]:
        """Return the tokens of each title; nothing where titles are not read."""
        return self.texts["title"].texts.lengths if "title" in self.texts else ()

    def to(self, device: torch.device) -> Self:
        """Return the features on ``device``."""
        return type(self)(
            self.count,
            {field: texts.to(device) for field, texts in self.texts.items()},
            {field: numbers.to(device) for field, numbers in self.numbers.items()},
            None if self.entities is None else self.entities.to(device),
            None if self.lower is None else self.lower.to(device),
        )


class States(Protocol):
    """The cached output of frozen layers."""

    def states(self, articles: Int[np.ndarray, " articles"]) -> Float[Tensor, "tokens hidden"]:
        """Return the states of the articles' tokens, one title after another."""
        ...


class FeatureReader:
    """Reads from a store what a recipe's articles are made of.

    Args:
        store: the articles; it numbers categories and entities as the model does.
        recipe: its fields, and the reader encoder, which may ask for topics.
        articles: ids in the order of the model's numbers, for field ``article``.
        cache: states of frozen layers.
    """

    def __init__(
        self, store: Store, recipe: NewsRecipe, articles: Sequence[str] = (), cache: States | None = None
    ) -> None:
        self._store, self._cache = store, cache
        self._texts = recipe.texts
        self._numbered = numbered_fields(recipe)
        self._with_entities = "entities" in recipe.articles.fields
        self._known_articles = articles
        self._max_title_tokens = recipe.data.max_title_tokens

    def lengths(self) -> Int[np.ndarray, " store"]:
        """Return what articles are sorted by: the tokens of their titles, or nothing where none is read."""
        if "title" in self._texts:
            return self._store.title_lengths()
        return np.zeros(len(self._store.articles), dtype=np.int64)

    def read(self, articles: Int[np.ndarray, " articles"]) -> ArticleFeatures:
        """Return the features of ``articles``, which must be sorted by `lengths`."""
        return ArticleFeatures(
            len(articles),
            {field: packed(*self._store.texts(field, articles)) for field in self._texts},
            {field: torch.from_numpy(self._numbers(field)[articles]) for field in self._numbered},
            self._entities(articles) if self._with_entities else None,
            None if self._cache is None else self._cache.states(articles),
        )

    def of_titles(
        self, titles: Sequence[str], tokenizer: Tokenizer
    ) -> tuple[ArticleFeatures, Int[np.ndarray, " articles"]]:
        """Return the features of articles of which only the titles are known, and their order in them."""
        encoded = tokenizer.encode(titles, self._max_title_tokens)
        order = np.argsort([len(one.ids) for one in encoded], kind="stable")
        own = [encoded[place].ids for place in order]
        empty = [tokenizer.encode([""], self._max_title_tokens)[0].ids] * len(titles)
        texts = {field: own if field == "title" else empty for field in self._texts}
        nothing = torch.zeros(len(titles), dtype=torch.long)
        features = ArticleFeatures(
            len(titles),
            {
                field: packed(np.concatenate(ids), np.array(list(map(len, ids))))
                for field, ids in texts.items()
            },
            dict.fromkeys(self._numbered, nothing),
            nothing.new_empty(len(titles), 0) if self._with_entities else None,
        )
        return features, order

    def _numbers(self, field: str) -> Int[np.ndarray, " store"]:
        """Return the row of each of the store's articles in the field's embedding."""
        if field == "article":
            return self._article_numbers
        return np.maximum(np.asarray(self._store.labels_of(field), dtype=np.int64) + 1, 0)

    @cached_property
    def _article_numbers(self) -> Int[np.ndarray, " store"]:
        known = {article: number for number, article in enumerate(self._known_articles, 1)}
        return np.array([known.get(article, 0) for article in self._store.articles["article"]])

    def _entities(self, articles: Int[np.ndarray, " articles"]) -> Int[Tensor, "articles places"]:
        values, lengths = self._store.entity_lists(articles)
        kept = np.minimum(lengths, MOST_ENTITIES)
        first = np.cumsum(lengths) - lengths
        return torch.from_numpy(padded(values[ranges(first, kept)], kept))


def numbered_fields(recipe: NewsRecipe) -> tuple[str, ...]:
    """Return the fields whose value is one of a list of names."""
    asked = set(recipe.articles.fields)
    if recipe.reader.kind == "hierarchical":
        asked |= {"category", "subcategory"}
    return tuple(field for field in ("category", "subcategory", "article") if field in asked)


def packed(tokens: Int[np.ndarray, " tokens"], lengths: Int[np.ndarray, " texts"]) -> PackedTexts:
    """Return texts that stand one after another, packed shortest first."""
    order = np.argsort(lengths, kind="stable")
    if (order[1:] > order[:-1]).all():
        return PackedTexts(Texts(torch.from_numpy(tokens.astype(np.int64)), tuple(lengths.tolist())))
    first = np.cumsum(lengths) - lengths
    sorted_lengths = lengths[order]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ordered = tokens[ranges(first[order], sorted_lengths)].astype(np.int64)
    texts = Texts(torch.from_numpy(ordered), tuple(sorted_lengths.tolist()))
    return PackedTexts(texts, torch.from_numpy(place))


def padded(
    values: Int[np.ndarray, " values"], lengths: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, "rows places"]:
    """Return lists that stand one after another as rows, with -1 behind the shorter ones."""
    rows = np.full((len(lengths), int(lengths.max(initial=0))), -1, dtype=np.int64)
    rows[np.repeat(np.arange(len(lengths)), lengths), ranges(np.zeros_like(lengths), lengths)] = values
    return rows
