"""Parts of a split that readers of a report ask for: cold readers, new articles, categories, hours."""

import numpy as np
import polars as pl
from jaxtyping import Bool

from counterpoint.metrics.impressions import Ranking
from counterpoint.news.data.store import Impressions, Store

_SMALLEST_SLICE = 10
_CATEGORIES_SHOWN = 8
_HOUR = 3_600_000_000
_HOURS = (("night", 0, 6), ("morning", 6, 12), ("afternoon", 12, 18), ("evening", 18, 24))


def slices(
    ranking: Ranking, store: Store, shown: Impressions, seen: Bool[np.ndarray, " articles"]
) -> dict[str, dict[str, float | None]]:
    """Return the metrics for cold readers, clicks on articles unseen in training, categories and hours."""
    _, clicks = store.histories(shown.history, 1)
    impression = np.repeat(np.arange(len(shown)), np.diff(shown.offsets))[shown.clicked == 1]
    clicked = shown.candidates[shown.clicked == 1]
    unseen = np.bincount(impression[~seen[clicked]], minlength=len(shown)) > 0
    chosen: dict[str, Bool[np.ndarray, " impressions"]] = {
        "cold readers": clicks == 0,
        "readers with a history": clicks > 0,
        "clicked article unseen in training": unseen,
        "clicked article seen in training": ~unseen,
    }
    names = store.labels["category"]
    labels = store.labels_of("category")[clicked]
    frequent = pl.Series(labels[labels >= 0]).value_counts(sort=True).head(_CATEGORIES_SHOWN)
    for label in frequent[:, 0]:
        inside = np.zeros(len(shown), dtype=bool)
        inside[impression[labels == label]] = True
        chosen[f"category {names[label]}"] = inside
    hour = shown.time // _HOUR % 24
    chosen |= {
        f"{name}, {first} to {last} h": (hour >= first) & (hour < last) for name, first, last in _HOURS
    }
    found: dict[str, dict[str, float | None]] = {}
    for name, inside in chosen.items():
        sliced = ranking.of(inside)
        if sliced.scored >= _SMALLEST_SLICE:
            found[name] = {"impressions": sliced.scored, **sliced.metrics}
    return found
