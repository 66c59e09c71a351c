"""Floors: what ranking by chance, by popularity or by age reaches on the very same impressions.

Each gives one score per candidate, the higher the better, to be ranked as a model's scores are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

UNKNOWN_TIME = int(np.iinfo(np.int64).max)
_HOUR = 3_600_000_000  # microseconds


@dataclass(frozen=True)
class Shown:
    """What was shown, when, and what of it was clicked; flat, one impression after another.

    Attributes:
        articles: the candidates' row numbers in the table of articles.
        offsets: the first candidate of every impression, and their total at the end.
        times: when each impression was shown, in microseconds since 1970.
        clicked: whether each candidate was clicked; all false where the labels are hidden.

    Raises:
        ValueError: the arrays do not fit each other, or a row number is negative.
    """

    articles: Int[np.ndarray, " candidates"]
    offsets: Int[np.ndarray, " impressions+1"]
    times: Int[np.ndarray, " impressions"]
    clicked: Bool[np.ndarray, " candidates"]

    def __post_init__(self) -> None:
        candidates, impressions = len(self.articles), len(self.times)
        if (len(self.clicked), len(self.offsets), self.offsets[-1]) != (
            candidates,
            impressions + 1,
            candidates,
        ):
            raise ValueError(
                f"{candidates} candidates in {impressions} impressions do not fit {len(self.clicked)} labels "
                f"and {len(self.offsets)} offsets up to {self.offsets[-1]}."
            )
        if candidates and self.articles.min() < 0:
            raise ValueError("Articles are row numbers, from 0.")

    def per_candidate(self, values: Int[np.ndarray, " impressions"]) -> Int[np.ndarray, " candidates"]:
        """Repeat each impression's value for each of its candidates."""
        return np.repeat(values, np.diff(self.offsets))


def random_scores(candidates: int, *, seed: int = 0) -> Float[np.ndarray, " candidates"]:
    """Draw one score per candidate from the seed: chance."""
    return np.random.default_rng(seed).random(candidates)


def popularity(
    shown: Shown, earlier: Sequence[Shown] = (), *, hours: float | None = None
) -> Float[np.ndarray, " candidates"]:
    """Count the clicks each candidate had received before its impression.

    Clicks of ``earlier`` and of ``shown`` itself count when their time is strictly before the impression's:
    neither its own clicks nor simultaneous ones can leak into the score. Memory is linear in the number of
    candidates.

    Args:
        shown: the impressions to score.
        earlier: impressions whose clicks count too.
        hours: count a click only if it is at most so old, now − hours ≤ click < now; without it, any.

    Raises:
        ValueError: ``hours`` is not positive.
    """
    if hours is not None and not hours > 0:
        raise ValueError(f"Clicks of the last {hours} hours: give a positive number.")
    known = (*earlier, shown)
    clicked_articles = np.concatenate([part.articles[part.clicked] for part in known]).astype(np.int64)
    clicked_at = np.concatenate([part.per_candidate(part.times)[part.clicked] for part in known])
    # Numbering the moments makes room for article and moment in one 64-bit key, so that one sorted array
    # answers every question "how many clicks on this article before this moment"; a window asks it twice.
    moments = np.unique(clicked_at)
    width = len(moments) + 1
    clicks = np.sort(clicked_articles * width + np.searchsorted(moments, clicked_at))
    articles = shown.articles.astype(np.int64) * width
    now = np.searchsorted(moments, shown.times)
    since = (
        np.zeros_like(now) if hours is None else np.searchsorted(moments, shown.times - round(hours * _HOUR))
    )
    before_window, before_now = (
        np.searchsorted(clicks, articles + shown.per_candidate(moment)) for moment in (since, now)
    )
    clicks_so_far: Float[np.ndarray, " candidates"] = (before_now - before_window).astype(np.float64)
    return clicks_so_far


def recency(
    shown: Shown, earlier: Sequence[Shown] = (), *, published: Int[np.ndarray, " articles"] | None = None
) -> Float[np.ndarray, " candidates"]:
    """Score each candidate by minus its age at its impression, in seconds: the newest first.

    An article is born when it is published or, if that is unknown or later, when it is first a candidate in
    ``earlier`` or ``shown``. As a candidate it has been shown by then, so nothing later than the impression
    enters. Labels are not used.

    Args:
        shown: the impressions to score.
        earlier: impressions that may have shown the articles before.
        published: microseconds since 1970 by row number of the article, ``UNKNOWN_TIME`` where unknown.

    Raises:
        ValueError: ``published`` does not reach as far as the row numbers.
    """
    known = (*earlier, shown)
    rows = 1 + max((int(part.articles.max()) for part in known if len(part.articles)), default=-1)
    born = np.full(rows, UNKNOWN_TIME)
    for part in known:
        np.minimum.at(born, part.articles, part.per_candidate(part.times))
    if published is not None:
        if len(published) < rows:
            raise ValueError(
                f"{len(published)} publication times, but articles up to row {rows - 1} are shown."
            )
        born = np.minimum(born, published[:rows])
    age: Int[np.ndarray, " candidates"] = shown.per_candidate(shown.times) - born[shown.articles]
    return -(age / 1e6)
