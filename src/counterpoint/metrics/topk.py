"""Metrics of the first items of a ranking, user by user."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

CUTOFFS = (10, 20)


def topk_metrics(
    top: Int[np.ndarray, "users depth"],
    relevant_offsets: Int[np.ndarray, " users+1"],
    relevant_items: Int[np.ndarray, " pairs"],
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, Float[np.ndarray, " users"]]:
    """Score each user's first items against those that are relevant to the user.

        >>> import numpy as np
        >>> top, offsets, relevant = np.array([[7, 3], [5, 2]]), np.array([0, 1, 3]), np.array([3, 5, 8])
        >>> topk_metrics(top, offsets, relevant, cutoffs=[2])["recall@2"].tolist()
        [1.0, 0.5]

    With R relevant items, of which H(K) are among the first K, at the places r::

        ndcg@K      = Σ_{r ≤ K} 1 / log₂(r + 1)  /  Σ_{i ≤ min(K, R)} 1 / log₂(i + 1)
        recall@K    = H(K) / R
        precision@K = H(K) / K, however few items there were to rank

    as paper 4 does (section 5.1). A user without relevant items has none of them: NaN.

    Args:
        top: each user's items, best first, none twice; -1 where there are no more.
        relevant_offsets: where each user's relevant items begin, and their number at the end.
        relevant_items: user after user, none twice for the same user.
        cutoffs: the K.

    Raises:
        ValueError: the arrays do not fit each other, or the lists are shorter than a cutoff.
    """
    users, depth = top.shape
    if len(relevant_offsets) != users + 1 or relevant_offsets[-1] != len(relevant_items):
        raise ValueError(
            f"{users} lists and {len(relevant_items)} relevant items do not fit {len(relevant_offsets)} "
            f"offsets up to {relevant_offsets[-1]}."
        )
    if max(cutoffs) > depth:
        raise ValueError(f"Lists of {depth} items cannot be scored at {max(cutoffs)}.")
    relevant = np.diff(relevant_offsets)
    hits = _hits(top, relevant, relevant_items)
    gains = 1 / np.log2(np.arange(2, depth + 2))
    ideal = np.concatenate(([np.nan], np.cumsum(gains)))
    known = np.where(relevant > 0, relevant, np.nan)
    metrics: dict[str, Float[np.ndarray, " users"]] = {}
    for cutoff in cutoffs:
        found = hits[:, :cutoff].sum(axis=1)
        metrics[f"ndcg@{cutoff}"] = hits[:, :cutoff] @ gains[:cutoff] / ideal[np.minimum(relevant, cutoff)]
        metrics[f"recall@{cutoff}"] = found / known
        metrics[f"precision@{cutoff}"] = np.where(relevant > 0, found / cutoff, np.nan)
    return metrics


def _hits(
    top: Int[np.ndarray, "users depth"],
    relevant: Int[np.ndarray, " users"],
    items: Int[np.ndarray, " pairs"],
) -> Bool[np.ndarray, "users depth"]:
    """Return which places of the lists hold a relevant item: all of them looked up in one sorted array."""
    if not len(items):
        return np.zeros(top.shape, dtype=bool)
    width = int(max(items.max(), top.max(initial=0))) + 1
    users = np.arange(len(top))
    wanted = np.sort(np.repeat(users, relevant) * width + items)
    shown = users[:, None] * width + top
    place = np.minimum(np.searchsorted(wanted, shown), len(wanted) - 1)
    hits: Bool[np.ndarray, "users depth"] = (wanted[place] == shown) & (top >= 0)
    return hits
