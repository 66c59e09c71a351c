"""When simulated readers come to a site like EB-NeRD's, and how long and how far they read.

Somebody interested in an article (as `simulate_clicks` has it), whose body has n words, reads it for

    exp(2.8 + 0.5 · interest + 0.6 · log(n / 60) + 1.2 · ε) seconds, at most 1800,

and scrolls through min(1, 1.25 · σ(0.5 · interest - 0.4 · log(n / 60) + 1.2 · ε')) of it, where ε and
ε' are standard normal.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from counterpoint.simulation.news.site import BUSY, Groups, Visits

DAY_BEGINS = 7
LONGEST_READING = 1800
IMPRESSIONS_PER_SESSION = 1.9
# Where an impression follows another, and where it begins a session, the share that is an article's own page.
ARTICLE_PAGES = (0.45, 0.15)
LONG_BODY_WORDS = 60


class Reading(NamedTuple):
    """How long an article was read, in whole seconds, and how many percent of it were scrolled through."""

    seconds: Float[np.ndarray, " views"]
    scrolled: Float[np.ndarray, " views"]


def read(
    rng: np.random.Generator, interest: Float[np.ndarray, " views"], words: Int[np.ndarray, " views"]
) -> Reading:
    """Draw how articles of so many words are read by readers of so much interest."""
    length = np.log(words / LONG_BODY_WORDS)
    seconds = np.exp(2.8 + 0.5 * interest + 0.6 * length + 1.2 * rng.normal(size=len(words)))
    depth = 0.5 * interest - 0.4 * length + 1.2 * rng.normal(size=len(words))
    scrolled = np.minimum(125 / (1 + np.exp(-depth)), 100)
    return Reading(np.floor(np.minimum(seconds, LONGEST_READING)), np.rint(scrolled))


class Sessions(NamedTuple):
    """Visits in sessions, all those of a session at its beginning; ``first`` is true where one begins."""

    visits: Visits
    first: Bool[np.ndarray, " impressions"]


def draw_sessions(
    rng: np.random.Generator, readers: int, days: int, impressions_per_reader: float, sizes: tuple[int, int]
) -> Sessions:
    """Draw when readers come, in order, some of them much more often than others, and how much they see."""
    mean_length = min(IMPRESSIONS_PER_SESSION, impressions_per_reader)
    mean = impressions_per_reader / mean_length
    sessions = 1 + rng.poisson((mean - 1) * rng.standard_gamma(1, readers))
    reader = np.repeat(np.arange(readers), sessions)
    hour, time = _times(rng, len(reader), (0, days))
    length = rng.geometric(1 / mean_length, len(reader))
    first = np.zeros(length.sum(), bool)
    first[np.cumsum(length) - length] = True
    reader, hour, time = (np.repeat(column, length) for column in (reader, hour, time))
    return Sessions(Visits(reader, hour, time, _sizes(rng, len(first), sizes)), first)


def draw_single_visits(
    rng: np.random.Generator,
    reader: Int[np.ndarray, " impressions"],
    days: tuple[int, int],
    sizes: tuple[int, int],
) -> Sessions:
    """Draw when, from one day until another, the readers come for one impression each."""
    hour, time = _times(rng, len(reader), days)
    return Sessions(Visits(reader, hour, time, _sizes(rng, len(reader), sizes)), np.ones(len(reader), bool))


def _times(
    rng: np.random.Generator, count: int, days: tuple[int, int]
) -> tuple[Int[np.ndarray, " sessions"], Float[np.ndarray, " sessions"]]:
    share = np.roll(BUSY, -DAY_BEGINS)
    hour = rng.integers(*days, size=count) * 24 + rng.choice(24, count, p=share)
    return hour, (hour * 3600 + rng.integers(3600, size=count)) / 86_400


def _sizes(rng: np.random.Generator, count: int, sizes: tuple[int, int]) -> Int[np.ndarray, " impressions"]:
    fewest, most = sizes
    size: Int[np.ndarray, " impressions"] = np.minimum(fewest - 1 + rng.geometric(1 / 7, count), most)
    return size


def draw_pages(
    rng: np.random.Generator,
    front: Groups,
    sessions: Sessions,
    clicked: Int[np.ndarray, " impressions"],
) -> Int[np.ndarray, " impressions"]:
    """Draw the page the impressions were shown on: the front page (-1), or that of an article.

    ``clicked`` is the article clicked in each impression: its page is where the next one may be shown.
    """
    later, opening = ARTICLE_PAGES
    landed = front.draw(rng, sessions.visits.hour)
    chance = rng.random(len(clicked))
    came_from = np.where(sessions.first, landed, np.roll(clicked, 1))
    page: Int[np.ndarray, " impressions"] = np.where(
        chance < np.where(sessions.first, opening, later), came_from, -1
    )
    return page


def clock(
    sessions: Sessions,
    page: Int[np.ndarray, " impressions"],
    page_seconds: Float[np.ndarray, " impressions"],
    next_seconds: Float[np.ndarray, " impressions"],
) -> Int[np.ndarray, " impressions"]:
    """The second of every impression since the start, by what was read before it in its session.

    An impression on the front page comes when the article clicked before has been read, one on that article's
    page as soon as it is opened.
    """
    spent = page_seconds[:-1] + 1 + np.where(page[1:] < 0, next_seconds[:-1], 0)
    passed = np.concatenate(([0], np.cumsum(spent)))
    beginning = np.maximum.accumulate(np.where(sessions.first, np.arange(len(passed)), 0))
    started = np.rint(sessions.visits.time * 86_400)
    second: Int[np.ndarray, " impressions"] = (started + passed - passed[beginning]).astype(np.int64)
    return second


def read_front_page(rng: np.random.Generator, impressions: int) -> Float[np.ndarray, " impressions"]:
    """Draw the seconds spent on the front page."""
    seconds = np.exp(np.log(18) + 0.9 * rng.normal(size=impressions))
    whole: Float[np.ndarray, " impressions"] = np.floor(np.minimum(seconds, LONGEST_READING))
    return whole
