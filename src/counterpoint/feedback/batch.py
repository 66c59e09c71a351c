"""Rows of feedback as a model takes them: columns, not rows, one after another."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Bag = tuple[Int[Tensor, " values"], Int[Tensor, " rows"]]
"""The ids of a list column, row after row, and where each row's begin, as `nn.EmbeddingBag` takes them."""


@dataclass(frozen=True)
class FeedbackBatch:
    """Rows of feedback, in the order of a `Schema`'s columns.

    Attributes:
        ids: the rows of the ids in their columns' vocabularies.
        numbers: standardised.
        lists: of each list column, its ids and where each row's begin.
        labels: 1 or 0.
    """

    ids: Int[Tensor, "rows ids"]
    numbers: Float[Tensor, "rows numbers"]
    lists: tuple[Bag, ...]
    labels: Float[Tensor, "rows labels"]

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> "FeedbackBatch":
        """Return the batch on ``device``."""
        return FeedbackBatch(
            self.ids.to(device),
            self.numbers.to(device),
            tuple((values.to(device), offsets.to(device)) for values, offsets in self.lists),
            self.labels.to(device),
        )
