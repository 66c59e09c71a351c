"""One tag for each token: begin (odd), inside (even) or outside (0) an entity, of one type or several."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from counterpoint.news.tasks.classification import IGNORE


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
