"""One tag for each token: begin (odd), inside (even) or outside (0) an entity, of one type or several."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from counterpoint.news.data.store import IGNORE, Store
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks.protocol import Drawn, Labels, View, nothing_to_learn


@dataclass(frozen=True)
class TitleTags:
    """An entity tag for each token of each title (paper 1, eqs. 7 and 8)."""

    name: str
    of_histories: ClassVar[bool] = False

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a tagger of one type, or of as many as there are names."""
        types = 1 if recipe.entities.scheme == "bio" else max(len(labels["entity_types"]), 1)
        return Tagging(title_size, types, recipe.entities.average)

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Refuse a store in whose titles no entity stands."""
        if not store.manifest["labels"]["entity_types"]:
            raise nothing_to_learn(store, self.name)

    def labels(self, store: Store, recipe: NewsRecipe, drawn: Drawn) -> Int[Tensor, " tokens"]:
        """Return the tag of each token, -100 for special tokens and titles that the task does not see."""
        _, tags, lengths = store.titles(drawn.articles)
        tags = self._scheme(recipe, np.asarray(tags))
        unseen = np.repeat(drawn.left_out(recipe.entities.articles), lengths)
        return torch.from_numpy(np.where(unseen, IGNORE, tags).astype(np.int64))

    def loss(self, head: nn.Module, view: View, labels: Tensor) -> Float[Tensor, ""]:
        """Return the cross-entropy over tokens; an average over titles is one over those with a tag."""
        assert isinstance(head, Tagging)
        lengths = torch.tensor(view.lengths, device=labels.device)
        title = torch.arange(len(lengths), device=labels.device).repeat_interleave(lengths)
        learned = torch.unique_consecutive(title[labels != IGNORE])
        return head.loss(view.states, labels, len(learned))

    def predict(self, head: nn.Module, view: View) -> Int[np.ndarray, " tokens"]:
        """Return the most likely tags."""
        assert isinstance(head, Tagging)
        return head.predict(view.states).cpu().numpy()

    def metrics(
        self,
        predicted: Shaped[np.ndarray, " tokens"],
        store: Store,
        recipe: NewsRecipe,
        rows: Int[np.ndarray, " titles"],
    ) -> dict[str, float]:
        """Return the F1 of whole entities."""
        _, tags, _ = store.titles(rows)
        return {f"{self.name}/f1": entity_f1(predicted, self._scheme(recipe, np.asarray(tags)))}

    def _scheme(self, recipe: NewsRecipe, tags: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " tokens"]:
        return tags if recipe.entities.scheme == "bio-typed" else untyped(tags)


class Tagging(nn.Module):
    """Softmax over tags for each token (paper 1, eqs. 7 and 8).

    Args:
        size: numbers in a token's state.
        types: entity types; 1 gives plain BIO.
        average: ``title`` sums over a title's tokens, then averages over titles (eq. 8); ``token`` averages
            over all tokens.
    """

    def __init__(self, size: int, types: int, average: Literal["title", "token"] = "title") -> None:
        super().__init__()
        self.average = average
        self.output = nn.Linear(size, 1 + 2 * types)

    def loss(
        self, states: Float[Tensor, "tokens size"], tags: Int[Tensor, " tokens"], titles: int
    ) -> Float[Tensor, ""]:
        """Return the loss over the tokens that have a tag; special tokens have none."""
        total = nn.functional.cross_entropy(self.output(states), tags, ignore_index=IGNORE, reduction="sum")
        return total / (max(titles, 1) if self.average == "title" else (tags != IGNORE).sum().clamp(min=1))

    def predict(self, states: Float[Tensor, "tokens size"]) -> Int[Tensor, " tokens"]:
        """Return the most likely tag of each token."""
        tags: Tensor = self.output(states).argmax(-1)
        return tags


def untyped(tags: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " tokens"]:
    """Return typed BIO tags without their types: 0, 1 (begin) or 2 (inside)."""
    return np.where(tags > 0, 2 - tags % 2, tags)


def entity_f1(predicted: Int[np.ndarray, " tokens"], tags: Int[np.ndarray, " tokens"]) -> float:
    """Return the F1 of whole entities: begin, end and type must all be right; NaN where there is none.

    Tokens to ignore (-100) end any entity. A tag that continues no entity of its type begins one.
    """
    predicted = np.where(tags == IGNORE, 0, predicted)
    truth = np.where(tags == IGNORE, 0, tags)
    found, wanted = _entities(predicted), _entities(truth)
    total = len(found) + len(wanted)
    return 2 * len(found & wanted) / total if total else float("nan")


def _entities(tags: Int[np.ndarray, " tokens"]) -> set[tuple[int, int, int]]:
    """Return the entities as (begin, end, type)."""
    kinds = np.where(tags > 0, (tags - 1) // 2, -1)
    before = np.concatenate(([-1], kinds[:-1]))
    inside: Bool[np.ndarray, " tokens"] = kinds >= 0
    begins = inside & ((tags % 2 == 1) | (kinds != before))
    after_begins = np.concatenate((begins[1:], [True]))
    after_kinds = np.concatenate((kinds[1:], [-1]))
    ends = inside & (after_begins | (after_kinds != kinds))
    starts = np.flatnonzero(begins)
    return set(zip(starts.tolist(), (np.flatnonzero(ends) + 1).tolist(), kinds[starts].tolist(), strict=True))
