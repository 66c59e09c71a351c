"""The tasks' heads: from the vectors of a sentence or a pair to a class or a score (paper 3, 4.2 to 4.4)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.sentences.recipe import COSINES, SentencesRecipe, Task

Sides = Sequence[Float[Tensor, "rows size"]]
"""The vectors of each row's sentences; of pairs that are encoded jointly, the one vector of the pair."""


class Head(Protocol):
    """What learns and answers one task."""

    def loss(self, sides: Sides, labels: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Return the loss, a mean over the rows."""
        ...

    def answer(self, sides: Sides) -> Float[Tensor, "rows answers"]:
        """Return the probability of each class, or the score alone."""
        ...


class Classes(nn.Module):
    """Dropout and a linear layer: softmax over classes, or one logit where there are two (4.2 and 4.3).

    Args:
        size: numbers in what `features` makes of the sides.
        classes: how many.
        dropout: of the features.
        features: makes one vector of the sides.
    """

    def __init__(
        self, size: int, classes: int, dropout: float, features: Callable[[Sides], Float[Tensor, "rows size"]]
    ) -> None:
        super().__init__()
        self._features = features
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(size, 1 if classes == 2 else classes)

    def loss(self, sides: Sides, labels: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy."""
        logits = self._logits(sides)
        if logits.shape[1] == 1:
            return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels)
        return nn.functional.cross_entropy(logits, labels.long())

    def answer(self, sides: Sides) -> Float[Tensor, "rows classes"]:
        """Return the probability of each class."""
        logits = self._logits(sides)
        if logits.shape[1] == 1:
            return torch.cat((torch.sigmoid(-logits), torch.sigmoid(logits)), dim=1)
        return torch.softmax(logits, dim=1)

    def _logits(self, sides: Sides) -> Float[Tensor, "rows outputs"]:
        logits: Tensor = self.output(self.dropout(self._features(sides)))
        return logits


class LinearScore(nn.Module):
    """A scaled linear layer: ŷ = low + (high - low) (w · features + b) (4.4, iteration 1).

    Args:
        size: numbers in what `features` makes of the sides.
        scores: the lowest and the highest score.
        dropout: of the features.
        features: makes one vector of the sides.
    """

    def __init__(
        self,
        size: int,
        scores: tuple[float, float],
        dropout: float,
        features: Callable[[Sides], Float[Tensor, "rows size"]],
    ) -> None:
        super().__init__()
        self._features, self._scores = features, scores
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(size, 1)

    def loss(self, sides: Sides, labels: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Return the mean squared error, in the labels' unit."""
        return nn.functional.mse_loss(self.answer(sides)[:, 0], labels)

    def answer(self, sides: Sides) -> Float[Tensor, "rows 1"]:
        """Return the scores."""
        low, high = self._scores
        shares: Tensor = self.output(self.dropout(self._features(sides)))
        return low + (high - low) * shares


class CosineScore(nn.Module):
    """The cosine of the two sentences' vectors, brought to the labels' range (4.4, iterations 2 and 3).

        cosine          ŷ = low + (high - low) cos(u, v)
        relu_cosine     ŷ = low + (high - low) ReLU(cos(u, v))
        learned_cosine  ŷ = low + (high - low) σ((cos(u, v) - m) / τ),  m and τ learned

    A cosine that is used as it is compares with labels divided by 5; that is the first line, but for a factor
    in the loss. The temperature begins at 0.2 and m at 0.5, so that cosines from 0 to 1 cover most of the
    range. There is no dropout: noise in two vectors is not noise in their angle.

    Args:
        scores: the lowest and the highest score.
        kind: which of them.
    """

    def __init__(self, scores: tuple[float, float], kind: str) -> None:
        super().__init__()
        self._scores = scores
        self._share: Callable[[Float[Tensor, " rows"]], Float[Tensor, " rows"]] = {
            "cosine": nn.Identity(),
            "relu_cosine": nn.ReLU(),
            "learned_cosine": _Tempered(),
        }[kind]

    def loss(self, sides: Sides, labels: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Return the mean squared error, in the labels' unit."""
        return nn.functional.mse_loss(self.answer(sides)[:, 0], labels)

    def answer(self, sides: Sides) -> Float[Tensor, "rows 1"]:
        """Return the scores."""
        low, high = self._scores
        first, second = sides
        cosines = nn.functional.cosine_similarity(first, second)
        return (low + (high - low) * self._share(cosines))[:, None]


class _Tempered(nn.Module):
    """σ((c - m) / τ) with the middle m and the temperature τ learned; τ is kept positive by its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor(0.5))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.2)))

    def forward(self, cosines: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return torch.sigmoid((cosines - self.middle) / self.log_temperature.exp())


def make_head(task: Task, size: int, recipe: SentencesRecipe) -> nn.Module:
    """Return the fresh head of a task on vectors of ``size`` numbers."""
    if task.pair in COSINES:
        assert task.scores is not None
        return CosineScore(task.scores, task.pair)
    dropout = recipe.heads.dropout if task.dropout else 0.0
    features, times = _FEATURES["joint" if task.sides == 1 else task.pair]
    if task.classes is not None:
        return Classes(times * size, task.classes, dropout, features)
    assert task.scores is not None
    return LinearScore(times * size, task.scores, dropout, features)


def _alone(sides: Sides) -> Float[Tensor, "rows size"]:
    (vectors,) = sides
    return vectors


def _concatenated(sides: Sides) -> Float[Tensor, "rows twice"]:
    return torch.cat((sides[0], sides[1]), dim=1)


def _with_difference(sides: Sides) -> Float[Tensor, "rows thrice"]:
    return torch.cat((sides[0], sides[1], (sides[0] - sides[1]).abs()), dim=1)


_FEATURES: Mapping[str, tuple[Callable[[Sides], Tensor], int]] = {
    "joint": (_alone, 1),
    "concatenation": (_concatenated, 2),
    "difference": (_with_difference, 3),
}
"""What a linear layer sees of a row, and how many vectors wide that is."""
