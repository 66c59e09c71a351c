import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from counterpoint.metrics.calibration import calibration


@pytest.mark.parametrize(("spacing", "strategy"), [("quantiles", "quantile"), ("even", "uniform")])
@pytest.mark.parametrize("rare", [0.02, 0.4])
def test_the_calibration_curve_is_that_of_scikit_learn(spacing, strategy, rare):
    draw = np.random.default_rng(2)
    probabilities = draw.beta(1, 1 / rare, 3000).round(3)
    labels = draw.random(3000) < probabilities**1.2
    found = calibration(probabilities, labels, bins=10, spacing=spacing)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found.rows.sum() == 3000
    assert found.error == pytest.approx(np.abs(observed - predicted) @ found.rows / 3000)


def test_the_calibration_error_by_hand():
    found = calibration(np.array([0.1, 0.3, 0.9]), np.array([0, 1, 1]), bins=2, spacing="even")
    np.testing.assert_allclose(found.predicted, [0.2, 0.9])
    np.testing.assert_allclose(found.observed, [0.5, 1.0])
    assert found.rows.tolist() == [2, 1]
    assert found.error == pytest.approx((2 * 0.3 + 1 * 0.1) / 3)
    assert np.isnan(calibration(np.empty(0), np.empty(0)).error)


def test_probabilities_that_are_all_the_same_make_one_bin():
    found = calibration(np.full(9, 0.25, dtype=np.float32), np.arange(9) < 3)
    assert found.rows.tolist() == [9]
    assert found.error == pytest.approx(1 / 3 - 1 / 4)
