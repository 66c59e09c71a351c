import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.metrics.impressions import impression_metrics, ranks
from counterpoint.news.baselines import Shown, popularity, random_scores, recency
from counterpoint.news.data.store import UNKNOWN_TIME

SECOND = 1_000_000


def shown(*impressions):
    """Impressions written as (second, {article: clicked})."""
    candidates = [pair for _, articles in impressions for pair in articles.items()]
    return Shown(
        articles=np.array([article for article, _ in candidates], dtype=np.int32),
        offsets=np.cumsum([0, *(len(articles) for _, articles in impressions)]),
        times=np.array([second * SECOND for second, _ in impressions], dtype=np.int64),
        clicked=np.array([bool(click) for _, click in candidates], dtype=bool),
    )


splits = st.lists(
    st.tuples(st.integers(0, 8), st.dictionaries(st.integers(0, 5), st.booleans(), max_size=5)), max_size=8
).map(lambda impressions: shown(*impressions))


def events(split):
    """The split as a plain list of (article, time, clicked)."""
    times = split.per_candidate(split.times)
    return list(zip(split.articles.tolist(), times.tolist(), split.clicked.tolist(), strict=True))


def test_popularity_counts_earlier_clicks():
    train = shown((1, {7: 1, 8: 0}), (2, {7: 1, 8: 1}))
    test = shown((3, {8: 1, 7: 0, 9: 0}), (4, {8: 0, 9: 1}), (3, {8: 1, 9: 0}))
    # The impressions at second 3 do not see each other's click on 8; the one at second 4 sees both.
    assert popularity(test, [train]).tolist() == [1, 2, 0, 3, 0, 1, 0]


def test_popularity_ignores_clicks_that_come_later():
    early = shown((1, {4: 0, 5: 0}))
    assert popularity(early, [shown((2, {4: 1, 5: 0}))]).tolist() == [0, 0]


def test_the_labels_of_an_impression_cannot_reach_its_own_scores():
    rng = np.random.default_rng(0)
    impressions, size = 400, 8
    labels = np.zeros((impressions, size), dtype=bool)
    labels[np.arange(impressions), rng.integers(size, size=impressions)] = True
    split = Shown(
        articles=np.tile(np.arange(size, dtype=np.int32), impressions),
        offsets=np.arange(impressions + 1) * size,
        times=np.zeros(impressions, dtype=np.int64),
        clicked=labels.ravel(),
    )
    # Everything is simultaneous: a floor that saw any label would rank above chance.
    assert (popularity(split) == 0).all()
    assert len(set(recency(split))) == 1


@given(splits, splits)
def test_popularity_equals_a_plain_count(test, train):
    known = events(train) + events(test)
    expected = [
        sum(clicked and other == article and then < time for other, then, clicked in known)
        for article, time, _ in events(test)
    ]
    assert popularity(test, [train]).tolist() == expected


@given(splits, splits, st.integers(1, 9))
def test_popularity_of_the_last_hours_equals_a_plain_count(test, train, seconds):
    window = seconds * SECOND
    known = events(train) + events(test)
    expected = [
        sum(clicked and other == article and time - window <= then < time for other, then, clicked in known)
        for article, time, _ in events(test)
    ]
    assert popularity(test, [train], hours=seconds / 3600).tolist() == expected


def test_a_click_leaves_the_window_when_it_is_older_than_it():
    train = shown((0, {7: 1}), (1800, {7: 1}))
    test = shown((3600, {7: 0}), (3601, {7: 0}), (5400, {7: 0}), (5401, {7: 0}))
    assert popularity(test, [train], hours=1).tolist() == [2, 1, 1, 0]
    assert popularity(test, [train], hours=0.5).tolist() == [1, 0, 0, 0]
    assert popularity(test, [train]).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("hours", [0, -1.5, float("nan")])
def test_a_window_has_some_length(hours):
    with pytest.raises(ValueError, match=f"Clicks of the last {hours} hours: give a positive number"):
        popularity(shown((1, {0: 1})), hours=hours)


@given(splits, splits, st.lists(st.integers(-5, 12), min_size=6, max_size=6))
def test_recency_equals_a_plain_search(test, train, published_seconds):
    published = np.array(
        [UNKNOWN_TIME if second > 9 else second * SECOND for second in published_seconds], dtype=np.int64
    )
    known = events(train) + events(test)
    expected = []
    for article, time, _ in events(test):
        born = min([then for other, then, _ in known if other == article] + [int(published[article])])
        expected.append((born - time) / SECOND)
    assert recency(test, [train], published=published).tolist() == expected


def test_recency_prefers_the_article_that_appeared_last():
    train = shown((1, {0: 1, 1: 0}), (5, {2: 0}))
    test = shown((10, {0: 1, 2: 0, 3: 0}))
    assert recency(test, [train]).tolist() == [-9, -5, 0]


def test_a_publication_after_the_first_appearance_is_not_believed():
    test = shown((10, {0: 1, 1: 0}))
    published = np.array([4 * SECOND, 60 * SECOND])
    assert recency(test, published=published).tolist() == [-6, 0]


def test_publication_times_must_cover_the_articles():
    with pytest.raises(ValueError, match="1 publication times, but articles up to row 3"):
        recency(shown((1, {3: 1, 0: 0})), published=np.array([0]))


def test_chance_is_seeded_and_uniform():
    scores = random_scores(50_000, seed=4)
    assert (scores == random_scores(50_000, seed=4)).all()
    assert (scores != random_scores(50_000, seed=5)).any()
    offsets = np.arange(5_001) * 10
    clicked = np.tile(np.arange(10) == 0, 5_000)
    assert impression_metrics(ranks(scores, offsets), clicked, offsets).metrics["auc"] == pytest.approx(
        0.5, abs=0.015
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clicked": np.array([True])}, "2 candidates in 1 impressions do not fit 1 labels"),
        ({"offsets": np.array([0, 1])}, "2 offsets up to 1"),
        ({"times": np.array([0, 0])}, "2 candidates in 2 impressions"),
        ({"articles": np.array([0, -1])}, "row numbers, from 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    fitting = {
        "articles": np.array([0, 1]),
        "offsets": np.array([0, 2]),
        "times": np.array([0]),
        "clicked": np.array([True, False]),
    }
    with pytest.raises(ValueError, match=message):
        Shown(**(fitting | change))
