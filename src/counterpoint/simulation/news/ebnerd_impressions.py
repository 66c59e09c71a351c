"""Drawing the impressions, the views before them and the readers' details of a simulated EB-NeRD bundle."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from counterpoint.simulation.news.clicks import (
    Law,
    click_odds,
    draw_impressions,
    earlier_clicks,
    interest,
    real_candidates,
    sigmoid,
)
from counterpoint.simulation.news.ebnerd_files import moments
from counterpoint.simulation.news.reading import (
    Reading,
    Sessions,
    clock,
    draw_pages,
    draw_single_visits,
    read,
    read_front_page,
)
from counterpoint.simulation.news.site import Groups, Impressions, Past, Readers, Site

CANDIDATES = (5, 40)
# Far from the ids of the real readers, so that nobody mixes them up.
FIRST_READER = 50_000_000
SHORTEST_HISTORY, LONGEST_HISTORY = 5, 300
BEYOND_ACCURACY_CANDIDATES, BEYOND_ACCURACY_SHARE = 250, 1 / 20
# What is not known of a view now and then, as in the real logs.
UNREAD, UNSCROLLED, UNSCROLLED_PAGE = 0.027, 0.09, 0.025
DAY = 86_400


@dataclass(frozen=True)
class Parameters:
    """What a simulated bundle depends on, and nothing else."""

    readers: int
    articles: int
    seed: int
    days: int
    test_impressions: int
    impressions_per_reader: float
    category_strength: float
    sentiment_strength: float

    @property
    def validation_days(self) -> int:
        """How many of the days, the last ones, validate; as many more are the test's."""
        return max(1, round(self.days / 4))

    @property
    def all_days(self) -> int:
        """The days of all splits."""
        return self.days + self.validation_days * (self.test_impressions > 0)


class News(NamedTuple):
    """The simulated articles as the clicks see them, with their ids and the lengths of their bodies."""

    site: Site
    ids: Int[np.ndarray, " articles"]
    words: Int[np.ndarray, " articles"]
    front: Groups
    past: Past
    law: Law


def draw_people(rng: np.random.Generator, first: int, count: int) -> pl.DataFrame:
    """What the site knows of its readers: little of most, something of those who signed in."""
    signed_in = rng.random(count) < 0.106
    told = {
        "gender": (0.68, rng.random(count) < 0.12),
        "postcode": (0.14, rng.choice(5, count, p=[0.42, 0.28, 0.1, 0.18, 0.02])),
        "age": (0.25, rng.choice([20, 30, 40, 50, 60, 70], count, p=[0.02, 0.12, 0.17, 0.17, 0.3, 0.22])),
    }
    subscribed = signed_in & (rng.random(count) < 0.6)
    device = rng.choice([1, 2, 3], count, p=[0.34, 0.63, 0.03])
    return pl.DataFrame(
        {
            "user_id": FIRST_READER + first + np.arange(count),
            "device_type": device,
            "is_sso_user": signed_in,
            "is_subscriber": subscribed,
        }
        | {
            name: _or_null(value.astype(float), ~signed_in | (rng.random(count) >= share))
            for name, (share, value) in told.items()
        }
    )


def _or_null(values: Float[np.ndarray, " rows"], unknown: Bool[np.ndarray, " rows"]) -> pl.Series:
    return pl.Series(np.where(unknown, np.nan, values), nan_to_null=True)


def _views(
    people: pl.DataFrame,
    news: News,
    views: tuple[Int[np.ndarray, " views"], Int[np.ndarray, " views"], Int[np.ndarray, " views"]],
    reading: Reading,
    unscrolled: Bool[np.ndarray, " views"],
) -> pl.DataFrame:
    """Articles opened, by reader, article and second, with how they were read."""
    reader, article, second = views
    return pl.DataFrame(
        {
            "user_id": people["user_id"].gather(reader),
            "second": second,
            "time": moments(second),
            "article": news.ids[article],
            "seconds": reading.seconds,
            "scrolled": _or_null(reading.scrolled, unscrolled),
        }
    )


def earlier_views(
    rng: np.random.Generator, news: News, readers: Readers, people: pl.DataFrame
) -> pl.DataFrame:
    """What the readers read before the first day, mostly within a day of its publication."""
    count = len(readers.mood)
    length = np.clip(np.rint(30 * np.exp(rng.normal(size=count))), SHORTEST_HISTORY, LONGEST_HISTORY)
    clicks = earlier_clicks(rng, news.site, news.past, readers, length.astype(int), news.law)
    published = np.rint(news.site.published[clicks.article] * DAY)
    # The inverse of an exponential distribution of half a day's mean, cut off at the first day.
    half = DAY / 2
    after = -half * np.log1p(-rng.random(len(published)) * -np.expm1(published / half))
    second = np.minimum(np.floor(published + after), -1).astype(np.int64)
    reading = _read(rng, news, readers, clicks.reader, np.zeros(len(second)), clicks.article)
    unscrolled = rng.random(len(second)) < UNSCROLLED
    return _views(people, news, (clicks.reader, clicks.article, second), reading, unscrolled)


def _read(
    rng: np.random.Generator,
    news: News,
    readers: Readers,
    reader: Int[np.ndarray, " views"],
    time: Float[np.ndarray, " views"],
    article: Int[np.ndarray, " views"],
) -> Reading:
    liked = interest(news.site, readers, reader, time, article[:, None], news.law)[:, 0]
    return read(rng, liked, news.words[article])


def draw_log(
    rng: np.random.Generator,
    news: News,
    readers: Readers,
    people: pl.DataFrame,
    sessions: Sessions,
    borders: Int[np.ndarray, " borders"],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw impressions with their truth, and the views that their clicks led to.

    A session that runs across the border of two splits ends there.
    """
    shown = draw_impressions(rng, news.site, news.front, readers, sessions.visits, CANDIDATES[1], news.law)
    count = len(shown.reader)
    row, place = np.nonzero(shown.clicked)
    clicked = shown.candidate[row, place]
    first = np.searchsorted(row, np.arange(count))
    opened = _read(rng, news, readers, shown.reader[row], shown.time[row], clicked)
    page = draw_pages(rng, news.front, sessions, clicked[first])
    inside = page >= 0
    page_seconds = read_front_page(rng, count)
    own = _read(rng, news, readers, shown.reader[inside], shown.time[inside], page[inside])
    page_seconds[inside] = own.seconds
    second = clock(sessions, page, page_seconds, opened.seconds[first])
    kept = np.searchsorted(borders, second, "right") == np.searchsorted(
        borders, np.rint(shown.time * DAY), "right"
    )

    # Who sees what else there is to read has come to the end of the page.
    depth = np.where(rng.random(count) < 0.97, 100, rng.integers(9, 100, count)).astype(float)
    unread, unscrolled = rng.random(count) < UNREAD, rng.random(len(row)) < UNSCROLLED
    log = people[shown.reader].with_columns(
        _candidates(news, shown).drop("row").get_columns(),
        article_id=_or_null(news.ids[page].astype(float), ~inside),
        impression_time=moments(second),
        second=second,
        read_time=page_seconds,
        scroll_percentage=_or_null(
            depth, np.where(inside, rng.random(count) < UNSCROLLED_PAGE, rng.random(count) > 0.004)
        ),
        session_id=np.cumsum(sessions.first),
        next_read_time=_or_null(opened.seconds[first], unread),
        next_scroll_percentage=_or_null(opened.scrolled[first], unread | unscrolled[first]),
        is_beyond_accuracy=pl.lit(False),
    )
    views = _views(people, news, (shown.reader[row], clicked, second[row]), opened, unscrolled)
    return log.filter(kept), views.filter(kept[row])


def _candidates(news: News, shown: Impressions) -> pl.DataFrame:
    """The candidates of every impression, those that were clicked, and the truth about them, as lists."""
    real = real_candidates(shown.candidate.shape[1], shown.size)
    flat = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(shown.size)), shown.size),
            "article": news.ids[shown.candidate[real]],
            "clicked": shown.clicked[real],
            "probability": shown.probability[real].astype(np.float32),
            "position_free": shown.position_free[real].astype(np.float32),
            "position": shown.position[real].astype(np.uint16),
        }
    )
    return flat.group_by("row", maintain_order=True).agg(
        pl.col("article").alias("article_ids_inview"),
        pl.col("article").filter(pl.col("clicked")).alias("article_ids_clicked"),
        *("probability", "position_free", "position"),
    )


def draw_test(
    rng: np.random.Generator,
    news: News,
    readers: Readers,
    people: pl.DataFrame,
    parameters: Parameters,
    first: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw these readers' share of the test impressions, and of the rows beyond accuracy."""
    count = len(people)
    borders = np.array([parameters.days, parameters.all_days])

    def share(rows: int) -> Sessions:
        until = [rows * done // parameters.readers for done in (first, first + count)]
        reader = np.sort(rng.integers(count, size=until[1] - until[0]))
        return draw_single_visits(rng, reader, (parameters.days, parameters.all_days), CANDIDATES)

    log, _ = draw_log(rng, news, readers, people, share(parameters.test_impressions), borders * DAY)
    visits = share(max(1, int(parameters.test_impressions * BEYOND_ACCURACY_SHARE))).visits
    candidates = _beyond_accuracy(news, parameters)
    shape = (len(visits.reader), len(candidates))
    odds = click_odds(
        news.site, readers, visits.reader, visits.time, np.broadcast_to(candidates, shape), news.law
    )
    second = np.rint(visits.time * DAY).astype(np.int64)
    beyond = people[visits.reader].with_columns(
        article_ids_inview=pl.Series(np.broadcast_to(news.ids[candidates], shape)).arr.to_list(),
        position_free=pl.Series(sigmoid(odds, news.law).astype(np.float32)).arr.to_list(),
        impression_time=moments(second),
        second=second,
        read_time=read_front_page(rng, len(second)),
        is_beyond_accuracy=pl.lit(True),
        impression_id=pl.lit(0),
        session_id=pl.lit(0),
    )
    return log, pl.concat([log.clear(), beyond], how="diagonal_relaxed")


def _beyond_accuracy(news: News, parameters: Parameters) -> Int[np.ndarray, " candidates"]:
    """The newest articles at the beginning of the test days, shuffled."""
    known = np.flatnonzero(news.site.published < parameters.days)[-BEYOND_ACCURACY_CANDIDATES:]
    return np.random.default_rng([parameters.seed, 3]).permutation(known)
