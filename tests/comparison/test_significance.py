import math

import numpy as np
import pytest
from scipy import stats

from counterpoint.comparison.significance import (
    Interval,
    SeedTest,
    bootstraps,
    holm,
    mean_and_spread,
    paired_bootstrap,
    paired_t_test,
)
from counterpoint.errors import CounterpointError


def test_the_interval_is_that_of_the_mean():
    rng = np.random.default_rng(0)
    b = rng.normal(size=2_000)
    a = b + rng.normal(loc=0.05, scale=0.5, size=2_000)
    result = paired_bootstrap(a, b)
    difference = a - b
    half = 1.96 * difference.std(ddof=1) / math.sqrt(2_000)
    assert result.mean_difference == pytest.approx(difference.mean())
    assert result.low == pytest.approx(difference.mean() - half, abs=0.003)
    assert result.high == pytest.approx(difference.mean() + half, abs=0.003)
    assert result.p_value == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, abs=0.003)


def test_pairing_sees_what_two_separate_samples_hide():
    rng = np.random.default_rng(1)
    hardness = rng.normal(scale=10, size=500)
    result = paired_bootstrap(hardness + 0.1 + rng.normal(scale=0.1, size=500), hardness)
    assert result.low > 0.08
    assert result.p_value == pytest.approx(2 / 2001)


def test_swapping_the_two_mirrors_the_result():
    rng = np.random.default_rng(2)
    a, b = rng.random(300), rng.random(300)
    forth, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert (back.mean_difference, back.low, back.high) == pytest.approx(
        (-forth.mean_difference, -forth.high, -forth.low)
    )
    assert back.p_value == forth.p_value


def test_impressions_unscored_by_either_are_dropped_from_both():
    a = np.array([1.0, np.nan, 3.0, 4.0])
    b = np.array([0.0, 1.0, np.nan, 3.0])
    assert paired_bootstrap(a, b) == Interval(1.0, 1.0, 1.0, pytest.approx(2 / 2001))


def test_no_difference_is_no_evidence():
    same = np.linspace(0, 1, 50)
    assert paired_bootstrap(same, same) == Interval(0.0, 0.0, 0.0, 1.0)


def test_the_seed_decides(monkeypatch):
    rng = np.random.default_rng(3)
    a, b = rng.random(100), rng.random(100)
    whole = paired_bootstrap(a, b, resamples=500, seed=7)
    assert whole == paired_bootstrap(a, b, resamples=500, seed=7)
    assert whole != paired_bootstrap(a, b, resamples=500, seed=8)
    monkeypatch.setattr("counterpoint.comparison.significance._DRAWS", 1_000)
    assert paired_bootstrap(a, b, resamples=500, seed=7) == pytest.approx(whole)


def test_coverage_is_near_95_percent():
    rng = np.random.default_rng(4)
    hits = 0
    for seed in range(200):
        a = rng.normal(loc=1.0, size=80)
        result = paired_bootstrap(a, np.zeros(80), resamples=300, seed=seed)
        hits += result.low <= 1.0 <= result.high
    assert 0.90 <= hits / 200 <= 0.985


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros(3), np.zeros(4), "cover 3 and 4 impressions"),
        (np.array([np.nan, 1.0]), np.array([1.0, np.nan]), "No impression is scored in both"),
    ],
)
def test_rankings_that_cannot_be_compared_are_refused(a, b, message):
    with pytest.raises(CounterpointError, match=message):
        paired_bootstrap(a, b)


def test_the_resamples_are_those_of_a_plain_loop():
    rng = np.random.default_rng(5)
    a, b = rng.random(40), rng.random(40)
    drawn = np.random.default_rng(3).integers(40, size=(300, 40), dtype=np.int32)
    means = [np.mean([(a - b)[place] for place in row]) for row in drawn]
    result = paired_bootstrap(a, b, resamples=300, seed=3)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    beyond = min(sum(mean <= 0 for mean in means), sum(mean >= 0 for mean in means))
    assert result.p_value == pytest.approx(2 * (1 + beyond) / 301)


def test_columns_are_judged_on_the_same_resamples():
    rng = np.random.default_rng(6)
    differences = rng.normal(size=(90, 3))
    differences[4, 1] = np.nan
    together = bootstraps(differences, resamples=200)
    scored = np.delete(differences, 4, axis=0)
    for column, interval in enumerate(together):
        assert interval == pytest.approx(paired_bootstrap(scored[:, column], np.zeros(89), resamples=200))


def test_the_t_test_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, t = 2 √3.
    result = paired_t_test([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert result.mean_difference == 2
    assert result.t == pytest.approx(2 * math.sqrt(3))
    assert result.p_value == pytest.approx(1 - math.sqrt(12 / 14))  # for two degrees: 1 − t / √(t² + 2)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 6, 9, 20])
@pytest.mark.parametrize("gain", [0.0, 0.4, -2.0])
def test_the_t_test_equals_scipys(seeds, gain):
    rng = np.random.default_rng(seeds)
    a, b = rng.normal(loc=gain, size=seeds), rng.normal(size=seeds)
    oracle = stats.ttest_rel(a, b)
    assert paired_t_test(a, b) == pytest.approx(
        SeedTest(float((a - b).mean()), oracle.statistic, oracle.pvalue), abs=1e-12
    )


def test_a_single_seed_or_one_without_a_metric_is_no_test():
    assert paired_t_test([0.7], [0.6]) is None
    assert paired_t_test([0.7, math.nan], [0.6, 0.6]) is None


def test_differences_without_spread():
    assert paired_t_test([0.5, 0.7], [0.5, 0.7]) == SeedTest(0.0, 0.0, 1.0)
    assert paired_t_test([1.5, 2.5], [1.0, 2.0]) == SeedTest(0.5, math.inf, 0.0)
    assert paired_t_test([1.0, 2.0], [1.5, 2.5]) == SeedTest(-0.5, -math.inf, 0.0)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_mean_and_spread_over_seeds():
    assert mean_and_spread([0.66, 0.68, 0.70]) == pytest.approx((0.68, 0.02))
    mean, spread = mean_and_spread([0.5])
    assert mean == 0.5
    assert math.isnan(spread)
    with pytest.raises(ValueError, match="No values"):
        mean_and_spread([])
