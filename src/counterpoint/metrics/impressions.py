"""Ranking metrics per impression, computed from the very ranks that are submitted.

Impressions are ragged, so everything is flat: candidates one impression after another, and ``offsets``
with the first candidate of every impression and the total at the end.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from counterpoint.errors import CounterpointError

METRICS = ("auc", "mrr", "ndcg@5", "ndcg@10")
_BLOCK = 1 << 20  # candidates sorted at once: bounds the memory, whatever the size of the split


@dataclass(frozen=True)
class Ranking:
    """The metrics of every impression, NaN where one has no click or nothing but clicks.

    Attributes:
        per_impression: from the metric's name to its value for each impression, in the order given; every
            metric is NaN for the same impressions.
    """

    per_impression: dict[str, Float[np.ndarray, " impressions"]]

    @property
    def metrics(self) -> dict[str, float]:
        """The mean of every metric over the scored impressions; NaN when there are none."""
        scored = self._is_scored()
        return {
            name: float(values[scored].mean()) if scored.any() else float("nan")
            for name, values in self.per_impression.items()
        }

    @property
    def scored(self) -> int:
        """How many impressions the means are taken over."""
        return int(self._is_scored().sum())

    @property
    def skipped(self) -> int:
        """How many impressions are left out, for want of a click or of a non-click."""
        return int((~self._is_scored()).sum())

    def of(self, chosen: Bool[np.ndarray, " impressions"] | Int[np.ndarray, " chosen"]) -> "Ranking":
        """Return the ranking of the chosen impressions alone: a slice."""
        return Ranking({name: values[chosen] for name, values in self.per_impression.items()})

    def _is_scored(self) -> Bool[np.ndarray, " impressions"]:
        scored: Bool[np.ndarray, " impressions"] = ~np.isnan(self.per_impression["auc"])
        return scored


def ranks(
    scores: Float[np.ndarray, " candidates"],
    offsets: Int[np.ndarray, " impressions+1"],
    *,
    seed: int | np.random.Generator = 0,
) -> Int[np.ndarray, " candidates"]:
    """Rank the candidates of each impression by falling score, 1 being the best.

        >>> import numpy as np
        >>> ranks(np.array([0.1, 0.7, 0.3, 0.2]), np.array([0, 2, 4])).tolist()
        [2, 1, 1, 2]

    Each impression gets a permutation of 1 … its size, at the candidates' own positions: what a submission
    holds. Equal scores are ordered by random keys drawn from ``seed``, so neither the order of the
    candidates nor their labels can decide a tie, and the same call gives the same ranks. A split may be
    ranked block by block with one generator.

    Raises:
        CounterpointError: a score is infinite or not a number.
        ValueError: the offsets do not describe the scores.
    """
    _check_offsets(offsets, len(scores))
    if not np.isfinite(scores).all():
        first = int(np.flatnonzero(~np.isfinite(scores))[0])
        impression = int(np.searchsorted(offsets, first, side="right"))
        raise CounterpointError(
            f"Impression {impression}, candidate {first - int(offsets[impression - 1]) + 1}: the score is "
            f"{scores[first]}; check that training did not diverge before ranking with this model."
        )
    tie_breakers = np.random.default_rng(seed).random(len(scores), dtype=np.float32)
    result = np.empty(len(scores), dtype=np.int32)
    # Impressions of one size form a matrix, whose rows are sorted together.
    sizes = np.diff(offsets)
    by_size = np.argsort(sizes, kind="stable")
    distinct, starts = np.unique(sizes[by_size], return_index=True)
    for size, start, stop in zip(distinct, starts, [*starts[1:], len(sizes)], strict=True):
        rows = max(1, _BLOCK // max(1, int(size)))
        for block in range(start, stop, rows):
            impressions = by_size[block : min(block + rows, stop)]
            places = offsets[impressions][:, None] + np.arange(size)
            best_first = np.lexsort((tie_breakers[places], -scores[places]), axis=-1)
            result[np.take_along_axis(places, best_first, axis=-1)] = np.arange(1, size + 1)
    return result


def impression_metrics(
    ranks: Int[np.ndarray, " candidates"],
    clicked: Bool[np.ndarray, " candidates"] | Int[np.ndarray, " candidates"],
    offsets: Int[np.ndarray, " impressions+1"],
) -> Ranking:
    """Score ranks as MIND's official script does, impression by impression.

        >>> import numpy as np
        >>> ranking = impression_metrics(np.array([2, 1, 3]), np.array([1, 0, 0]), np.array([0, 3]))
        >>> {name: round(value, 4) for name, value in ranking.metrics.items()}["auc"]
        0.5

    With P clicked candidates at ranks r and N others::

        auc    = (Σ (P + N − r) − P (P − 1) / 2) / (P N)       clicked–other pairs in the right order
        mrr    = Σ 1 / r / P                                   every clicked candidate, not the first alone
        ndcg@k = Σ_{r ≤ k} 1 / log₂(r + 1)  /  Σ_{i ≤ min(P, k)} 1 / log₂(i + 1)

    All lie in [0, 1]. The official script fails on an impression with clicks only or none; here it is NaN,
    left out of the means and counted.

    Raises:
        ValueError: the arrays differ in length or the offsets do not describe them.
    """
    _check_offsets(offsets, len(ranks))
    if len(clicked) != len(ranks):
        raise ValueError(f"{len(ranks)} ranks but {len(clicked)} labels.")
    # Clicks are few: all the sums run over the clicked candidates only.
    places = np.flatnonzero(clicked)
    impression = np.searchsorted(offsets, places, side="right") - 1
    rank = ranks[places].astype(np.int64)
    sizes = np.diff(offsets)

    def total(values: Float[np.ndarray, " clicks"]) -> Float[np.ndarray, " impressions"]:
        return np.bincount(impression, weights=values, minlength=len(sizes))

    clicks = np.bincount(impression, minlength=len(sizes))
    scored = (clicks > 0) & (clicks < sizes)
    clicks_or_one = np.maximum(clicks, 1)
    pairs = np.maximum(clicks * (sizes - clicks), 1)
    below = total(sizes[impression] - rank)
    values = {
        "auc": (below - clicks * (clicks - 1) / 2) / pairs,
        "mrr": total(1 / rank) / clicks_or_one,
    }
    for depth in (5, 10):
        ideal = np.cumsum(1 / np.log2(np.arange(2, depth + 2)))
        gained = total(np.where(rank <= depth, 1 / np.log2(rank + 1), 0.0))
        values[f"ndcg@{depth}"] = gained / ideal[np.minimum(clicks_or_one, depth) - 1]
    return Ranking({name: np.where(scored, values[name], np.nan) for name in METRICS})


def _check_offsets(offsets: Int[np.ndarray, " impressions+1"], candidates: int) -> None:
    if offsets[0] != 0 or offsets[-1] != candidates or (np.diff(offsets) < 0).any():
        raise ValueError(f"Offsets must rise from 0 to the number of candidates ({candidates}).")
