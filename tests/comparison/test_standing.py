import io
import math

import pytest
from rich.console import Console

from counterpoint.comparison.standing import Kind, Row, Value, best, pooled, standing
from counterpoint.metrics.evaluated import OPTIMUM, beats, floor_warnings
from counterpoint.report.tables import terminal_table
from run_folders import evaluation


def printed(rows):
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system="standard")
    console.print(terminal_table(rows))
    return console.file.getvalue()


def test_a_model_above_all_floors_is_not_warned_about_though_below_the_optimum():
    assert floor_warnings(evaluation()) == []


def test_every_floor_that_is_not_beaten_is_named_with_its_numbers():
    assert floor_warnings(evaluation(auc=0.55)) == [
        "The model does not beat the popularity floor: auc 0.5500 against 0.5712.",
        "The model does not beat the content floor: auc 0.5500 against 0.6120.",
    ]


def test_several_lost_metrics_of_a_floor_share_a_sentence():
    measured = evaluation(metrics={"auc": 0.52, "mrr": 0.20}, floors={"recency": {"auc": 0.53, "mrr": 0.23}})
    assert floor_warnings(measured) == [
        "The model does not beat the recency floor: auc 0.5200 against 0.5300, mrr 0.2000 against 0.2300."
    ]


@pytest.mark.parametrize("value", [0.5, math.nan, None])
def test_equal_or_unmeasured_is_not_beaten(value):
    assert len(floor_warnings({"metrics": {"auc": value}, "floors": {"random": {"auc": 0.5}}})) == 1


def test_an_evaluation_without_floors_has_nothing_to_say():
    assert floor_warnings({"metrics": {"auc": 0.4}}) == []


def test_errors_are_better_when_smaller():
    assert beats("sentiment/mae", 0.1, 0.2)
    assert not beats("auc", 0.1, 0.2)


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


def test_the_terminal_shows_four_digits_red_losers_and_bold_winners():
    output = printed(standing({"mtrec": [evaluation(auc=0.55)]}))
    assert "\x1b[31m0.5500\x1b[0m" in output
    assert "\x1b[1m0.3310\x1b[0m" in output
    assert len([line for line in output.splitlines() if line.strip()]) == 2 + 6


def test_seeds_and_six_metrics_fit_the_narrowest_terminal():
    console = Console(file=io.StringIO(), width=80)
    console.print(terminal_table(standing({"mtrec": [evaluation(seed) for seed in range(3)]})))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["mtrec", "(3", "seeds)", *["0.6820", "0.3330", "0.3680", "0.4300", "0.8750", "0.7940"]] in lines
    assert ["±0.0020"] * 6 in lines
    assert lines[:2] == [["category/", "entities/"], ["auc", "mrr", "ndcg@5", "ndcg@10", "accuracy", "f1"]]
    assert ["optimum", "(simulated)", "0.7731", "0.4306", "0.4710", "0.5292"] in lines


def test_long_names_of_metrics_are_broken_and_no_number_is_cut():
    console = Console(file=io.StringIO(), width=80)
    names = ("overall", "paraphrase/accuracy", "paraphrase/f1", "sentiment/accuracy", "similarity/pearson")
    metrics = {name: 0.1111 * (place + 1) for place, name in enumerate((*names, "similarity/spearman"))}
    console.print(terminal_table(standing({"minbert-final-seed0": [{"split": "test", "metrics": metrics}]})))
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["paraph", "paraph", "senti", "simila", "simila"]
    assert lines[1].split() == ["rase/", "rase/", "ment/", "rity/", "rity/"]
    assert lines[3].split()[1:] == ["0.1111", "0.2222", "0.3333", "0.4444", "0.5555", "0.6666"]


def test_names_in_the_terminal_are_text_not_markup():
    rows = standing({"[red]x[/red]": [evaluation(seed) for seed in range(2)]})
    assert "[red]x[/red] (2 seeds)" in printed(rows)
