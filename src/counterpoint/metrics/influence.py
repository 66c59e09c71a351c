"""What each user adds to a metric that is no mean over users, so that users can be drawn anew.

A statistic's value plus a user's influence on it is that user's *contribution*. The mean of all contributions
is the statistic itself, and means over users drawn anew vary as the statistic would, to first order. So the
bootstrap over users, which resamples means, serves pooled metrics and weighted ones as well.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


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


def _share_below(
    scores: Float[np.ndarray, " some"], others: Float[np.ndarray, " others"]
) -> Float[np.ndarray, " some"]:
    """Return the share of the others, which ascend, that are below each score; of equal ones, half."""
    places = np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")
    shares: Float[np.ndarray, " some"] = places / (2 * len(others))
    return shares
