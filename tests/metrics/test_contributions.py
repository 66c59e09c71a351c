import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.comparison.significance import bootstraps
from counterpoint.metrics.groups import auc, auc_contributions, mean_contributions

ROWS = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40)


@given(ROWS)
def test_the_mean_contribution_is_the_auc_ties_included(rows):
    scores, labels, users = (np.array(column) for column in zip(*rows, strict=True))
    found = auc_contributions(scores.astype(float), labels, users, 4)
    assert found.mean() == pytest.approx(auc(scores.astype(float), labels), nan_ok=True)
    assert len(found) == 4


def test_contributions_by_hand():
    # Users a, b: a has scores 3 (positive) and 1 (negative), b has 2 (positive) and 2 (negative).
    scores, labels = np.array([3.0, 1.0, 2.0, 2.0]), np.array([True, False, True, False])
    # Positive rows are above 1 and 3/4 of the negatives, negative ones below 1 and 3/4 of the positives.
    wanted = [0.875 + 2 * (0.125 / 2 + 0.125 / 2), 0.875 - 2 * (0.125 / 2 + 0.125 / 2)]
    assert auc_contributions(scores, labels, np.array([0, 0, 1, 1]), 2) == pytest.approx(wanted)


def test_one_label_alone_has_no_contributions():
    assert np.isnan(auc_contributions(np.arange(3.0), np.ones(3, dtype=bool), np.arange(3), 3)).all()
    assert np.isnan(mean_contributions(np.arange(3.0), np.zeros(3))).all()


def test_the_contributions_to_a_weighted_mean_by_hand():
    values, weights = np.array([0.5, np.nan, 1.0]), np.array([1.0, 0.0, 3.0])
    # The mean is 0.875 and the mean weight 4/3.
    wanted = [0.875 + (0.5 - 0.875) * 0.75, 0.875, 0.875 + 3 * (1 - 0.875) * 0.75]
    assert mean_contributions(values, weights) == pytest.approx(wanted)
    assert mean_contributions(values, weights).mean() == pytest.approx(0.875)


def test_the_bootstrap_of_contributions_is_that_of_the_auc_itself():
    draw = np.random.default_rng(0)
    count, rows = 300, 3_000
    users = draw.integers(count, size=rows)
    ability = draw.normal(size=count)
    labels = draw.random(rows) < 1 / (1 + np.exp(-ability[users]))
    scores = ability[users] + draw.normal(size=rows)
    interval = bootstraps(auc_contributions(scores, labels, users, count)[:, None])[0]
    by_user = [np.flatnonzero(users == user) for user in range(count)]
    drawn = []
    for _ in range(400):
        chosen = np.concatenate([by_user[user] for user in draw.integers(count, size=count)])
        drawn.append(auc(scores[chosen], labels[chosen]))
    assert interval.mean_difference == pytest.approx(auc(scores, labels))
    slow = np.quantile(drawn, [0.025, 0.975])
    assert [interval.low, interval.high] == pytest.approx(slow, abs=0.15 * (slow[1] - slow[0]))
