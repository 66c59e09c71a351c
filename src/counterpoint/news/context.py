"""What is known of a candidate at its impression: its age, and its clicks in the last hours.

Paper 2 names both as future work. They are computed from what lies before the impression alone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from counterpoint.news.baselines import UNKNOWN_TIME
from counterpoint.news.data.store import Store
from counterpoint.news.recipe import Feature

_HOUR = 3_600_000_000


class Context:
    """Age and recent clicks of articles at any moment.

    An article is born when it is published or, if that is unknown or later, when it is first shown. Clicks
    count when they lie within the last hours and strictly before the moment asked for, so neither an
    impression's own click nor a simultaneous one enters.

    Args:
        store: the impressions.
        splits: whose impressions are looked at.
        features: which of the two are wanted, in this order.
        hours: how far recent clicks reach back.
    """

    def __init__(
        self, store: Store, splits: Sequence[str], features: Sequence[Feature], hours: float
    ) -> None:
        self._features, self._reach = tuple(features), round(hours * _HOUR)
        self._born = store.published().astype(np.int64)
        articles, times = [], []
        for split in splits if features else ():
            shown = store.impressions(store.split(split))
            at = np.repeat(shown.time, np.diff(shown.offsets))
            np.minimum.at(self._born, shown.candidates, at)
            clicked = shown.clicked == 1
            articles.append(shown.candidates[clicked].astype(np.int64))
            times.append(at[clicked])
        article = np.concatenate(articles) if articles else np.empty(0, dtype=np.int64)
        time = np.concatenate(times) if times else np.empty(0, dtype=np.int64)
        # Numbering the moments makes room for article and moment in one sorted key.
        self._moments = np.unique(time)
        self._width = len(self._moments) + 1
        self._clicks = np.sort(article * self._width + np.searchsorted(self._moments, time))

    def __len__(self) -> int:
        """How many numbers a candidate gets."""
        return len(self._features)

    def of(
        self, articles: Int[np.ndarray, "*shape"], times: Int[np.ndarray, "*shape"]
    ) -> Float32[np.ndarray, "*shape features"]:
        """Return log(1 + age in hours) and log(1 + recent clicks) of articles, each at its moment."""
        columns = {"age": self._age, "clicks": self._recent}
        told = [columns[feature](articles.astype(np.int64), times) for feature in self._features]
        stacked = np.stack(told, axis=-1) if told else np.empty((*articles.shape, 0))
        return np.log1p(stacked).astype(np.float32)

    def _age(
        self, articles: Int[np.ndarray, "*shape"], times: Int[np.ndarray, "*shape"]
    ) -> Float[np.ndarray, "*shape"]:
        born = self._born[articles]
        # An article that nobody has seen yet is new.
        return np.where(born == UNKNOWN_TIME, 0, np.maximum(times - born, 0)) / _HOUR

    def _recent(
        self, articles: Int[np.ndarray, "*shape"], times: Int[np.ndarray, "*shape"]
    ) -> Int[np.ndarray, "*shape"]:
        since, until = (
            np.searchsorted(self._clicks, articles * self._width + np.searchsorted(self._moments, moment))
            for moment in (times - self._reach, times)
        )
        return until - since
