"""Recommending items to the users of a store."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float

from counterpoint.behaviors.data.store import SPLITS, Interactions, Store
from counterpoint.behaviors.evaluate import masked_pairs
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.ranking import top_items
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.behaviors.scoring import NetworkScorer, scorer_of
from counterpoint.capabilities import Question
from counterpoint.errors import ArgumentError, UsageError, nearest
from counterpoint.progress import Progress, silent

_USERS = 1_024  # in a block of `recommend_all`


@dataclass(frozen=True)
class Recommendation:
    """A ranked item.

    Attributes:
        item: its id.
        score: the probability that the user buys it, as the model has it: beside sampled negatives, so it is
            for comparing items, not for counting on.
        known_by: the auxiliary behaviours by which the user met the item in training.
    """

    item: str
    score: float
    known_by: tuple[str, ...]

    def __str__(self) -> str:
        known = f"  known by {', '.join(self.known_by)}" if self.known_by else ""
        return f"{self.item}  ({self.score:.3f}){known}"


class BehaviorsRecommender:
    """A trained network with the users and items of its store.

    What the user is known to have bought is left out, be it in training, validation or test, and what the
    recipe's ``ranking.mask`` leaves out of a test.

    Args:
        model: the network.
        recipe: it was trained with.
        store: it was trained on.
    """

    def __init__(self, model: BehaviorsNetwork, recipe: BehaviorsRecipe, store: Store) -> None:
        self._model, self._recipe, self._store = model, recipe, store
        bought = [store.interactions(split, recipe.target) for split in SPLITS]
        self._masked = Interactions.union([masked_pairs(recipe, store, "test"), *bought])
        self._scorer = NetworkScorer(model, recipe.target)

    def recommend(self, user: str | int, *, top: int = 10) -> list[Recommendation]:
        """Return the ``top`` items for a user, best first; fewer where fewer are left.

        Raises:
            UsageError: the user is not in the training data, or ``top`` is below 1.
        """
        _require(top)
        row = self._row(user)
        depth = min(top, self._store.item_count)
        items, logits = top_items(self._scorer, np.array([row]), self._masked, depth)
        left = items[0] >= 0
        known = {
            task: set(self._store.interactions("train", task).of(row).tolist())
            for task in self._recipe.tasks[1:]
        }
        return [
            Recommendation(
                str(self._store.item_ids[item]),
                score,
                tuple(task for task, met in known.items() if item in met),
            )
            for item, score in zip(
                items[0][left].tolist(), _probability(logits[0][left]).tolist(), strict=True
            )
        ]

    def recommend_all(self, *, top: int = 10, progress: Progress = silent) -> Iterator[pl.DataFrame]:
        """Yield the ``top`` items of every user, block by block: columns user, rank, item and score.

        Users and items have their ids as in the data.

        Raises:
            UsageError: ``top`` is below 1.
        """
        _require(top)
        depth, users = min(top, self._store.item_count), self._store.user_count
        scorer = scorer_of(self._model, self._recipe.target, self._masked, depth)
        for start in range(0, users, _USERS):
            block = np.arange(start, min(start + _USERS, users))
            items, logits = top_items(scorer, block, self._masked, depth)
            place, rank = np.nonzero(items >= 0)
            yield pl.DataFrame(
                {
                    "user": self._store.user_ids.gather(block[place]),
                    "rank": (rank + 1).astype(np.int32),
                    "item": self._store.item_ids.gather(items[place, rank]),
                    "score": _probability(logits[place, rank]),
                }
            )
            progress("recommending to users", start + len(block), users)

    def answers(self, question: Question, *, top: int, progress: Progress = silent) -> list[Recommendation]:
        """Return what `recommend` says to a question that names a user; one user is quick."""
        assert question.user is not None
        return self.recommend(question.user, top=top)

    def answers_for_all(self, question: Question, *, top: int, progress: Progress) -> Iterator[pl.DataFrame]:
        """Yield what `recommend_all` says."""
        return self.recommend_all(top=top, progress=progress)

    def _row(self, user: str | int) -> int:
        row = self._store.user_rows.get(str(user))
        if row is None:
            known = self._store.user_rows if self._store.user_ids.dtype == pl.String else ()
            raise UsageError(
                f"no user {str(user)!r} in the training data of {self._store.path}"
                f"{nearest(str(user), known)}; check the id: only users of the training data have vectors."
            )
        return row


def _require(top: int) -> None:
    if top < 1:
        raise ArgumentError("top", f"{top} is too few; ask for at least 1 item")


def _probability(logits: Float[np.ndarray, " items"]) -> Float[np.ndarray, " items"]:
    probability: Float[np.ndarray, " items"] = torch.from_numpy(logits).sigmoid().numpy()
    return probability
