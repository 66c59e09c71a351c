import numpy as np

from counterpoint.news.context import Context

HOUR = 3_600_000_000


def test_age_and_recent_clicks_are_those_of_a_plain_loop(simulated):
    shown = simulated.impressions(simulated.split("test"))
    context = Context(simulated, ("train", "validation", "test"), ("age", "clicks"), 5.0)
    times = np.repeat(shown.time, np.diff(shown.offsets))
    told = context.of(shown.candidates, times)
    log = []
    for split in ("train", "validation", "test"):
        part = simulated.impressions(simulated.split(split))
        log += zip(
            np.repeat(part.time, np.diff(part.offsets)).tolist(),
            part.candidates.tolist(),
            part.clicked.tolist(),
            strict=True,
        )
    draw = np.random.default_rng(0).integers(len(times), size=60)
    assert told.dtype == np.float32
    for place in draw:
        article, now = int(shown.candidates[place]), int(times[place])
        first = min(time for time, candidate, _ in log if candidate == article)
        clicks = sum(
            candidate == article and clicked == 1 and now - 5 * HOUR <= time < now
            for time, candidate, clicked in log
        )
        expected = np.log1p([(now - first) / HOUR, clicks])
        np.testing.assert_allclose(told[place], expected, rtol=1e-5, atol=1e-6)
    assert (told[:, 1] > 0).any()


def test_what_happens_from_the_impression_on_changes_nothing(simulated):
    shown = simulated.impressions(simulated.split("train"))
    order = np.argsort(shown.time, kind="stable")
    now = int(shown.time[order[len(order) // 2]])
    whole = Context(simulated, ("train", "validation", "test"), ("age", "clicks"), 24.0)
    alone = Context(simulated, ("train",), ("age", "clicks"), 24.0)
    articles = np.unique(shown.candidates[np.repeat(shown.time, np.diff(shown.offsets)) < now])
    times = np.full(len(articles), now)
    np.testing.assert_array_equal(whole.of(articles, times), alone.of(articles, times))


def test_without_features_nothing_is_read(simulated):
    context = Context(simulated, ("no such split",), (), 24.0)
    assert len(context) == 0
    assert context.of(np.zeros((3, 2), dtype=np.int64), np.zeros((3, 2), dtype=np.int64)).shape == (3, 2, 0)
