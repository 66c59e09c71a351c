import math

import pytest

from counterpoint.comparison.standing import Kind, Row, Value, best, pooled, standing
from counterpoint.metrics.evaluated import OPTIMUM
from run_folders import evaluation


def test_models_come_first_then_floors_then_the_optimum():
    floors = evaluation()["floors"]
    reordered = {OPTIMUM: floors[OPTIMUM], **floors}
    rows = standing({"a": [evaluation(floors=reordered)], "b": [evaluation(1)]})
    assert [row.name for row in rows] == ["a", "b", "random", "popularity", "recency", "content", OPTIMUM]
    assert [row.kind for row in rows] == [Kind.MODEL] * 2 + [Kind.FLOOR] * 4 + [Kind.OPTIMUM]


def test_seeds_become_mean_and_sample_deviation():
    (model, *floors) = standing({"mtrec": [evaluation(seed) for seed in range(3)]})
    assert model.seeds == 3
    assert (model.values["auc"].mean, model.values["auc"].spread) == pytest.approx((0.682, 0.002))
    assert model.values["auc"].limits is None
    # The floors are the same for all seeds: no spread to speak of.
    assert str(floors[0].values["auc"]) == "0.5003"


def test_a_floor_that_depends_on_the_seed_is_averaged():
    seeds = [evaluation(seed, floors={"random": {"auc": 0.49 + 0.01 * seed}}) for seed in range(3)]
    floor = standing({"mtrec": seeds})[-1]
    assert str(floor.values["auc"]) == "0.5000 ± 0.0100"


def test_one_run_keeps_its_interval():
    (model, *_) = standing({"mtrec": [evaluation()]})
    assert model.values["auc"].limits == pytest.approx((0.677, 0.683))
    assert model.values["mrr"].limits is None


def test_lost_metrics_are_those_below_any_floor():
    (model, *_) = standing({"mtrec": [evaluation(auc=0.55)]})
    assert model.lost == {"auc"}


def test_pooling_counts_only_the_runs_that_measured():
    values = pooled([{"auc": 0.6}, {"auc": 0.7, "mrr": 0.3}, {}])
    assert (values["auc"].mean, values["mrr"].mean) == pytest.approx((0.65, 0.3))
    assert math.isnan(values["mrr"].spread)


def test_the_best_is_no_optimum_and_needs_a_rival():
    rows = standing({"a": [evaluation(auc=0.60)]})
    assert best(rows, "auc").name == "content"
    assert best(rows, "mrr").name == "a"
    assert best(rows, "category/accuracy") is None


def test_the_smallest_error_is_the_best():
    rows = [Row(name, Kind.MODEL, {"x/rmse": Value(value)}) for name, value in (("a", 0.3), ("b", 0.2))]
    assert best(rows, "x/rmse").name == "b"


def test_unmeasured_values_are_dashes():
    assert str(Value(math.nan)) == "—"
