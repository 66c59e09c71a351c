import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from counterpoint.errors import CounterpointError
from counterpoint.metrics.impressions import METRICS, Ranking, impression_metrics, ranks


def official_metrics(clicked, rank):
    """MIND's scoring of one impression: scores are 1/rank, sorted ascending and reversed."""
    clicked, score = np.asarray(clicked), 1 / np.asarray(rank)
    ordered = clicked[np.argsort(score)[::-1]]

    def dcg(relevance, depth):
        relevance = relevance[:depth]
        return np.sum((2.0**relevance - 1) / np.log2(np.arange(len(relevance)) + 2))

    best = np.sort(clicked)[::-1]
    return {
        "auc": roc_auc_score(clicked, score),
        "mrr": np.sum(ordered / (np.arange(len(ordered)) + 1)) / np.sum(clicked),
        "ndcg@5": dcg(ordered, 5) / dcg(best, 5),
        "ndcg@10": dcg(ordered, 10) / dcg(best, 10),
    }


def ragged(sizes):
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


impressions_of_scores = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=0, max_size=25), min_size=1, max_size=12
)


def flattened(impressions):
    flat = [candidate for impression in impressions for candidate in impression]
    scores = np.array([score for score, _ in flat], dtype=np.float32)
    clicked = np.array([click for _, click in flat], dtype=bool)
    return scores, clicked, ragged([len(impression) for impression in impressions])


def test_ranks_stand_at_the_candidates_own_positions():
    # The order of the candidates would be [2, 3, 1]: its own inverse is not, so the two differ.
    scores = np.array([0.2, 0.9, 0.5, -1.0, 7.0])
    assert ranks(scores, np.array([0, 3, 5])).tolist() == [3, 1, 2, 2, 1]


@given(impressions_of_scores, st.integers(0, 3))
def test_ranks_are_permutations_that_follow_the_scores(impressions, seed):
    scores, _, offsets = flattened(impressions)
    result = ranks(scores, offsets, seed=seed)
    for start, stop in pairwise(offsets):
        mine = result[start:stop]
        assert sorted(mine) == list(range(1, stop - start + 1))
        assert (np.diff(scores[start:stop][np.argsort(mine)]) <= 0).all()


def test_ties_are_broken_evenly_and_repeatably():
    offsets = ragged([4] * 20_000)
    scores = np.zeros(80_000, dtype=np.float32)
    result = ranks(scores, offsets)
    share_first = (result.reshape(-1, 4) == 1).mean(axis=0)
    np.testing.assert_allclose(share_first, 0.25, atol=0.015)
    assert (result == ranks(scores, offsets)).all()
    assert (result != ranks(scores, offsets, seed=1)).any()


def test_constant_scores_are_chance():
    rng = np.random.default_rng(3)
    offsets = ragged([10] * 20_000)
    clicked = (np.arange(10) == rng.integers(10, size=(20_000, 1))).ravel()
    metrics = impression_metrics(ranks(np.zeros(200_000), offsets), clicked, offsets).metrics
    assert metrics["auc"] == pytest.approx(0.5, abs=0.01)
    assert metrics["mrr"] == pytest.approx(np.mean(1 / np.arange(1, 11)), abs=0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused_with_its_place(bad):
    scores = np.array([1.0, 2.0, 3.0, bad, 4.0])
    with pytest.raises(CounterpointError, match="Impression 3, candidate 2: the score is"):
        ranks(scores, np.array([0, 2, 2, 5]))


@pytest.mark.parametrize("offsets", [[1, 3], [0, 2], [0, 3, 2, 3]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(ValueError, match="Offsets"):
        ranks(np.zeros(3), np.array(offsets))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 ranks but 2 labels"):
        impression_metrics(np.array([1, 2, 3]), np.array([True, False]), np.array([0, 3]))


def test_values_by_hand():
    # Clicks at ranks 2 and 3 of 4: of the 4 pairs, both clicks beat rank 4 only.
    metrics = impression_metrics(
        np.array([3, 1, 4, 2]), np.array([True, False, False, True]), np.array([0, 4])
    ).metrics
    ideal = 1 + 1 / np.log2(3)
    gained = 1 / np.log2(3) + 1 / 2
    assert metrics == pytest.approx(
        {"auc": 0.5, "mrr": (1 / 2 + 1 / 3) / 2, "ndcg@5": gained / ideal, "ndcg@10": gained / ideal}
    )


def test_depth_cuts_the_gain_and_the_ideal():
    # Twelve candidates, six clicks at ranks 1-4, 7 and 11.
    rank = np.arange(1, 13)
    clicked = np.isin(rank, [1, 2, 3, 4, 7, 11])
    metrics = impression_metrics(rank, clicked, np.array([0, 12])).metrics
    discount = 1 / np.log2(rank + 1)
    assert metrics["ndcg@5"] == pytest.approx(discount[:4].sum() / discount[:5].sum())
    assert metrics["ndcg@10"] == pytest.approx((discount[:4].sum() + discount[6]) / discount[:6].sum())


@given(impressions_of_scores)
def test_every_impression_agrees_with_the_official_script(impressions):
    scores, clicked, offsets = flattened(impressions)
    rank = ranks(scores, offsets)
    result = impression_metrics(rank, clicked, offsets)
    for index, (start, stop) in enumerate(pairwise(offsets)):
        mine = {name: result.per_impression[name][index] for name in METRICS}
        if clicked[start:stop].any() and not clicked[start:stop].all():
            assert mine == pytest.approx(official_metrics(clicked[start:stop], rank[start:stop]), abs=1e-12)
        else:
            assert np.isnan(list(mine.values())).all()


@given(impressions_of_scores)
def test_integer_labels_equal_boolean_ones(impressions):
    scores, clicked, offsets = flattened(impressions)
    rank = ranks(scores, offsets)
    as_integers = impression_metrics(rank, clicked.astype(np.int8), offsets)
    for name, values in impression_metrics(rank, clicked, offsets).per_impression.items():
        np.testing.assert_array_equal(as_integers.per_impression[name], values)


@given(impressions_of_scores)
def test_reversing_the_ranks_mirrors_the_auc(impressions):
    scores, clicked, offsets = flattened(impressions)
    rank = ranks(scores, offsets)
    reversed_rank = np.repeat(np.diff(offsets), np.diff(offsets)) + 1 - rank
    forth = impression_metrics(rank, clicked, offsets).per_impression["auc"]
    back = impression_metrics(reversed_rank, clicked, offsets).per_impression["auc"]
    np.testing.assert_allclose(forth + back, np.where(np.isnan(forth), np.nan, 1.0), atol=1e-12)


def test_impressions_without_both_classes_are_left_out_and_counted():
    offsets = ragged([2, 0, 1, 1, 3, 2])
    clicked = np.array([1, 0, 1, 0, 1, 1, 1, 0, 1], dtype=bool)
    rank = np.array([1, 2, 1, 1, 1, 2, 3, 1, 2])
    result = impression_metrics(rank, clicked, offsets)
    assert (result.scored, result.skipped) == (2, 4)
    assert result.metrics["auc"] == 0.5
    np.testing.assert_array_equal(result.per_impression["auc"], [1, np.nan, np.nan, np.nan, np.nan, 0])


def test_a_slice_is_the_ranking_of_its_impressions():
    result = Ranking({name: np.array([0.25, np.nan, 0.75, 0.5]) for name in METRICS})
    some = result.of(np.array([True, True, False, True]))
    assert (some.scored, some.skipped, some.metrics["mrr"]) == (2, 1, 0.375)
    nobody = result.of(np.zeros(4, dtype=bool))
    assert (nobody.scored, nobody.skipped) == (0, 0)
    assert np.isnan(nobody.metrics["auc"])


def test_no_impressions_at_all():
    result = impression_metrics(np.array([], dtype=np.int32), np.array([], dtype=bool), np.array([0]))
    assert (result.scored, result.skipped) == (0, 0)


def test_blocks_leave_no_seam(monkeypatch):
    rng = np.random.default_rng(0)
    offsets = ragged(rng.integers(0, 6, size=200))
    scores = rng.integers(3, size=offsets[-1]).astype(np.float32)
    whole = ranks(scores, offsets)
    monkeypatch.setattr("counterpoint.metrics.impressions._BLOCK", 7)
    np.testing.assert_array_equal(ranks(scores, offsets), whole)


def test_nothing_is_called_once_an_impression():
    """The whole day at once: calls are counted, as what they take depends on the machine."""
    rng = np.random.default_rng(0)
    offsets = ragged(np.clip(rng.lognormal(3.2, 0.9, size=20_000).astype(int), 2, 299))
    scores = rng.normal(size=offsets[-1]).astype(np.float32)
    clicked = rng.random(offsets[-1]) < 0.04
    calls = Counter()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        impression_metrics(ranks(scores, offsets), clicked, offsets)
    finally:
        sys.setprofile(before)
    assert 0 < calls["call"] + calls["c_call"] < 20_000
