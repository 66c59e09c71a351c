import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from counterpoint.metrics.topk import topk_metrics

ITEMS = 12


def flat(relevant):
    """Offsets and items of lists."""
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in relevant]))).astype(np.int64)
    return offsets, np.array([item for each in relevant for item in each], dtype=np.int32)


def looped(top, relevant, cutoffs):
    """The metrics of one user as they are written down, place by place."""
    metrics = {}
    for cutoff in cutoffs:
        gained = [1 / np.log2(place + 2) for place, item in enumerate(top[:cutoff]) if item in relevant]
        best = sum(1 / np.log2(place + 2) for place in range(min(cutoff, len(relevant))))
        metrics[f"ndcg@{cutoff}"] = sum(gained) / best if relevant else np.nan
        metrics[f"recall@{cutoff}"] = len(gained) / len(relevant) if relevant else np.nan
        metrics[f"precision@{cutoff}"] = len(gained) / cutoff if relevant else np.nan
    return metrics


@st.composite
def rankings(draw):
    """Lists of four different items, the last of them perhaps -1, and any relevant items."""
    users = draw(st.integers(1, 6))
    top = np.array([draw(st.permutations(range(ITEMS)))[:4] for _ in range(users)], dtype=np.int32)
    for row in top:
        row[4 - draw(st.integers(0, 4)) :] = -1
    relevant = [sorted(draw(st.sets(st.integers(0, ITEMS - 1)))) for _ in range(users)]
    return top, relevant


@settings(max_examples=100, deadline=None)
@given(rankings())
def test_the_metrics_are_those_of_a_loop_over_users_and_places(ranking):
    top, relevant = ranking
    found = topk_metrics(top, *flat(relevant), cutoffs=(1, 3, 4))
    expected = [looped(row.tolist(), set(each), (1, 3, 4)) for row, each in zip(top, relevant, strict=True)]
    assert list(found) == list(expected[0])
    for name, values in found.items():
        np.testing.assert_allclose(values, [each[name] for each in expected])
        known = values[~np.isnan(values)]
        assert ((known >= 0) & (known <= 1 + 1e-12)).all()


def test_ndcg_is_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    labels = (draw.random((40, 60)) < 0.1).astype(int)
    labels[:, 0] = 1
    scores = draw.permuted(np.tile(np.arange(60.0), (40, 1)), axis=1)
    top = np.argsort(-scores, axis=1)[:, :20]
    found = topk_metrics(top, *flat([np.flatnonzero(row) for row in labels]))
    for cutoff in (10, 20):
        expected = [ndcg_score(labels[[user]], scores[[user]], k=cutoff) for user in range(40)]
        np.testing.assert_allclose(found[f"ndcg@{cutoff}"], expected)


def test_values_by_hand():
    top = np.array([[5, 2, 9, 7]])
    found = topk_metrics(top, *flat([[2, 3, 7]]), cutoffs=(2, 4))
    gain = 1 / np.log2(3)
    assert found["ndcg@2"][0] == pytest.approx(gain / (1 + gain))
    assert found["ndcg@4"][0] == pytest.approx((gain + 1 / np.log2(5)) / (1 + gain + 1 / 2))
    assert found["recall@2"][0] == pytest.approx(1 / 3)
    assert found["precision@2"][0] == pytest.approx(1 / 2)
    assert found["recall@4"][0] == pytest.approx(2 / 3)
    assert found["precision@4"][0] == pytest.approx(1 / 2)


def test_ndcg_of_all_relevant_items_first_is_one_however_few_or_many_they_are():
    top = np.tile(np.arange(20), (3, 1))
    found = topk_metrics(top, *flat([[0], list(range(15)), list(range(30))]))
    np.testing.assert_allclose(found["ndcg@10"], 1)
    np.testing.assert_allclose(found["ndcg@20"], 1)
    np.testing.assert_allclose(found["recall@10"], [1, 10 / 15, 10 / 30])
    np.testing.assert_allclose(found["precision@20"], [1 / 20, 15 / 20, 1])


def test_a_user_without_relevant_items_has_no_metrics_and_does_not_shift_the_others():
    top = np.tile(np.arange(20), (3, 1))
    found = topk_metrics(top, *flat([[], [0], []]))
    for values in found.values():
        assert np.isnan(values[[0, 2]]).all()
        assert values[1] > 0
    everybody = topk_metrics(top, *flat([[], [], []]))
    assert all(np.isnan(values).all() for values in everybody.values())


def test_an_empty_place_is_no_item():
    top = np.full((2, 20), -1)
    top[0, 0] = 3
    # With a careless key, -1 of the second user would be the first user's last item.
    found = topk_metrics(top, *flat([[3, 11], [0]]))
    np.testing.assert_allclose(found["recall@10"], [0.5, 0])
    np.testing.assert_allclose(found["precision@10"], [0.1, 0])


def test_no_users_have_no_values():
    assert all(
        len(values) == 0 for values in topk_metrics(np.empty((0, 20), dtype=np.int32), *flat([])).values()
    )


def test_arrays_that_do_not_fit_are_refused():
    top = np.zeros((2, 20), dtype=np.int32)
    with pytest.raises(ValueError, match="2 lists and 1 relevant items do not fit 2 offsets up to 1"):
        topk_metrics(top, *flat([[1]]))
    with pytest.raises(ValueError, match="Lists of 5 items cannot be scored at 20"):
        topk_metrics(top[:, :5], *flat([[1], [2]]))
