"""A number for each title, or for each click of a history: sentiment scores, reading time, scroll depth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from counterpoint.news.data.store import Store
from counterpoint.news.features import padded
from counterpoint.news.models.vocabulary import seen_in_training
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks.protocol import Drawn, Labels, View, nothing_to_learn, seen_by


@dataclass(frozen=True)
class TitleScore:
    """The sentiment score of each title, from -1 to 1, from its vector."""

    name: str
    of_histories: ClassVar[bool] = False

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a regression."""
        return Regression(title_size)

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Standardise by the scores of the articles in training; refuse a store without any."""
        scores = np.asarray(store.sentiment_scores())[seen_in_training(store)]
        if np.isnan(scores).all():
            raise nothing_to_learn(store, self.name)
        _standardise(head, scores)

    def labels(self, store: Store, recipe: NewsRecipe, drawn: Drawn) -> Float[Tensor, " seen"]:
        """Return the score of each article, NaN where it has none or the task does not see it."""
        scores = np.array(store.sentiment_scores()[drawn.articles], dtype=np.float32)
        scores[drawn.left_out(seen_by(recipe, self.name))] = np.nan
        return torch.from_numpy(scores)

    def loss(self, head: nn.Module, view: View, labels: Tensor) -> Float[Tensor, ""]:
        """Return the mean squared error over the titles that have a score."""
        assert isinstance(head, Regression)
        return head.loss(view.titles, labels)

    def predict(self, head: nn.Module, view: View) -> Float[np.ndarray, " titles"]:
        """Return the score of each title."""
        assert isinstance(head, Regression)
        return head.predict(view.titles).cpu().numpy()

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
    of_histories: ClassVar[bool] = True

    def head(self, recipe: NewsRecipe, labels: Labels, title_size: int, article_size: int) -> nn.Module:
        """Return a regression on article, reader and their product."""
        return Regression(3 * article_size)

    def prepare(self, head: nn.Module, store: Store, recipe: NewsRecipe) -> None:
        """Standardise by the values of the training histories; refuse a store without any."""
        if not store.has_history_values(self.name):
            raise nothing_to_learn(store, self.name)
        rows = np.unique(store.impressions(store.split("train")).history)
        values = self.scale(store.history_values(self.name, rows, recipe.data.max_history))
        if np.isnan(values).all():
            raise nothing_to_learn(store, self.name)
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


class Regression(nn.Module):
    """Linear regression of standardised values; the loss is the mean squared error.

    Values are brought to mean 0 and variance 1 first, so that a task measured in seconds weighs no more
    than one measured in shares before the gradients are balanced.

    Args:
        size: numbers in an example's vector.
        mean: of the values in training.
        spread: their standard deviation.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, size: int, mean: float = 0.0, spread: float = 1.0) -> None:
        super().__init__()
        self.output = nn.Linear(size, 1)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("spread", torch.tensor(spread if spread > 0 else 1.0))

    def loss(
        self, vectors: Float[Tensor, "examples size"], values: Float[Tensor, " examples"]
    ) -> Float[Tensor, ""]:
        """Return the mean squared error over the examples that have a value (NaN: none); 0 where none has."""
        known = ~values.isnan()
        wanted = torch.where(known, (values - self.mean) / self.spread, 0.0)
        errors = torch.where(known, self.output(vectors).squeeze(-1) - wanted, 0.0)
        return errors.square().sum() / known.sum().clamp(min=1)

    def predict(self, vectors: Float[Tensor, "examples size"]) -> Float[Tensor, " examples"]:
        """Return the value of each example, on the scale it was given in."""
        values: Tensor = self.output(vectors).squeeze(-1) * self.spread + self.mean
        return values


def explained(predicted: Float[np.ndarray, " examples"], values: Float[np.ndarray, " examples"]) -> float:
    """Return R² = 1 - Σ(v - v̂)² / Σ(v - v̄)² over the known values; NaN where they do not differ."""
    known = ~np.isnan(values)
    wanted = values[known].astype(np.float64)
    around = ((wanted - wanted.mean()) ** 2).sum() if len(wanted) else 0.0
    return float(1 - ((wanted - predicted[known]) ** 2).sum() / around) if around > 0 else float("nan")


def absolute_error(
    predicted: Float[np.ndarray, " examples"], values: Float[np.ndarray, " examples"]
) -> float:
    """Return the mean absolute error over the known values; NaN where none is known."""
    known = ~np.isnan(values)
    return float(np.abs(predicted[known] - values[known]).mean()) if known.any() else float("nan")


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


READ_TIME = HistoryValue("read_time", _log_seconds, _seconds)
SCROLL = HistoryValue("scroll", _share, _percent)
