"""What every auxiliary task offers, and what it is given."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from counterpoint.errors import CounterpointError
from counterpoint.news.data.store import Store
from counterpoint.news.recipe import NewsRecipe, Seen

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
    """An auxiliary task.

    Attributes:
        of_histories: whether it is learned of the histories' clicks, or of the titles.
    """

    of_histories: ClassVar[bool]

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


def seen_by(recipe: NewsRecipe, name: str) -> Seen:
    """Return which articles of a batch a task on titles learns from."""
    seen: Seen = getattr(recipe, name).articles
    return seen


def nothing_to_learn(store: Store, name: str) -> CounterpointError:
    """Return that a store has no labels for a task."""
    remedy = "; set data.sentiment=vader for English titles" if name.startswith("sentiment") else ""
    return CounterpointError(
        f"{store.path}: it has no labels for the task {name!r}{remedy}; or leave the task out of 'tasks'."
    )
