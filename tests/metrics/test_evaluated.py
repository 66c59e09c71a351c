import math

import pytest

from counterpoint.metrics.evaluated import beats, by_task, floor_warnings, measured, overall, shown, told
from run_folders import evaluation

NAMES = ["auc", "loss", "like/auc", "click/auc", "like/loss", "category/accuracy"]


def test_a_model_above_all_floors_is_not_warned_about_though_below_the_optimum():
    assert floor_warnings(evaluation()) == []


def test_every_floor_that_is_not_beaten_is_named_with_its_numbers():
    assert floor_warnings(evaluation(auc=0.55)) == [
        "The model does not beat the popularity floor: auc 0.5500 against 0.5712.",
        "The model does not beat the content floor: auc 0.5500 against 0.6120.",
    ]


def test_several_lost_metrics_of_a_floor_share_a_sentence():
    lost = evaluation(metrics={"auc": 0.52, "mrr": 0.20}, floors={"recency": {"auc": 0.53, "mrr": 0.23}})
    assert floor_warnings(lost) == [
        "The model does not beat the recency floor: auc 0.5200 against 0.5300, mrr 0.2000 against 0.2300."
    ]


@pytest.mark.parametrize("value", [0.5, math.nan, None])
def test_equal_or_unmeasured_is_not_beaten(value):
    assert len(floor_warnings({"metrics": {"auc": value}, "floors": {"random": {"auc": 0.5}}})) == 1


def test_an_evaluation_without_floors_has_nothing_to_say():
    assert floor_warnings({"metrics": {"auc": 0.4}}) == []


@pytest.mark.parametrize("metric", ["ece", "loss", "mse", "rmse", "sentiment/mae", "like/loss"])
def test_errors_are_better_when_smaller(metric):
    assert beats(metric, 0.1, 0.2)
    assert not beats(metric, 0.2, 0.1)
    assert not beats(metric, 0.1, 0.1)


@pytest.mark.parametrize("metric", ["auc", "like/auc", "ndcg@10", "loss/auc", "mrr"])
def test_all_else_is_better_when_larger(metric):
    assert beats(metric, 0.2, 0.1)
    assert not beats(metric, 0.1, 0.2)
    assert not beats(metric, 0.1, 0.1)


def test_metrics_of_single_tasks_are_told_from_means_over_them():
    assert overall(NAMES) == ["auc", "loss", "category/accuracy"]
    assert by_task(NAMES) == {"auc": ["like/auc", "click/auc"], "loss": ["like/loss"]}


def test_a_floor_warns_of_the_means_alone():
    record = {
        "metrics": {"auc": 0.6, "like/auc": 0.5, "loss": 0.3},
        "floors": {"item rate": {"auc": 0.55, "like/auc": 0.7, "loss": 0.2}},
    }
    assert floor_warnings(record) == [
        "The model does not beat the item rate floor: loss 0.3000 against 0.2000."
    ]


def test_what_could_not_be_measured_is_null_in_files_and_a_dash_in_tables():
    kept = told({"auc": math.nan, "mrr": 0.25})
    assert kept == {"auc": None, "mrr": 0.25}
    assert measured({"metrics": kept}) == {"mrr": 0.25}
    assert [shown(value) for value in (None, math.nan, 0.0, 0.61237)] == ["—", "—", "0.0000", "0.6124"]
