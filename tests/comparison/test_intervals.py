import math

import numpy as np
import pytest

from counterpoint.comparison.significance import intervals, paired_bootstrap
from counterpoint.metrics.evaluated import told


def test_what_was_not_measured_is_null():
    assert told({"auc": 0.5, "mrr": math.nan, "mae": 0.0}) == {"auc": 0.5, "mrr": None, "mae": 0.0}


def test_intervals_are_those_of_each_metric_alone():
    rng = np.random.default_rng(2)
    measured = {name: rng.random(300) ** power for name, power in (("auc", 1), ("mrr", 3))}
    for values in measured.values():
        values[::7] = np.nan
    for name, limits in intervals(measured).items():
        alone = paired_bootstrap(measured[name], np.zeros(300), resamples=1000)
        assert limits == pytest.approx((alone.low, alone.high), rel=1e-12)


def test_without_a_scored_unit_there_is_no_interval():
    assert intervals({"auc": np.full(4, np.nan), "mrr": np.full(4, np.nan)}) == {}
    assert intervals({"auc": np.array([])}) == {}
