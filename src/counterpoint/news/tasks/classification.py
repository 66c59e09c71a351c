"""One class for each article."""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

IGNORE = -100
"""The label that no loss and no metric looks at: padding, special tokens, unknown classes."""


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
