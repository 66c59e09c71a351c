"""Metrics of yes/no labels over groups of rows: AUC over all and user by user, log loss, means over tasks.

A metric that is no mean over users has its value plus a user's influence on it as that user's *contribution*.
The mean of all contributions is the metric itself, and means over users drawn anew vary as it would, to first
order. So the bootstrap over users, which resamples means, serves pooled metrics and weighted ones as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from counterpoint.errors import CounterpointError

Labels = Bool[np.ndarray, " rows"] | Int[np.ndarray, " rows"] | Float[np.ndarray, " rows"]
Weight = Literal["impressions", "positives", "uniform"]


@dataclass(frozen=True)
class UserAUC:
    """The AUC of each user, NaN where all of the user's labels are alike.

    Attributes:
        users: who they are, ascending.
        per_user: the AUC of each.
        rows: how many rows each has,
        positives: and how many of them are positive.
    """

    users: Int[np.ndarray, " users"]
    per_user: Float[np.ndarray, " users"]
    rows: Int[np.ndarray, " users"]
    positives: Int[np.ndarray, " users"]

    def mean(self, weight: Weight = "impressions") -> float:
        """Return GAUC: Σ_u w_u AUC_u / Σ_u w_u over the users that have both labels; NaN if none has.

        Definitions in use differ by the weight, and by as much as methods do. With ``impressions`` w_u is the
        number of the user's rows, as in the evaluation of paper 5; with ``positives`` that of the positive
        ones, and with ``uniform`` it is 1. Users with one label alone are in neither sum.

        Raises:
            ValueError: there is no such weight.
        """
        if weight not in get_args(Weight):
            raise ValueError(f"weight must be one of {', '.join(get_args(Weight))}, not {weight!r}.")
        counted = self._counted()
        if not counted.any():
            return float("nan")
        weights = {"impressions": self.rows, "positives": self.positives}.get(weight)
        values = self.per_user[counted]
        return float(np.average(values, weights=None if weights is None else weights[counted]))

    @property
    def coverage(self) -> float:
        """The share of users that count; NaN without users."""
        counted = self._counted()
        return float(counted.mean()) if len(counted) else float("nan")

    def _counted(self) -> Bool[np.ndarray, " users"]:
        counted: Bool[np.ndarray, " users"] = ~np.isnan(self.per_user)
        return counted


def user_auc(scores: Float[np.ndarray, " rows"], labels: Labels, users: Int[np.ndarray, " rows"]) -> UserAUC:
    """Return the AUC of each user: the share of pairs of a positive and a negative row in the right order.

        >>> import numpy as np
        >>> scores, labels = np.array([0.9, 0.1, 0.3, 0.4]), np.array([1, 0, 1, 0])
        >>> user_auc(scores, labels, np.array([0, 0, 1, 1])).per_user.tolist()
        [1.0, 0.0]

        AUC_u = (Σ ranks of positives - P (P + 1) / 2) / (P N)

    with P positive and N negative rows, ranked by rising score; equal scores have their mean rank, so that a
    tie counts as half. All users are ranked at once: rows are sorted by score, then by user.

    Args:
        scores: of any unit; a higher one says that the label is likelier.
        labels: 1 or 0.
        users: each row's user, by number.

    Raises:
        CounterpointError: a score is not a number.
        ValueError: the arrays differ in length, or a user's number is negative.
    """
    rows = len(scores)
    if not len(labels) == len(users) == rows:
        raise ValueError(f"{rows} scores, {len(labels)} labels and {len(users)} users do not fit.")
    if rows and users.min() < 0:
        raise ValueError(f"Users are numbered from 0 on; {users.min()} is no such number.")
    if np.isnan(scores).any():
        raise CounterpointError(
            f"Row {int(np.flatnonzero(np.isnan(scores))[0])}: the score is not a number; check that training "
            "did not diverge before evaluating this model."
        )
    by_user = _sorted_by_user(scores, users)
    whose, score, positive = users[by_user], scores[by_user], labels[by_user] > 0
    changes = np.flatnonzero(whose[1:] != whose[:-1]) + 1
    first = np.concatenate(([0], changes)) if rows else changes
    sizes = np.diff(np.append(first, rows))
    if not rows:
        return UserAUC(whose, np.empty(0), sizes, sizes)
    ranks = _mean_places(whose, score) - np.repeat(first, sizes) + 1
    positives = np.add.reduceat(positive, first, dtype=np.int64)
    sums = np.add.reduceat(np.where(positive, ranks, 0.0), first)
    pairs = positives * (sizes - positives)
    right = sums - positives * (positives + 1) / 2
    per_user = np.divide(right, pairs, out=np.full(len(first), np.nan), where=pairs > 0)
    return UserAUC(whose[first], per_user, sizes, positives)


def auc(scores: Float[np.ndarray, " rows"], labels: Labels) -> float:
    """Return the AUC over all rows; NaN where all labels are alike. Errors as of `user_auc`.

    >>> import numpy as np
    >>> auc(np.array([0.9, 0.1, 0.3, 0.4]), np.array([1, 0, 1, 0]))
    0.75
    """
    everybody = user_auc(scores, labels, np.zeros(len(scores), dtype=np.int64))
    return float(everybody.per_user[0]) if len(scores) else float("nan")


def log_loss(probabilities: Float[np.ndarray, " rows"], labels: Labels) -> float:
    """Return the mean cross-entropy in nats; NaN without rows.

        >>> import numpy as np
        >>> round(log_loss(np.array([0.9, 0.2]), np.array([1, 0])), 4)
        0.1643

    Probabilities stay away from 0 and 1 by what their type can tell from 1, lest one row decide.
    """
    if not len(probabilities):
        return float("nan")
    margin = np.finfo(probabilities.dtype).eps
    kept = np.clip(probabilities, margin, 1 - margin).astype(np.float64)
    return float(-np.where(labels > 0, np.log(kept), np.log1p(-kept)).mean())


def average(of_tasks: Mapping[str, float]) -> float:
    """Return the mean over tasks: paper 5's AV-A of AUCs (eq. 12), its AV-G of GAUCs (eq. 13)."""
    return float(np.mean(list(of_tasks.values()))) if of_tasks else float("nan")


def auc_contributions(
    scores: Float[np.ndarray, " rows"],
    labels: Bool[np.ndarray, " rows"],
    users: Int[np.ndarray, " rows"],
    count: int,
) -> Float[np.ndarray, " users"]:
    """Return each user's contribution to the AUC over all rows.

    With P positive and N negative rows, V_i the share of the negatives that a positive row i is above, V_j
    the share of the positives that are above a negative row j (a tie is half), and U users,

        A + U (Σ_{i of u} (V_i - A) / P + Σ_{j of u} (V_j - A) / N)

    (DeLong et al. 1988; Obuchowski 1997 for rows that belong together). NaN where all labels are alike.

    Args:
        scores: the higher, the likelier positive.
        labels: true for positive.
        users: of each row, from 0 on.
        count: how many users there are.
    """
    positive, negative = scores[labels], scores[~labels]
    if not len(positive) or not len(negative):
        return np.full(count, np.nan)
    above = _share_below(positive, np.sort(negative))
    below = 1 - _share_below(negative, np.sort(positive))
    auc = above.mean()
    added = np.bincount(users[labels], weights=above - auc, minlength=count) / len(positive)
    added += np.bincount(users[~labels], weights=below - auc, minlength=count) / len(negative)
    contributions: Float[np.ndarray, " users"] = auc + count * added
    return contributions


def mean_contributions(
    values: Float[np.ndarray, " users"], weights: Float[np.ndarray, " users"] | Int[np.ndarray, " users"]
) -> Float[np.ndarray, " users"]:
    """Return each user's contribution to a weighted mean R = Σ w_u x_u / Σ w_u.

        R + w_u (x_u - R) / w̄        with w̄ the mean weight

    Args:
        values: of each user; whatever it is where the weight is 0.
        weights: of each user; all 0 gives NaN.
    """
    total = weights.sum()
    if not total:
        return np.full(len(weights), np.nan)
    inside = weights > 0
    shares = weights[inside] / total
    mean = float(shares @ values[inside])
    contributions = np.full(len(weights), mean)
    contributions[inside] += len(weights) * shares * (values[inside] - mean)
    return contributions


def _sorted_by_user(
    scores: Float[np.ndarray, " rows"], users: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, " rows"]:
    """Return the order of the rows by user, and by rising score among a user's.

    A stable sort of 16 bits goes by counting, so the users' numbers are sorted 16 bits at a time: of 700,000
    rows this takes less than half the time of `np.lexsort`.
    """
    order: Int[np.ndarray, " rows"] = np.argsort(scores)
    for shift in range(0, int(users.max(initial=0)).bit_length(), 16):
        digits = (users[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
    return order


def _mean_places(
    users: Int[np.ndarray, " rows"], scores: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Return each sorted row's place; a user's rows of the same score have the mean of theirs."""
    starts = np.flatnonzero((users[1:] != users[:-1]) | (scores[1:] != scores[:-1])) + 1
    starts = np.concatenate(([0], starts))
    lengths = np.diff(np.append(starts, len(users)))
    means: Float[np.ndarray, " rows"] = np.repeat(starts + (lengths - 1) / 2, lengths)
    return means


def _share_below(
    scores: Float[np.ndarray, " some"], others: Float[np.ndarray, " others"]
) -> Float[np.ndarray, " some"]:
    """Return the share of the others, which ascend, that are below each score; of equal ones, half."""
    places = np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")
    shares: Float[np.ndarray, " some"] = places / (2 * len(others))
    return shares
