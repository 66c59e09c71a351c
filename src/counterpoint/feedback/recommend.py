"""Scoring items for the users of a store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from counterpoint.capabilities import Question
from counterpoint.errors import ArgumentError, UsageError, nearest
from counterpoint.feedback.batches import FeedbackBatch, gathered
from counterpoint.feedback.data.owners import last_rows
from counterpoint.feedback.data.store import Store
from counterpoint.feedback.models.building import Model
from counterpoint.feedback.scoring import ROWS, evaluating, logits_of
from counterpoint.progress import Progress, silent

_USERS = 256  # in a block of `recommend_all`


@dataclass(frozen=True)
class Recommendation:
    """A ranked item.

    Attributes:
        item: its id.
        score: the probability of the label that ranks.
        probabilities: that of each label.
    """

    item: str
    score: float
    probabilities: Mapping[str, float]

    def __str__(self) -> str:
        told = ", ".join(f"{label} {value:.3f}" for label, value in self.probabilities.items())
        return f"{self.item}  ({told})"


class FeedbackRecommender:
    """A trained model with the users and items of its store.

    An item comes with the columns that are its own, as in its last training row; everything else is as in the
    user's last training row, the moment included. What the user has viewed in training is left out.

    Args:
        model: the network, or networks.
        store: it was trained on.

    Raises:
        UsageError: the log has no users or no items.
    """

    def __init__(self, model: Model, store: Store) -> None:
        self._rows = store.rows("train")
        if store.unit != "users" or self._rows.items is None:
            raise UsageError(
                f"{store.path}: the log has no users or no items, so nothing can be recommended to anyone; "
                "name their columns by columns.user and columns.item."
            )
        self._model, self._store = model, store
        self._viewed = self._rows.items
        last = last_rows(self._viewed)
        self._items = np.flatnonzero(last >= 0)
        self._item_rows = last[self._items]
        self._last_of_user = last_rows(self._rows.users)
        trained = np.flatnonzero(self._last_of_user >= 0)
        self._numbers: dict[str, int] = dict(
            zip(store.users.gather(trained).to_list(), trained.tolist(), strict=True)
        )
        owned = set(store.manifest["columns of the item"])
        schema = store.schema
        self._own_ids = np.array([column.name in owned for column in schema.ids], dtype=bool)
        self._own_numbers = np.array([name in owned for name in schema.numbers], dtype=bool)
        self._own_lists = [column.name in owned for column in schema.lists]
        order = np.argsort(self._rows.users, kind="stable")
        self._by_user = (
            order,
            np.searchsorted(self._rows.users[order], np.arange(len(self._last_of_user) + 1)),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """What is predicted, and can rank."""
        return self._model.schema.labels

    def recommend(self, user: str | int, *, top: int = 10, by: str | None = None) -> list[Recommendation]:
        """Return the ``top`` items for a user, best first; fewer where fewer are left.

        Args:
            user: the id.
            top: how many.
            by: the label whose probability ranks; by default the first.

        Raises:
            UsageError: the user is not in the training data, there is no such label, or ``top`` is below 1.
        """
        place = self._place(by, top)
        with evaluating(self._model) as device:
            items, probabilities = self._best(self._number(user), top, place, device)
        return [
            Recommendation(
                str(self._store.items[item]),
                float(values[place]),
                dict(zip(self.labels, values.tolist(), strict=True)),
            )
            for item, values in zip(items.tolist(), probabilities, strict=True)
        ]

    def recommend_all(
        self, *, top: int = 10, by: str | None = None, progress: Progress = silent
    ) -> Iterator[pl.DataFrame]:
        """Yield the ``top`` items of every user of training: user, rank, item, score, and each probability.

        Raises:
            UsageError: there is no such label, or ``top`` is below 1.
        """
        place = self._place(by, top)
        users = np.flatnonzero(self._last_of_user >= 0)
        for start in range(0, len(users), _USERS):
            block = users[start : start + _USERS]
            with evaluating(self._model) as device:
                tables = [self._table(user, top, place, device) for user in block.tolist()]
            yield pl.concat(tables)
            progress("recommending to users", start + len(block), len(users))

    def answers(self, question: Question, *, top: int, progress: Progress = silent) -> list[Recommendation]:
        """Return what `recommend` says to a question that names a user; one user is quick."""
        assert question.user is not None
        return self.recommend(question.user, top=top, by=question.by)

    def answers_for_all(self, question: Question, *, top: int, progress: Progress) -> Iterator[pl.DataFrame]:
        """Yield what `recommend_all` says."""
        return self.recommend_all(top=top, by=question.by, progress=progress)

    def _table(self, user: int, top: int, place: int, device: torch.device) -> pl.DataFrame:
        """Return the best items of a user as `recommend_all` tells them."""
        items, probabilities = self._best(user, top, place, device)
        return pl.DataFrame(
            {
                "user": pl.Series([self._store.users[user]] * len(items), dtype=pl.String),
                "rank": np.arange(1, len(items) + 1, dtype=np.int32),
                "item": self._store.items.gather(items),
                "score": probabilities[:, place],
                **{
                    f"probability of {label}": probabilities[:, column]
                    for column, label in enumerate(self.labels)
                },
            }
        )

    def _best(
        self, user: int, top: int, place: int, device: torch.device
    ) -> tuple[Int[np.ndarray, " best"], Float[np.ndarray, "best labels"]]:
        """Return the best items of a user and the probabilities of their labels."""
        order, begins = self._by_user
        viewed = self._viewed[order[begins[user] : begins[user + 1]]]
        left = np.flatnonzero(~np.isin(self._items, viewed))
        found = [
            logits_of(self._model, self._candidates(user, left[start : start + ROWS]), device)
            for start in range(0, len(left), ROWS)
        ]
        if not found:
            return left, np.empty((0, len(self.labels)), dtype=np.float32)
        logits = np.concatenate(found)
        best = np.argsort(-logits[:, place], kind="stable")[:top]
        probabilities: Float[np.ndarray, "best labels"] = torch.from_numpy(logits[best]).sigmoid().numpy()
        return self._items[left[best]], probabilities

    def _candidates(self, user: int, chosen: Int[np.ndarray, " items"]) -> FeedbackBatch:
        """Return the rows that pair a user with items."""
        of_items = gathered(self._rows, self._item_rows[chosen], [])
        of_user = gathered(self._rows, np.full(len(chosen), self._last_of_user[user]), [])
        own_ids, own_numbers = torch.from_numpy(self._own_ids), torch.from_numpy(self._own_numbers)
        return FeedbackBatch(
            torch.where(own_ids, of_items.ids, of_user.ids),
            torch.where(own_numbers, of_items.numbers, of_user.numbers),
            tuple(
                item if own else whose
                for own, item, whose in zip(self._own_lists, of_items.lists, of_user.lists, strict=True)
            ),
            of_items.labels,
        )

    def _place(self, by: str | None, top: int) -> int:
        """Return the column of the label that ranks."""
        if top < 1:
            raise ArgumentError("top", f"{top} is too few; ask for at least 1 item")
        if by is not None and by not in self.labels:
            raise ArgumentError(
                "by",
                f"the model does not predict {by!r}{nearest(by, self.labels)}; it predicts "
                f"{', '.join(self.labels)}",
            )
        return 0 if by is None else self.labels.index(by)

    def _number(self, user: str | int) -> int:
        """Return a user's number."""
        number = self._numbers.get(str(user))
        if number is None:
            raise UsageError(
                f"no user {str(user)!r} in the training data of {self._store.path}"
                f"{nearest(str(user), self._numbers)}; check the id: only users of the training data have a "
                "last row to go by."
            )
        return number
