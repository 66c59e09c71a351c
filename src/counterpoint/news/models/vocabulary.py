"""The names and sizes a model is built for: it keeps them, since other data number their names otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from counterpoint.news.data.store import UNKNOWN, Store
from counterpoint.news.recipe import NewsRecipe

_LABELS = ("category", "subcategory", "entity_types", "sentiment")


@dataclass(frozen=True)
class Vocabulary:
    """What must be known to build a model before its weights are read.

    Attributes:
        labels: names by number, of categories, subcategories, entity types, sentiments and, where the recipe
            reads them, entities and articles.
        sizes: numbers in the vectors of categories, subcategories and entities.
        words: rows and columns of the table of words; zeros for an encoder that brings its own.
        readers: sorted keys of the readers that have an embedding; they tell nothing of the ids.
    """

    labels: Mapping[str, list[str]]
    sizes: Mapping[str, int]
    words: tuple[int, int] = (0, 0)
    readers: Int[Tensor, " readers"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; readers' keys stand among the weights, here only their number."""
        return {
            "labels": dict(self.labels),
            "sizes": dict(self.sizes),
            "words": list(self.words),
            "readers": len(self.readers),
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Vocabulary":
        """Return the vocabulary of a saved model, with room for the readers' keys."""
        keys = torch.zeros(facts["readers"], dtype=torch.long)
        return cls(facts["labels"], facts["sizes"], tuple(facts["words"]), keys)


def labels_of(store: Store, recipe: NewsRecipe) -> dict[str, list[str]]:
    """Return the names of everything the recipe's model has a class or a vector for.

    Articles, and entities without a pretrained vector, have one only if training meets them: the vector of a
    name that was never trained would be noise.
    """
    labels = {field: list(store.labels[field]) for field in _LABELS}
    fields = recipe.articles.fields
    if "entities" in fields:
        numbers, _ = store.entity_lists(np.flatnonzero(seen_in_training(store)))
        met, given = set(np.unique(numbers).tolist()), store.entity_vectors()
        known = set() if given is None else set(given[0])
        labels["entities"] = [
            name for number, name in enumerate(store.entities) if number in met or name in known
        ]
    if "article" in fields:
        seen = seen_in_training(store)
        seen[UNKNOWN] = False
        labels["article"] = store.articles["article"].filter(seen).to_list()
    return labels


def seen_in_training(store: Store) -> Bool[np.ndarray, " articles"]:
    """Return which articles training met, as candidates or in histories."""
    seen = np.zeros(len(store.articles), dtype=bool)
    if store.manifest["splits"].get("train"):
        shown = store.impressions(store.split("train"))
        history, _ = store.histories(np.unique(shown.history), 1 << 30)
        seen[shown.candidates] = True
        seen[history] = True
    return seen


def readers_of(store: Store, recipe: NewsRecipe) -> Int[Tensor, " readers"]:
    """Return the sorted keys of the readers in training, if the reader encoder has embeddings."""
    if recipe.reader.kind != "recurrent":
        return torch.empty(0, dtype=torch.long)
    rows = np.unique(store.impressions(store.split("train")).reader)
    return torch.from_numpy(np.unique(reader_keys(store)[rows]))


def reader_keys(store: Store) -> Int[np.ndarray, " readers"]:
    """Return the key of every reader of a store, as signed numbers, which is what torch has."""
    keys: Int[np.ndarray, " readers"] = np.asarray(store.reader_keys()).view(np.int64)
    return keys
