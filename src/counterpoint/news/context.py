"""What is known of a candidate at its impression: its age, and its clicks in the last hours.

Paper 2 names both as future work. They are computed from what lies before the impression alone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from counterpoint.news.data.store import UNKNOWN_TIME, Store
from counterpoint.news.recipe import Feature

_HOUR = 3_600_000_000


class Clicks:
    """How often articles were clicked before any moment; memory is linear in the clicks.

    Args:
        articles: the article of each click.
        times: and when it was, in microseconds.
    """

    def __init__(self, articles: Int[np.ndarray, " clicks"], times: Int[np.ndarray, " clicks"]) -> None:
        # Numbering the moments makes room for article and moment in one 64-bit key, so that one sorted array
        # answers every question "how many clicks on this article before this moment".
        self._moments = np.unique(times)
        self._width = len(self._moments) + 1
        self._keys = np.sort(articles.astype(np.int64) * self._width + np.searchsorted(self._moments, times))

    def between(
        self,
        articles: Int[np.ndarray, "*shape"],
        since: Int[np.ndarray, "*shape"] | None,
        until: Int[np.ndarray, "*shape"],
    ) -> Int[np.ndarray, "*shape"]:
        """Return the clicks on each article from ``since`` (if given) until strictly before ``until``."""
        first = articles.astype(np.int64) * self._width
        start = first if since is None else first + np.searchsorted(self._moments, since)
        ends = np.searchsorted(self._keys, first + np.searchsorted(self._moments, until))
        return ends - np.searchsorted(self._keys, start)


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
        nothing = np.empty(0, dtype=np.int64)
        articles, times = [nothing], [nothing]
        for split in splits if features else ():
            shown = store.impressions(store.split(split))
            at = np.repeat(shown.time, np.diff(shown.offsets))
            np.minimum.at(self._born, shown.candidates, at)
            clicked = shown.clicked == 1
            articles.append(shown.candidates[clicked])
            times.append(at[clicked])
        self._clicks = Clicks(np.concatenate(articles), np.concatenate(times))

    def __len__(self) -> int:
        """How many numbers a candidate gets."""
        return len(self._features)

    def of(
        self, articles: Int[np.ndarray, "*shape"], times: Int[np.ndarray, "*shape"]
    ) -> Float32[np.ndarray, "*shape features"]:
        """Return log(1 + age in hours) and log(1 + recent clicks) of articles, each at its moment."""
        columns = {"age": self._age, "clicks": self._recent}
        told = [columns[feature](articles, times) for feature in self._features]
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
        return self._clicks.between(articles, times - self._reach, times)
