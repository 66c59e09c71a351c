"""Metrics by example: their mean is the metric, their spread that of the metric over samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import confusion_matrix, f1_score

from counterpoint.metrics.agreement import accuracy, confusion, f1, pearson, spearman

VALUES = st.lists(st.integers(-3, 3), min_size=3, max_size=40)


def correlated(rows=400, seed=0):
    """Predictions that follow labels with ties, as similarities from 0 to 5 in fifths have them."""
    draw = np.random.default_rng(seed)
    wanted = np.round(draw.uniform(0, 5, rows) * 5) / 5
    return np.tanh(wanted - 2) + draw.normal(0, 0.8, rows), wanted


@pytest.mark.parametrize(("metric", "oracle"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr)])
def test_the_mean_over_examples_is_the_correlation(metric, oracle):
    predicted, wanted = correlated()
    assert metric(predicted, wanted).mean() == pytest.approx(oracle(predicted, wanted).statistic, abs=1e-12)


@given(VALUES, st.integers(0, 2**32 - 1))
def test_correlations_with_ties_are_those_of_scipy(values, seed):
    predicted = np.array(values, dtype=float)
    wanted = np.random.default_rng(seed).permutation(predicted)
    if len(set(values)) == 1:
        assert not pearson(predicted, wanted).any()
        assert not spearman(predicted, wanted).any()
        return
    for metric, oracle in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        assert metric(predicted, wanted).mean() == pytest.approx(
            oracle(predicted, wanted).statistic, abs=1e-9
        )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_f1_and_accuracy_are_those_of_scikit_learn(answers):
    predicted, labels = np.array(answers).T
    assert f1(predicted, labels).mean() == pytest.approx(f1_score(labels, predicted, zero_division=0.0))
    assert accuracy(predicted, labels).mean() == pytest.approx((predicted == labels).mean())


def resampled(metric, predicted, wanted, times=2000):
    """The metric of samples of the examples, drawn with replacement."""
    draw = np.random.default_rng(1)
    drawn = draw.integers(len(wanted), size=(times, len(wanted)))
    return np.array([metric(predicted[rows], wanted[rows]).mean() for rows in drawn])


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_the_spread_over_examples_is_that_of_resampled_correlations(metric):
    predicted, wanted = correlated()
    truth = resampled(metric, predicted, wanted)
    values = metric(predicted, wanted)
    assert values.std() / np.sqrt(len(values)) == pytest.approx(truth.std(), rel=0.05)
    by_mean = np.quantile(values.mean() + resampled_means(values), [0.025, 0.975])
    assert by_mean == pytest.approx(np.quantile(truth, [0.025, 0.975]), abs=0.01)


def resampled_means(values, times=2000):
    drawn = np.random.default_rng(1).integers(len(values), size=(times, len(values)))
    return values[drawn].mean(axis=1) - values.mean()


def test_the_spread_over_examples_is_that_of_resampled_f1():
    draw = np.random.default_rng(3)
    labels = draw.random(500) < 0.3
    predicted = np.where(draw.random(500) < 0.8, labels, ~labels)
    truth = resampled(f1, predicted, labels)
    values = f1(predicted, labels)
    assert values.std() / np.sqrt(500) == pytest.approx(truth.std(), rel=0.06)


def test_a_paired_difference_of_correlations_is_judged_as_by_resampling_pairs():
    predicted, wanted = correlated()
    better = predicted + 0.3 * wanted
    drawn = np.random.default_rng(1).integers(len(wanted), size=(2000, len(wanted)))
    truth = [
        pearson(better[rows], wanted[rows]).mean() - pearson(predicted[rows], wanted[rows]).mean()
        for rows in drawn
    ]
    differences = pearson(better, wanted) - pearson(predicted, wanted)
    assert differences.std() / np.sqrt(len(wanted)) == pytest.approx(np.std(truth), rel=0.06)


def test_confusions_are_counted_by_truth_and_answer():
    labels, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    assert confusion(predicted, labels, 4).tolist() == [
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 2, 0],
        [0, 0, 0, 0],
    ]
    expected = confusion_matrix(labels, predicted, labels=range(4))
    np.testing.assert_array_equal(confusion(predicted, labels, 4), expected)


def test_constants_correlate_with_nothing():
    wanted = np.arange(5.0)
    for constant in (np.zeros(5), np.full(5, 0.1), np.full(5, 1e9 / 3)):
        assert pearson(constant, wanted).tolist() == spearman(constant, wanted).tolist() == [0.0] * 5
