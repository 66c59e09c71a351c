"""A simulated site as the clicks see it: articles, front pages by the hour, readers and what they like."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LIVE_DAYS = 3
# How busy the site is, hour by hour from midnight.
BUSY = np.array([2, 1, 1, 1, 1, 2, 4, 7, 9, 8, 7, 7, 8, 7, 6, 6, 6, 7, 8, 9, 9, 8, 6, 4]) / 134


@dataclass(frozen=True)
class Groups:
    """Things in groups, drawn within their group in proportion to a weight.

    Group g's weights are cumulated from g to g + 1, so that one binary search draws from any mix of groups.
    """

    members: Int[np.ndarray, " entries"]
    cumulative: Float[np.ndarray, " entries"]
    filled: Bool[np.ndarray, " groups"]

    def draw(self, rng: np.random.Generator, group: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
        """Draw one member of each of the given groups, which must be filled."""
        place = np.searchsorted(self.cumulative, group + rng.random(group.shape), side="right")
        return self.members[np.minimum(place, len(self.members) - 1)]


def groups(
    group: Int[np.ndarray, " entries"],
    members: Int[np.ndarray, " entries"],
    weights: Float[np.ndarray, " entries"],
    count: int,
) -> Groups:
    """Return groups of the members given one by one, each with its group's number and its weight."""
    order = np.argsort(group, kind="stable")
    group, members, weights = group[order], members[order], weights[order]
    total = np.bincount(group, weights, count)
    filled = total > 0
    filled_before: Int[np.ndarray, " groups"] = np.cumsum(filled) - filled
    cumulative = group + np.cumsum(weights / total[group]) - filled_before[group]
    last = np.append(group[1:] != group[:-1], True)
    cumulative[last] = group[last] + 1
    return Groups(members, np.maximum.accumulate(cumulative), filled)


@dataclass(frozen=True)
class Site:
    """What the clicks depend on; categories own their subcategories and entities as runs of equal length.

    The sentiments are -1, 0 or 1; a site without them has one and the same.
    """

    categories: int
    subcategories_each: int
    entities_each: int
    subcategory: Int[np.ndarray, " articles"]
    lead: Int[np.ndarray, " articles"]
    published: Float[np.ndarray, " articles"]
    appeal: Float[np.ndarray, " articles"]
    sentiment: Int[np.ndarray, " articles"]


class Readers(NamedTuple):
    """Readers; ``mixes`` are their shares of the categories on the first and on the last day.

    ``mood`` is how much more they like what sounds good than what sounds bad.
    """

    mixes: Float[np.ndarray, "2 readers categories"]
    subcategories: Int[np.ndarray, "readers favourites"]
    entities: Int[np.ndarray, "readers favourites"]
    mood: Float[np.ndarray, " readers"]


class Visits(NamedTuple):
    """Who comes when, in days since the start and in whole hours, and is shown how many articles."""

    reader: Int[np.ndarray, " impressions"]
    hour: Int[np.ndarray, " impressions"]
    time: Float[np.ndarray, " impressions"]
    size: Int[np.ndarray, " impressions"]


class Clicks(NamedTuple):
    """Who clicked what, and when, in days since the start."""

    reader: Int[np.ndarray, " clicks"]
    article: Int[np.ndarray, " clicks"]
    time: Float[np.ndarray, " clicks"]


class Impressions(NamedTuple):
    """Impressions, candidates in the order written and padded to the right; times in days since the start."""

    reader: Int[np.ndarray, " impressions"]
    time: Float[np.ndarray, " impressions"]
    size: Int[np.ndarray, " impressions"]
    candidate: Int[np.ndarray, "impressions candidates"]
    clicked: Bool[np.ndarray, "impressions candidates"]
    probability: Float[np.ndarray, "impressions candidates"]
    position_free: Float[np.ndarray, "impressions candidates"]
    position: Int[np.ndarray, "impressions candidates"]

    def of(self, rows: Bool[np.ndarray, " impressions"]) -> "Impressions":
        """The given rows."""
        return Impressions(*(column[rows] for column in self))

    def clicks(self) -> Clicks:
        """Every click."""
        row, place = np.nonzero(self.clicked)
        return Clicks(self.reader[row], self.candidate[row, place], self.time[row])


def front_pages(site: Site, days: int) -> Groups:
    """For each hour, the articles of the last days, weighted by freshness and the root of their appeal."""
    order = np.argsort(site.published, kind="stable")
    hours = np.arange(days * 24)
    first, last = np.searchsorted(site.published[order], np.stack((hours / 24 - LIVE_DAYS, hours / 24)))
    hour = np.repeat(hours, last - first)
    live = np.concatenate([order[start:stop] for start, stop in zip(first, last, strict=True)])
    weight = np.exp2(site.published[live] - hour / 24) * np.exp(site.appeal[live] / 2)
    return groups(hour, live, weight, len(hours))


class Past(NamedTuple):
    """The articles older than the first day, by topic and by the entity their title names first.

    A topic is a subcategory with a sentiment.
    """

    sentiments: Int[np.ndarray, " sentiments"]
    by_topic: Groups
    by_entity: Groups
    shares: Float[np.ndarray, " topics"]


def past_articles(site: Site) -> Past:
    """Sort the articles published before the first day."""
    sentiments, sentiment = np.unique(site.sentiment, return_inverse=True)
    topics = site.categories * site.subcategories_each * len(sentiments)
    topic = site.subcategory * len(sentiments) + sentiment
    old = np.flatnonzero(site.published < 0)
    named = old[site.lead[old] >= 0]
    weight = np.exp(site.appeal / 2)
    return Past(
        sentiments,
        groups(topic[old], old, weight[old], topics),
        groups(site.lead[named], named, weight[named], site.categories * site.entities_each),
        np.bincount(topic[old], weight[old], topics),
    )


def draw_readers(rng: np.random.Generator, site: Site, count: int) -> Readers:
    """Draw readers: what they like at first, where that drifts to, and their favourites; all of even mood."""
    concentration = np.full(site.categories, 0.35)
    first, new = rng.dirichlet(concentration, (2, count))
    below = np.cumsum(first, axis=1)[:, None, :-1] <= rng.random((count, 6, 1))
    category = below.sum(axis=2)
    subcategories = category[:, :3] * site.subcategories_each + rng.integers(
        site.subcategories_each, size=(count, 3)
    )
    entities = category[:, 3:] * site.entities_each + rng.integers(site.entities_each, size=(count, 3))
    return Readers(np.stack((first, 0.7 * first + 0.3 * new)), subcategories, entities, np.zeros(count))
