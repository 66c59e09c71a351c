"""Floors: what the rates of a label in training tell, over all rows, by item and by user."""

import numpy as np
from jaxtyping import Float, Int

from counterpoint.feedback.data.store import Rows

PRIOR = 10.0
"""Rows at the global rate that every item and user is given, so that few rows of its own say little."""


def floors(
    train: Rows, rows: Rows, tasks: list[int], *, users: bool
) -> dict[str, Float[np.ndarray, "rows tasks"]]:
    """Return the probabilities of each floor.

    The rate of an item with n training rows, p of them positive, is (p + a r) / (n + a) with r the global
    rate and a = 10; so is that of a user.

    Args:
        train: the training split.
        rows: the split that is scored.
        tasks: the places of the labels.
        users: whether rows have users.
    """
    labels = np.asarray(train.labels[:, tasks], dtype=np.float64)
    rate = labels.mean(axis=0)
    found = {"global rate": np.broadcast_to(rate, (len(rows), len(tasks)))}
    if train.items is not None and rows.items is not None:
        found["item rate"] = _rates(train.items, labels, rate, rows.items)
    if users:
        found["user rate"] = _rates(train.users, labels, rate, rows.users)
    return found


def _rates(
    owners: Int[np.ndarray, " training"],
    labels: Float[np.ndarray, "training tasks"],
    rate: Float[np.ndarray, " tasks"],
    scored: Int[np.ndarray, " rows"],
) -> Float[np.ndarray, "rows tasks"]:
    """Return the rates of those to be scored."""
    count = 1 + max(int(owners.max(initial=0)), int(scored.max(initial=0)))
    rows = np.bincount(owners, minlength=count) + PRIOR
    positive = np.stack([np.bincount(owners, weights=column, minlength=count) for column in labels.T], axis=1)
    rates: Float[np.ndarray, "rows tasks"] = ((positive + PRIOR * rate) / rows[:, None])[scored]
    return rates
