"""One class for each title: its category, or its sentiment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from counterpoint.news.data.store import IGNORE, Store
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks.protocol import Drawn, Labels, View, nothing_to_learn, seen_by


@dataclass(frozen=True)
class TitleClass:
    """A class for each title, from its vector.

    Attributes:
        name: of the task and of its section in the recipe.
        field: the store's labels, from the recipe.
    """

    name: str
    field: Callable[[NewsRecipe], str]
    of_histories: ClassVar[bool] = False

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a classifier of as many classes as there are names."""
        return Classification(title_size, max(len(labels[self.field(recipe)]), 1))

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Refuse a store without labels."""
        if not (np.asarray(store.labels_of(self.field(recipe))) != IGNORE).any():
            raise nothing_to_learn(store, self.name)

    def labels(self, store: Store, recipe: NewsRecipe, drawn: Drawn) -> Int[Tensor, " seen"]:
        """Return the class of each article, -100 where it has none or the task does not see it."""
        classes = np.asarray(store.labels_of(self.field(recipe))[drawn.articles], dtype=np.int64)
        classes[drawn.left_out(seen_by(recipe, self.name))] = IGNORE
        return torch.from_numpy(classes)

    def loss(self, head: nn.Module, view: View, labels: Tensor) -> Float[Tensor, ""]:
        """Return the mean loss over the titles that have a class."""
        assert isinstance(head, Classification)
        return head.loss(view.titles, labels)

    def predict(self, head: nn.Module, view: View) -> Int[np.ndarray, " titles"]:
        """Return the most likely class of each title."""
        assert isinstance(head, Classification)
        return head.predict(view.titles).cpu().numpy()

    def metrics(
        self,
        predicted: Shaped[np.ndarray, " titles"],
        store: Store,
        recipe: NewsRecipe,
        rows: Int[np.ndarray, " titles"],
    ) -> dict[str, float]:
        """Return the accuracy."""
        return {f"{self.name}/accuracy": accuracy(predicted, store.labels_of(self.field(recipe))[rows])}


class Classification(nn.Module):
    """Softmax over classes (paper 1, eqs. 5 and 6).

    Args:
        size: numbers in an article vector.
        classes: number of classes.
    """

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(size, classes)

    def loss(
        self, vectors: Float[Tensor, "articles size"], labels: Int[Tensor, " articles"]
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy over the articles that have a label; 0 where none has."""
        total = nn.functional.cross_entropy(
            self.output(vectors), labels, ignore_index=IGNORE, reduction="sum"
        )
        return total / (labels != IGNORE).sum().clamp(min=1)

    def predict(self, vectors: Float[Tensor, "articles size"]) -> Int[Tensor, " articles"]:
        """Return the most likely class of each article."""
        classes: Tensor = self.output(vectors).argmax(-1)
        return classes


def accuracy(predicted: Int[np.ndarray, " articles"], labels: Int[np.ndarray, " articles"]) -> float:
    """Return the share of labelled articles whose class is right; NaN where none is labelled."""
    known = labels != IGNORE
    return float((predicted[known] == labels[known]).mean()) if known.any() else float("nan")
