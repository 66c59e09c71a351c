"""The auxiliary tasks of news: their labels in a store, the heads that learn them, how they are judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from counterpoint.errors import CounterpointError
from counterpoint.news.data.store import Store
from counterpoint.news.features import padded
from counterpoint.news.models.vocabulary import seen_in_training
from counterpoint.news.recipe import NewsRecipe, Seen
from counterpoint.news.tasks.classification import IGNORE, Classification, accuracy
from counterpoint.news.tasks.regression import Regression, absolute_error, explained
from counterpoint.news.tasks.tagging import Tagging, entity_f1, untyped

Labels = Mapping[str, Sequence[str]]


class Drawn(NamedTuple):
    """What a batch holds, as rows of the store.

    Attributes:
        articles: the articles that auxiliary tasks see.
        in_history: which of them stand in a history.
        in_candidates: which of them are candidates.
        histories: the history of each click.
    """

    articles: Int[np.ndarray, " seen"]
    in_history: Bool[np.ndarray, " seen"]
    in_candidates: Bool[np.ndarray, " seen"]
    histories: Int[np.ndarray, " clicks"]

    def left_out(self, which: Seen) -> Bool[np.ndarray, " seen"]:
        """Return the articles that a task does not learn from."""
        return {
            "both": np.zeros(len(self.articles), dtype=bool),
            "history": ~self.in_history,
            "candidates": ~self.in_candidates,
        }[which]


class View(NamedTuple):
    """What the heads look at.

    Attributes:
        states: of the tokens of the titles seen.
        titles: their vectors.
        lengths: tokens of each title.
        articles: the vectors of all articles.
        readers: one vector each.
        history: rows of ``articles`` each reader clicked; -1 pads.
    """

    states: Float[Tensor, "tokens size"]
    titles: Float[Tensor, "seen size"]
    lengths: tuple[int, ...]
    articles: Float[Tensor, "articles article_size"]
    readers: Float[Tensor, "readers article_size"]
    history: Int[Tensor, "readers places"]


class Task(Protocol):
    """An auxiliary task."""

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a fresh head."""
        ...

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Make a head ready for a store's labels, or say that it has none to learn from."""
        ...

    def labels(self, store: Store, recipe: NewsRecipe, drawn: Drawn) -> Tensor:
        """Return the labels of a batch."""
        ...

    def loss(self, head: nn.Module, view: View, labels: Tensor) -> Float[Tensor, ""]:
        """Return the loss."""
        ...

    def predict(self, head: nn.Module, view: View) -> Shaped[np.ndarray, " predictions"]:
        """Return what the head says: for each title, each token, or each click of the histories."""
        ...

    def metrics(
        self,
        predicted: Shaped[np.ndarray, " predictions"],
        store: Store,
        recipe: NewsRecipe,
        rows: Int[np.ndarray, " rows"],
    ) -> dict[str, float]:
        """Judge predictions for articles, or for histories, that stand at ``rows``."""
        ...


@dataclass(frozen=True)
class _OfTitles:
    """What is learned of each title by itself, from its vector.

    Attributes:
        name: of the task and of its section in the recipe.
    """

    name: str
    of_histories = False

    def loss(self, head: nn.Module, view: View, labels: Tensor) -> Float[Tensor, ""]:
        """Return the head's mean loss over the titles that have a label."""
        assert isinstance(head, Classification | Regression)
        return head.loss(view.titles, labels)

    def predict(self, head: nn.Module, view: View) -> Shaped[np.ndarray, " titles"]:
        """Return the most likely class, or the score, of each title."""
        assert isinstance(head, Classification | Regression)
        return head.predict(view.titles).cpu().numpy()

    def _seen(
        self, labels: Shaped[np.ndarray, " seen"], unknown: float, recipe: NewsRecipe, drawn: Drawn
    ) -> Shaped[Tensor, " seen"]:
        """Return the labels of a batch's articles, ``unknown`` for those that the task does not see."""
        labels[drawn.left_out(_section(recipe, self.name).articles)] = unknown
        return torch.from_numpy(labels)


@dataclass(frozen=True)
class TitleClass(_OfTitles):
    """A class for each title.

    Attributes:
        field: the store's labels, from the recipe.
    """

    field: Callable[[NewsRecipe], str]

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a classifier of as many classes as there are names."""
        return Classification(title_size, max(len(labels[self.field(recipe)]), 1))

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Refuse a store without labels."""
        if not (np.asarray(store.labels_of(self.field(recipe))) != IGNORE).any():
            raise _nothing_to_learn(store, self.name)

    def labels(self, store: Store, recipe: NewsRecipe, drawn: Drawn) -> Int[Tensor, " seen"]:
        """Return the class of each article, -100 where it has none or the task does not see it."""
        classes = np.asarray(store.labels_of(self.field(recipe))[drawn.articles], dtype=np.int64)
        return self._seen(classes, IGNORE, recipe, drawn)

    def metrics(
        self,
        predicted: Shaped[np.ndarray, " titles"],
        store: Store,
        recipe: NewsRecipe,
        rows: Int[np.ndarray, " titles"],
    ) -> dict[str, float]:
        """Return the accuracy."""
        return {f"{self.name}/accuracy": accuracy(predicted, store.labels_of(self.field(recipe))[rows])}


@dataclass(frozen=True)
class TitleScore(_OfTitles):
    """The sentiment score of each title, from -1 to 1."""

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a regression."""
        return Regression(title_size)

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Standardise by the scores of the articles in training; refuse a store without any."""
        scores = np.asarray(store.sentiment_scores())[seen_in_training(store)]
        if np.isnan(scores).all():
            raise _nothing_to_learn(store, self.name)
        _standardise(head, scores)

    def labels(self, store: Store, recipe: NewsRecipe, drawn: Drawn) -> Float[Tensor, " seen"]:
        """Return the score of each article, NaN where it has none or the task does not see it."""
        scores = np.array(store.sentiment_scores()[drawn.articles], dtype=np.float32)
        return self._seen(scores, np.nan, recipe, drawn)

    def metrics(
        self,
        predicted: Shaped[np.ndarray, " titles"],
        store: Store,
        recipe: NewsRecipe,
        rows: Int[np.ndarray, " titles"],
    ) -> dict[str, float]:
        """Return the mean absolute error and R²."""
        scores = np.asarray(store.sentiment_scores()[rows])
        return {
            f"{self.name}/mae": absolute_error(predicted, scores),
            f"{self.name}/r2": explained(predicted, scores),
        }


@dataclass(frozen=True)
class TitleTags:
    """An entity tag for each token of each title (paper 1, eqs. 7 and 8)."""

    name: str
    of_histories = False

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a tagger of one type, or of as many as there are names."""
        types = 1 if recipe.entities.scheme == "bio" else max(len(labels["entity_types"]), 1)
        return Tagging(title_size, types, recipe.entities.average)

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Refuse a store in whose titles no entity stands."""
        if not store.manifest["labels"]["entity_types"]:
            raise _nothing_to_learn(store, self.name)

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


@dataclass(frozen=True)
class HistoryValue:
    """What a reader did with each article of the history, from the two's vectors and their product.

    The labels lie before the impression that is ranked; what its row says of the time after it is never read.

    Attributes:
        name: of the task, of its section and of the store's values.
        scale: how values are learned: seconds by their logarithm.
        unscale: back again.
    """

    name: str
    scale: Callable[[Float[np.ndarray, "*values"]], Float[np.ndarray, "*values"]]
    unscale: Callable[[Float[np.ndarray, "*values"]], Float[np.ndarray, "*values"]]
    of_histories = True

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a regression on article, reader and their product."""
        return Regression(3 * article_size)

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Standardise by the values of the training histories; refuse a store without any."""
        if not store.has_history_values(self.name):
            raise _nothing_to_learn(store, self.name)
        rows = np.unique(store.impressions(store.split("train")).history)
        values = self.scale(store.history_values(self.name, rows, recipe.data.max_history))
        if np.isnan(values).all():
            raise _nothing_to_learn(store, self.name)
        _standardise(head, values)

    def labels(self, store: Store, recipe: NewsRecipe, drawn: Drawn) -> Float[Tensor, "clicks places"]:
        """Return the value of each place of each history, NaN where none is known or the place is padding."""
        most = recipe.data.max_history
        _, lengths = store.histories(drawn.histories, most)
        values = self.scale(store.history_values(self.name, drawn.histories, most))
        places = padded(np.arange(len(values)), lengths)
        found = np.append(values, np.float32(np.nan))[places]
        return torch.from_numpy(found.astype(np.float32))

    def loss(self, head: nn.Module, view: View, labels: Tensor) -> Float[Tensor, ""]:
        """Return the mean squared error."""
        assert isinstance(head, Regression)
        pairs = _pairs(view)
        return head.loss(pairs, labels[view.history >= 0])

    def predict(self, head: nn.Module, view: View) -> Float[np.ndarray, " clicks"]:
        """Return the values of the histories' places, one history after another."""
        assert isinstance(head, Regression)
        return self.unscale(head.predict(_pairs(view)).cpu().numpy())

    def metrics(
        self,
        predicted: Shaped[np.ndarray, " clicks"],
        store: Store,
        recipe: NewsRecipe,
        rows: Int[np.ndarray, " histories"],
    ) -> dict[str, float]:
        """Return the mean absolute error in the data's unit, and R² on the scale that is learned."""
        values = store.history_values(self.name, rows, recipe.data.max_history)
        return {
            f"{self.name}/mae": absolute_error(predicted, values),
            f"{self.name}/r2": explained(self.scale(predicted), self.scale(values)),
        }


def _log_seconds(seconds: Float[np.ndarray, "*values"]) -> Float[np.ndarray, "*values"]:
    logarithms: Float[np.ndarray, "*values"] = np.log1p(np.maximum(seconds, 0))
    return logarithms


def _seconds(logarithms: Float[np.ndarray, "*values"]) -> Float[np.ndarray, "*values"]:
    seconds: Float[np.ndarray, "*values"] = np.expm1(logarithms)
    return seconds


def _share(percent: Float[np.ndarray, "*values"]) -> Float[np.ndarray, "*values"]:
    return percent / 100


def _percent(share: Float[np.ndarray, "*values"]) -> Float[np.ndarray, "*values"]:
    return share * 100


TASKS: dict[str, TitleClass | TitleScore | TitleTags | HistoryValue] = {
    "category": TitleClass("category", lambda recipe: recipe.category.field),
    "entities": TitleTags("entities"),
    "sentiment": TitleClass("sentiment", lambda _: "sentiment"),
    "sentiment_score": TitleScore("sentiment_score"),
    "read_time": HistoryValue("read_time", _log_seconds, _seconds),
    "scroll": HistoryValue("scroll", _share, _percent),
}


class _AuxiliarySection(Protocol):
    weight: float
    articles: Seen


def _section(recipe: NewsRecipe, name: str) -> _AuxiliarySection:
    section: _AuxiliarySection = getattr(recipe, name)
    return section


def _pairs(view: View) -> Float[Tensor, "clicks pair_size"]:
    """Return article, reader and their product for every place of the histories that is no padding."""
    reader, place = torch.nonzero(view.history >= 0, as_tuple=True)
    article = nn.functional.embedding(view.history[reader, place], view.articles)
    own = nn.functional.embedding(reader, view.readers)
    return torch.cat((article, own, article * own), dim=1)


def _standardise(head: nn.Module, values: Float[np.ndarray, "*values"]) -> None:
    assert isinstance(head, Regression)
    head.mean.fill_(float(np.nanmean(values)))
    head.spread.fill_(float(np.nanstd(values)) or 1.0)


def _nothing_to_learn(store: Store, name: str) -> CounterpointError:
    remedy = "; set data.sentiment=vader for English titles" if name.startswith("sentiment") else ""
    return CounterpointError(
        f"{store.path}: it has no labels for the task {name!r}{remedy}; or leave the task out of 'tasks'."
    )
