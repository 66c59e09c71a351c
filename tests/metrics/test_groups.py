import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from counterpoint.comparison.significance import paired_bootstrap
from counterpoint.errors import CounterpointError
from counterpoint.metrics import groups as grouped
from counterpoint.metrics.groups import auc, log_loss, user_auc

WEIGHTS = {"impressions": len, "positives": sum, "uniform": lambda labels: 1}


@st.composite
def logs(draw):
    """Rows of few users with scores that tie, some users with one label alone."""
    rows = draw(st.integers(0, 40))
    scores = arrays.arrays(
        draw(st.sampled_from([np.float32, np.float64])),
        rows,
        elements=st.sampled_from([0.0, -0.0, 0.25, 1e-30, 0.5, 0.1, -3.0, 1e30, np.inf, -np.inf]),
    )
    labels = draw(st.sampled_from([bool, np.int64, np.float32]))
    numbers = arrays.arrays(np.int64, rows, elements=st.sampled_from([0, 1, 65536, 65537, 2**40, 2**63 - 1]))
    return draw(scores), draw(arrays.arrays(bool, rows)).astype(labels), draw(numbers)


def looped(scores, labels, users):
    """Users and their AUCs by scikit-learn, user by user."""
    found = {}
    for user in np.unique(users):
        mine = users == user
        both = len(set(labels[mine].tolist())) == 2
        # scikit-learn refuses infinite scores; their order is all that counts.
        order = np.unique(scores[mine], return_inverse=True)[1]
        found[int(user)] = roc_auc_score(labels[mine], order) if both else np.nan
    return found


@settings(max_examples=300, deadline=None)
@given(logs())
def test_every_user_has_the_auc_of_scikit_learn_ties_included(log):
    _, labels, users = log
    found, expected = user_auc(*log), looped(*log)
    assert found.users.tolist() == list(expected)
    np.testing.assert_allclose(found.per_user, list(expected.values()), rtol=0, atol=1e-12)
    assert found.rows.tolist() == [int((users == user).sum()) for user in expected]
    assert found.positives.tolist() == [int((labels[users == user] > 0).sum()) for user in expected]


@settings(max_examples=100, deadline=None)
@given(logs())
def test_gauc_and_its_coverage_are_those_of_a_loop(log):
    scores, labels, users = log
    found = user_auc(*log)
    counted = {user: value for user, value in looped(*log).items() if not np.isnan(value)}
    for weight, weigh in WEIGHTS.items():
        weights = [float(weigh(labels[users == user].tolist())) for user in counted]
        if counted:
            expected = np.dot(weights, list(counted.values())) / sum(weights)
            assert found.mean(weight) == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(found.mean(weight))
    if len(users):
        assert found.coverage == pytest.approx(len(counted) / len(np.unique(users)))
    else:
        assert np.isnan([found.coverage, auc(scores, labels)]).all()


@settings(max_examples=100, deadline=None)
@given(logs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_and_opposite_scores_give_the_rest(log, random):
    scores, labels, users = log
    order = np.array(random.sample(range(len(users)), len(users)), dtype=np.int64)
    found = user_auc(*log).per_user
    np.testing.assert_array_equal(user_auc(scores[order], labels[order], users[order]).per_user, found)
    np.testing.assert_allclose(user_auc(-scores, labels, users).per_user, 1 - found, atol=1e-12)


def test_a_user_by_hand():
    """User 3 has 0.5 beside 0.5 (half right), 0.5 and 0.2 over 0.1 (right), 0.2 under 0.5 (wrong)."""
    scores = np.array([0.5, 0.9, 0.5, 0.2, 0.1, 0.3])
    labels = np.array([1, 1, 0, 1, 0, 0])
    users = np.array([3, 8, 3, 3, 3, 8])
    found = user_auc(scores, labels, users)
    assert found.per_user.tolist() == [2.5 / 4, 1]
    assert found.mean() == found.mean("impressions") == pytest.approx((4 * 0.625 + 2 * 1) / 6)
    assert found.mean("positives") == pytest.approx((2 * 0.625 + 1 * 1) / 3)
    assert found.mean("uniform") == pytest.approx((0.625 + 1) / 2)


def test_large_logs_equal_scikit_learn():
    draw = np.random.default_rng(0)
    scores = draw.random(20_000, dtype=np.float32).round(2)
    labels, users = draw.random(20_000) < 0.1, draw.integers(0, 300, 20_000)
    found = user_auc(scores, labels, users)
    np.testing.assert_allclose(
        found.per_user, list(looped(scores, labels, users).values()), rtol=0, atol=1e-12
    )
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_constant_labels_have_no_auc():
    scores = np.array([0.1, 0.2])
    for labels in (np.zeros(2), np.ones(2)):
        assert np.isnan(auc(scores, labels))
        assert np.isnan(user_auc(scores, labels, np.array([0, 0])).mean())


def test_a_score_that_is_no_number_is_told_with_its_row():
    with pytest.raises(CounterpointError, match="Row 1: the score is not a number"):
        auc(np.array([0.5, np.nan]), np.array([0, 1]))


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 scores, 1 labels and 2 users do not fit"):
        user_auc(np.zeros(2), np.zeros(1), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="-1 is no such number"):
        user_auc(np.zeros(2), np.zeros(2), np.array([-1, 4]))
    with pytest.raises(ValueError, match="impressions, positives, uniform, not 'rows'"):
        user_auc(np.zeros(2), np.array([0, 1]), np.zeros(2, dtype=np.int64)).mean("rows")


def test_users_can_be_drawn_anew_for_an_interval():
    draw = np.random.default_rng(1)
    users, labels = draw.integers(0, 200, 4000), draw.random(4000) < 0.3
    better, worse = labels + draw.random(4000), labels + 2 * draw.random(4000)
    a, b = user_auc(better, labels, users), user_auc(worse, labels, users)
    interval = paired_bootstrap(a.per_user, b.per_user)
    assert interval.mean_difference == pytest.approx(a.mean("uniform") - b.mean("uniform"))
    assert interval.low > 0


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(0, 1, width=32)),
    st.randoms(use_true_random=False),
)
def test_log_loss_is_that_of_scikit_learn(probabilities, random):
    labels = np.array([random.random() < 0.5 for _ in probabilities])
    # scikit-learn warns of float32 columns that do not add up to 1 exactly.
    margin = float(np.finfo(np.float32).eps)
    expected = sklearn_log_loss(
        labels, np.clip(probabilities.astype(np.float64), margin, 1 - margin), labels=[False, True]
    )
    assert log_loss(probabilities, labels) == pytest.approx(expected, rel=1e-6)


def test_log_loss_by_hand():
    assert log_loss(np.array([0.8, 0.4]), np.array([1, 0])) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert log_loss(np.array([0.5, 0.5]), np.array([0, 0])) == pytest.approx(np.log(2))
    assert np.isnan(log_loss(np.empty(0), np.empty(0)))


def test_what_cannot_be_measured_never_raises():
    nothing = np.empty(0)
    assert np.isnan(grouped.auc(nothing, nothing))
    assert np.isnan(user_auc(nothing, nothing, nothing.astype(np.int64)).mean("uniform"))
