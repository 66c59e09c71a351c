import math
from itertools import combinations

import numpy as np
import pytest

from counterpoint.metrics.impressions import ranks
from counterpoint.news import editorial as module
from counterpoint.news.editorial import clicked_ranks, editorial


def plain(ranks, offsets, candidates, *, vectors, clicks_before, histories, categories, sentiments, k):
    """The same measures by loops over impressions, lists and pairs."""
    lists, past = [], []
    values, lengths = histories
    start = 0
    for impression, length in enumerate(lengths):
        places = range(offsets[impression], offsets[impression + 1])
        best = sorted((ranks[place], candidates[place]) for place in places if ranks[place] <= k)
        lists.append([int(article) for _, article in best])
        past.append([int(article) for article in values[start : start + length]])
        start += length
    everything = sorted(set(candidates.tolist()))
    shown = [sum(article in picked for picked in lists) for article in everything]

    def distance(a, b):
        norms = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        return 1 - float(vectors[a] @ vectors[b]) / norms if norms else 1.0

    def surprise(article):
        return -math.log2((clicks_before[article] + 1) / (clicks_before.sum() + len(clicks_before)))

    def divergence(labels, picked, read):
        p = [int(labels[article]) for article in read if labels[article] >= 0]
        q = [int(labels[article]) for article in picked if labels[article] >= 0]
        if not p or not q:
            return None
        total = 0.0
        for label in set(p):
            share, listed = p.count(label) / len(p), q.count(label) / len(q)
            total += share * math.log(share / (0.99 * listed + 0.01 * share))
        return total

    def mean(numbers):
        known = [number for number in numbers if number is not None]
        return sum(known) / len(known) if known else math.nan

    result = {
        f"diversity@{k}": mean(
            mean([distance(a, b) for a, b in combinations(picked, 2)]) if len(picked) > 1 else None
            for picked in lists
        ),
        f"novelty@{k}": mean(mean(map(surprise, picked)) if picked else None for picked in lists),
        f"coverage@{k}": sum(count > 0 for count in shown) / len(shown),
        f"exposure gini@{k}": sum(abs(a - b) for a in shown for b in shown)
        / (2 * len(shown) * max(1, sum(shown))),
    }
    for name, labels in (("category", categories), ("sentiment", sentiments)):
        all_of_them = [divergence(labels, picked, read) for picked, read in zip(lists, past, strict=True)]
        result[f"{name} calibration@{k}"] = mean(all_of_them)
        result[f"{name} calibration@{k} left out"] = all_of_them.count(None)
    return result


def site(seed, impressions=60, articles=40):
    """Random impressions, some with a single candidate, some readers without a history."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 15, size=impressions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    candidates = np.concatenate([rng.choice(articles, size=size, replace=False) for size in sizes])
    lengths = rng.integers(0, 4, size=impressions)
    vectors = rng.normal(size=(articles, 6)).astype(np.float32)
    vectors[3] = 0
    return {
        "ranks": ranks(rng.random(len(candidates)), offsets),
        "offsets": offsets,
        "candidates": candidates,
        "vectors": vectors,
        "clicks_before": rng.integers(0, 30, size=articles),
        "histories": (rng.integers(0, articles, size=lengths.sum()), lengths),
        "categories": rng.integers(-1, 5, size=articles),
        "sentiments": rng.integers(-1, 3, size=articles),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_every_measure_equals_plain_loops(seed, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    given = site(seed)
    measured = editorial(**given, k=(1, 5, 10))
    expected = {}
    for depth in (1, 5, 10):
        expected |= plain(**given, k=depth)
    assert list(measured) == list(expected)
    assert measured == pytest.approx(expected, nan_ok=True)
    assert math.isnan(measured["diversity@1"])
    assert measured["category calibration@5 left out"] > 0


def one(lists, history=(), **changes):
    """Impressions that show exactly ``lists``, in this order."""
    sizes = [len(articles) for articles in lists]
    given = {
        "ranks": np.concatenate([np.arange(1, size + 1) for size in sizes]),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]),
        "candidates": np.concatenate([np.array(articles, dtype=np.int64) for articles in lists]),
        "vectors": np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0]]),
        "clicks_before": np.array([3, 0, 0, 1]),
        "histories": (np.array(history, dtype=np.int64), np.array([len(history)] + [0] * (len(lists) - 1))),
        "categories": np.array([0, 1, 0, -1]),
        "k": (2,),
    }
    return editorial(**given | changes)


def test_diversity_by_hand():
    assert one([[0, 2]])["diversity@2"] == pytest.approx(0)  # parallel, of different lengths
    assert one([[0, 1]])["diversity@2"] == pytest.approx(1)
    assert one([[0, 3]])["diversity@2"] == pytest.approx(2)
    assert one([[0, 1], [0, 2], [3]])["diversity@2"] == pytest.approx(0.5)


def test_novelty_counts_a_click_for_every_article():
    # 4 clicks and 4 articles: article 0 has the share 4/8, article 1 has 1/8, article 3 has 2/8.
    assert one([[0]])["novelty@2"] == pytest.approx(1)
    assert one([[1, 3]])["novelty@2"] == pytest.approx((3 + 2) / 2)


def test_exposure_by_hand():
    # Of the candidates 0, 1, 2, 3 the lists show 0 three times and 1, 2, 3 once each, at depth 2.
    measured = one([[0, 1], [0, 2], [0, 3]])
    assert measured["coverage@2"] == 1
    assert measured["exposure gini@2"] == pytest.approx(0.25)  # Σ|x−y| = 2 · 3 · 2 = 12, over 2 · 4 · 6
    first = one([[0, 1], [0, 2], [0, 3]], k=(1,))
    assert (first["coverage@1"], first["exposure gini@1"]) == (0.25, 0.75)


def test_calibration_by_hand():
    assert one([[0, 1]], history=[1, 2])["category calibration@2"] == pytest.approx(0)
    # Half the history is of class 1, of which nothing is shown.
    half = 0.5 * math.log(0.5 / (0.99 + 0.005)) + 0.5 * math.log(0.5 / 0.005)
    assert one([[0, 2]], history=[0, 1])["category calibration@2"] == pytest.approx(half)
    # An article without a class neither stands in the history nor in the list.
    assert one([[0, 3]], history=[2, 3])["category calibration@2"] == pytest.approx(0)


def test_impressions_without_a_class_are_left_out_and_counted():
    measured = one([[0, 1], [1], [2]], history=[0])
    assert measured["category calibration@2 left out"] == 2
    nothing = one([[0], [1]])
    assert math.isnan(nothing["category calibration@2"])
    assert one([[3]], history=[0])["category calibration@2 left out"] == 1
    assert not any(name.startswith("sentiment") for name in nothing)


def test_the_clicks_themselves_are_a_ranking():
    offsets = np.array([0, 3, 5, 6])
    clicked = np.array([False, True, True, False, False, True])
    ranking = clicked_ranks(clicked, offsets)
    assert ranking[clicked].tolist() == [1, 2, 1]
    assert (ranking[~clicked] > 1_000_000).all()
    measured = editorial(
        ranking,
        offsets,
        np.array([0, 1, 3, 2, 0, 3]),
        vectors=np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0]]),
        clicks_before=np.zeros(4, dtype=np.int64),
        histories=(np.array([], dtype=np.int64), np.zeros(3, dtype=np.int64)),
    )
    assert measured["coverage@5"] == 0.5  # 1 and 3
    assert measured["diversity@5"] == pytest.approx(1)
    assert measured["novelty@5"] == pytest.approx(2)


def test_nothing_shown_is_nothing_measured():
    empty = np.array([], dtype=np.int64)
    measured = one([[]], candidates=empty, ranks=empty)
    assert all(math.isnan(value) for name, value in measured.items() if "left out" not in name)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"2 ranks, 1 candidates and offsets up to 2"):
        one([[0, 1]], candidates=np.array([0]))
    with pytest.raises(ValueError, match=r"1 clicks in histories of 3 together"):
        one([[0]], histories=(np.array([1]), np.array([3])))
