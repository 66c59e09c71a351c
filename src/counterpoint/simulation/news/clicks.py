"""How simulated readers click, with the probabilities they click with.

A reader's interest in an article of category c and subcategory s whose headline names the entity e first is

    interest = strength · (log(K · mix_c + 0.2) + 0.8 · [s favourite]) + 1.6 · [e favourite]
               + sentiment strength · 0.5 · mood · sentiment,

``mix`` being the reader's shares of the K categories, which drift from the first day to the last, ``mood`` a
standard normal taste of the reader's, and ``sentiment`` -1, 0 or 1. Shown at position j = 1, 2, … the article
is clicked, independently of the others, with probability

    σ(base + 1.05 · interest + 0.5 · log(appeal · 2^(-age in days)) - 0.35 · log j),

appeal being lognormal and the base -3.2 unless told otherwise. A site logs only impressions with both a click
and a non-click; clicks are drawn given that, and the probabilities written are the marginals of this
conditional distribution.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from counterpoint.simulation.news.site import Clicks, Groups, Impressions, Past, Readers, Site, Visits, groups

INTEREST, POPULARITY, POSITION = 1.05, 0.5, 0.35
FAVOURITE_SUBCATEGORY, FAVOURITE_ENTITY, MOOD = 0.8, 1.6, 0.5
# Far outside what the default strengths reach; keeps every impression's chance of being logged above zero.
ODDS_BELOW_BASE, MOST_ODDS = 8.8, 2.0


@dataclass(frozen=True)
class Law:
    """What of the click probabilities one chooses.

    Attributes:
        days: days from the first to the last, over which interests drift.
        category_strength: how much categories and subcategories drive clicks.
        sentiment_strength: how much the sentiment of the title does.
        base: the log odds of a click where nothing else speaks.
    """

    days: int
    category_strength: float
    sentiment_strength: float = 0.0
    base: float = -3.2


def _liking(mix: Float[np.ndarray, "rows categories"]) -> Float[np.ndarray, "rows categories"]:
    liking: Float[np.ndarray, "rows categories"] = np.log(mix.shape[1] * mix + 0.2)
    return liking


def earlier_clicks(
    rng: np.random.Generator,
    site: Site,
    past: Past,
    readers: Readers,
    length: Int[np.ndarray, " readers"],
    law: Law,
) -> Clicks:
    """Draw as many clicks of each reader before the first day as told, from the interests of that day."""
    count = len(readers.entities)
    reader = np.repeat(np.arange(count), length)

    liking = np.repeat(_liking(readers.mixes[0]), site.subcategories_each, axis=1)
    favourite = np.zeros_like(liking)
    np.put_along_axis(favourite, readers.subcategories, FAVOURITE_SUBCATEGORY, axis=1)
    topical = INTEREST * law.category_strength * (liking + favourite)
    moody = INTEREST * law.sentiment_strength * MOOD * readers.mood[:, None] * past.sentiments
    drawn_to = (topical[:, :, None] + moody[:, None, :]).reshape(count, -1)
    weight = past.shares * np.exp(np.clip(drawn_to, -30, 30))
    readers_of, topics = (index.ravel() for index in np.indices(weight.shape))
    topic = groups(readers_of, topics, weight.ravel(), count).draw(rng, reader)
    article = past.by_topic.draw(rng, topic)

    entity = readers.entities[reader, rng.integers(readers.entities.shape[1], size=len(reader))]
    named = past.by_entity.filled[entity] & (rng.random(len(reader)) < 0.2)
    article[named] = past.by_entity.draw(rng, entity[named])
    return Clicks(reader, article, site.published[article] * rng.random(len(reader)))


def draw_impressions(
    rng: np.random.Generator,
    site: Site,
    front: Groups,
    readers: Readers,
    visits: Visits,
    most: int,
    law: Law,
) -> Impressions:
    """Draw what the visits show, ``most`` candidates at most, and where, and what is clicked."""
    reader, hour, time, size = visits
    candidate, size = _candidates(rng, front, hour, size, most)
    odds = click_odds(site, readers, reader, time, candidate, law)
    position = np.broadcast_to(np.arange(1, most + 1), candidate.shape)
    real = real_candidates(most, size)
    probability = np.where(real, sigmoid(odds - POSITION * np.log(position), law), 0)
    none = (1 - probability).prod(axis=1, keepdims=True)
    every = np.where(real, probability, 1).prod(axis=1, keepdims=True)
    columns = (
        candidate,
        _click(rng, probability, size),
        (probability - every) / (1 - none - every),
        sigmoid(odds, law),
        position,
    )
    shuffled = np.argsort(np.where(real, rng.random(real.shape), 2), axis=1)
    return Impressions(
        reader, time, size, *(np.take_along_axis(column, shuffled, axis=1) for column in columns)
    )


def click_odds(
    site: Site,
    readers: Readers,
    reader: Int[np.ndarray, " impressions"],
    time: Float[np.ndarray, " impressions"],
    candidate: Int[np.ndarray, "impressions positions"],
    law: Law,
) -> Float[np.ndarray, "impressions positions"]:
    """The log odds of a click on each candidate, had it been shown first."""
    liked = interest(site, readers, reader, time, candidate, law)
    popularity = site.appeal[candidate] + np.log(2) * (site.published[candidate] - time[:, None])
    odds: Float[np.ndarray, "impressions positions"] = law.base + INTEREST * liked + POPULARITY * popularity
    return odds


def _candidates(
    rng: np.random.Generator,
    front: Groups,
    hour: Int[np.ndarray, " impressions"],
    size: Int[np.ndarray, " impressions"],
    most: int,
) -> tuple[Int[np.ndarray, "impressions positions"], Int[np.ndarray, " impressions"]]:
    """The first ``size`` different articles of a longer draw (or fewer, but two at least), and how many."""
    drawn = front.draw(rng, np.broadcast_to(hour[:, None], (len(hour), most + most // 2 + 8)))
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    new = np.ones(drawn.shape, bool)
    np.put_along_axis(new, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    place = np.cumsum(new, axis=1) - 1
    row, column = np.nonzero(new & (place < size[:, None]))
    candidate = np.zeros((len(drawn), most), int)
    candidate[row, place[row, column]] = drawn[row, column]
    size = np.minimum(size, place[:, -1] + 1)
    single = size < 2
    if single.any():
        again = np.full(single.sum(), 2)
        candidate[single], size[single] = _candidates(rng, front, hour[single], again, most)
    return candidate, size


def interest(
    site: Site,
    readers: Readers,
    reader: Int[np.ndarray, " impressions"],
    time: Float[np.ndarray, " impressions"],
    candidate: Int[np.ndarray, "impressions positions"],
    law: Law,
) -> Float[np.ndarray, "impressions positions"]:
    """The interest of the readers in the candidates, whatever their popularity, age and position."""
    first, last = readers.mixes[:, reader]
    drift = time / law.days
    liking = _liking(first + drift[:, None] * (last - first))
    subcategory, lead = site.subcategory[candidate], site.lead[candidate]
    topical = np.take_along_axis(liking, subcategory // site.subcategories_each, axis=1)
    topical += FAVOURITE_SUBCATEGORY * _among(subcategory, readers.subcategories[reader])
    moody = MOOD * readers.mood[reader, None] * site.sentiment[candidate]
    named = FAVOURITE_ENTITY * _among(lead, readers.entities[reader])
    liked: Float[np.ndarray, "impressions positions"] = (
        law.category_strength * topical + named + law.sentiment_strength * moody
    )
    return liked


def _among(
    values: Int[np.ndarray, "rows columns"], favourites: Int[np.ndarray, "rows favourites"]
) -> Bool[np.ndarray, "rows columns"]:
    found: Bool[np.ndarray, "rows columns"] = (values[:, :, None] == favourites[:, None, :]).any(axis=2)
    return found


def _click(
    rng: np.random.Generator,
    probability: Float[np.ndarray, "impressions positions"],
    size: Int[np.ndarray, " impressions"],
) -> Bool[np.ndarray, "impressions positions"]:
    """Draw clicks given that there is one: its first from the truncated distribution, the later ones freely.

    The few rows clicked throughout are drawn again.
    """
    some = 1 - np.cumprod(1 - probability, axis=1)
    first = (some <= rng.random((len(some), 1)) * some[:, -1:]).sum(axis=1, keepdims=True)
    column = np.arange(probability.shape[1])
    clicked: Bool[np.ndarray, "impressions positions"] = (column == first) | (
        (column > first) & (rng.random(probability.shape) < probability)
    )
    every = clicked.sum(axis=1) == size
    if every.any():
        clicked[every] = _click(rng, probability[every], size[every])
    return clicked


def real_candidates(
    width: int, size: Int[np.ndarray, " impressions"]
) -> Bool[np.ndarray, "impressions {width}"]:
    """True for candidates, False for padding."""
    real: Bool[np.ndarray, "impressions {width}"] = np.arange(width) < size[:, None]
    return real


def sigmoid(odds: Float[np.ndarray, "*shape"], law: Law) -> Float[np.ndarray, "*shape"]:
    """The probability of log odds, which are kept in a range where they can be told apart."""
    bounded = np.clip(odds, law.base - ODDS_BELOW_BASE, MOST_ODDS)
    probability: Float[np.ndarray, "*shape"] = 1 / (1 + np.exp(-bounded))
    return probability
