"""What several tasks of one rank add to tables and reports: parts of means, gains over separate networks."""

import json
import re

import numpy as np
import pytest

from counterpoint.comparison.judgement import compare_groups
from counterpoint.comparison.standing import standing
from counterpoint.metrics.evaluated import Evaluated
from counterpoint.reporting import side_by_side
from counterpoint.reporting import training_figures as lines
from counterpoint.reporting.document import write_report
from counterpoint.reporting.figures import calibration
from counterpoint.reporting.gradients import conflicts, hurt_grid, pair_grid
from counterpoint.reporting.tables import terminal_table
from counterpoint.runs.records import grouped, read_run, write_evaluation
from counterpoint.storage.files import read_json, write_json
from run_folders import write_run

CURVE = {"predicted": [0.1, 0.5, 0.9], "observed": [0.15, 0.4, 1.0], "rows": [5, 5, 5]}


def many_tasks(folder, name, values, *, seed=0, separate=False, floors=None):
    """Write a run whose AUC of two tasks is known for each of 40 users."""
    write_run(folder, name=name, seed=seed, steps=12)
    (folder / "evaluation-test.json").unlink()
    like, click = values
    per_unit = {"auc": (like + click) / 2, "like/auc": like, "click/auc": click}
    record = {
        "split": "test",
        "unit": "users",
        "metrics": {metric: float(each.mean()) for metric, each in per_unit.items()},
        "floors": floors or {"global rate": {"auc": 0.5, "like/auc": 0.5, "click/auc": 0.5}},
        "calibration": {"like": CURVE},
        "counts": {"users": 40},
        "warnings": [],
    }
    write_evaluation(folder, Evaluated.of(record, per_unit, {}))
    write_json(folder / "run.json", {**read_json(folder / "run.json"), "separate": separate})
    return folder


@pytest.fixture
def values():
    draw = np.random.default_rng(0)
    single = draw.uniform(0.6, 0.9, size=40), draw.uniform(0.5, 0.7, size=40)
    gains = [draw.normal(0.02, 0.01, size=(2, 40)) for _ in range(2)]
    return single, [(single[0] + gain[0], single[1] - gain[1]) for gain in gains]


@pytest.fixture
def compared(tmp_path, values):
    single, several = values
    runs = [
        *(many_tasks(tmp_path / f"s{seed}", "single", single, seed=seed, separate=True) for seed in (0, 1)),
        *(many_tasks(tmp_path / f"g{seed}", "gradcraft", several[seed], seed=seed) for seed in (0, 1)),
    ]
    return compare_groups(grouped([read_run(folder) for folder in runs]), baseline="single")


def test_the_relative_improvement_is_that_of_the_tasks_over_their_own_networks(compared, values):
    single, several = values
    (found,) = compared.improvements
    assert (found.label, found.against) == ("gradcraft", "single")
    by_seed = [
        np.mean(
            [(ours.mean() - theirs.mean()) / theirs.mean() for ours, theirs in zip(seed, single, strict=True)]
        )
        for seed in several
    ]
    gain = found.gains["auc"]
    assert gain.interval.mean_difference == pytest.approx(np.mean(by_seed))
    assert gain.spread == pytest.approx(np.std(by_seed, ddof=1))
    assert gain.interval.low < gain.interval.mean_difference < gain.interval.high
    told = json.loads(json.dumps(compared.as_dict()))["relative improvement"]
    assert told[0]["gains"]["auc"]["sd"] == pytest.approx(gain.spread)


def test_the_tables_show_means_then_tasks_then_improvements(compared):
    assert list(side_by_side.results(compared).header) == ["auc"]
    (tasks,) = side_by_side.task_by_task(compared)
    assert (tasks.title, list(tasks.header)) == ("Task by task, auc", ["like", "click"])
    assert [name for name, _, _ in tasks.rows] == ["single", "gradcraft", "floor: global rate"]
    grid = side_by_side.improvements(compared)
    assert list(grid.header) == ["RI of auc", "95 % interval"]
    ((name, cells, alarming),) = grid.rows
    assert name == "gradcraft"
    assert re.fullmatch(r"[+-]\d\.\d\d ± \d\.\d\d %", cells[0])
    assert re.fullmatch(r"[+-]\d\.\d\d to [+-]\d\.\d\d %", cells[1])
    assert alarming <= {0}


def test_without_separate_networks_of_the_same_tasks_there_is_no_improvement(tmp_path, values):
    single, several = values
    runs = [
        many_tasks(tmp_path / name, name, each) for name, each in zip("ab", (single, several[0]), strict=True)
    ]
    found = compare_groups(grouped([read_run(folder) for folder in runs]))
    assert found.improvements == []
    assert side_by_side.improvements(found) is None


def test_separate_networks_of_other_tasks_are_no_measure(tmp_path, values):
    single, several = values
    first = many_tasks(tmp_path / "s", "single", single, separate=True)
    record = read_json(first / "evaluation-test.json")
    kept = {"auc": single[0], "like/auc": single[0]}
    record["metrics"] = {metric: float(each.mean()) for metric, each in kept.items()}
    write_evaluation(first, Evaluated.of(record, kept, {}))
    second = many_tasks(tmp_path / "g", "gradcraft", several[0])
    found = compare_groups(grouped([read_run(folder) for folder in (first, second)]))
    assert found.improvements == []


def log_of(folder, steps):
    """Write a log of three tasks whose gradients and effects are given step by step."""
    with (folder / "balance.jsonl").open("w") as file:
        for step, (cosines, effects) in enumerate(steps, 1):
            pairs = dict(zip(("a|b", "a|c", "b|c"), cosines, strict=True))
            named = dict(zip("abc", effects, strict=True))
            file.write(json.dumps({"step": step, "cosines": pairs, "effects": named}) + "\n")
        merged = {"step": 99, "cosines": {}, "effects": {"a+b+c": -1.0}}
        file.write(json.dumps(merged) + "\n")


def test_conflicts_and_tasks_hurt_are_shares_of_the_steps_that_looked_apart(tmp_path):
    write_run(tmp_path / "run", name="gradcraft", steps=12)
    log_of(
        tmp_path / "run",
        [
            ((-0.1, 0.2, 0.3), (1.0, -0.1, 0.2)),
            ((-0.2, -0.2, 0.3), (1.0, 0.1, 0.2)),
            ((0.1, 0.2, 0.3), (1.0, -0.3, -0.2)),
            ((-0.5, 0.2, 0.0), (1.0, -0.1, 0.2)),
        ],
    )
    run = read_run(tmp_path / "run")
    found = conflicts(run)
    assert found.pairs == {("a", "b"): 0.75, ("a", "c"): 0.25, ("b", "c"): 0.0}
    assert found.hurt == {"a": 0.0, "b": 0.75, "c": 0.25}
    groups = grouped([run])
    grid = hurt_grid(groups)
    assert (list(grid.header), grid.rows[0][1]) == (["a", "b", "c"], ["0.0%", "75.0%", "25.0%"])
    pairs = pair_grid(groups[0])
    assert [cells for _, cells, _ in pairs.rows] == [
        ["—", "75.0%", "25.0%"],
        ["75.0%", "—", "0.0%"],
        ["25.0%", "0.0%", "—"],
    ]


def test_networks_that_share_nothing_have_no_conflicts(tmp_path):
    write_run(tmp_path / "run", name="single", steps=12)
    log_of(tmp_path / "run", [((-0.1, 0.2, 0.3), (1.0, -0.1, 0.2))])
    write_json(tmp_path / "run" / "run.json", {**read_json(tmp_path / "run" / "run.json"), "separate": True})
    run = read_run(tmp_path / "run")
    assert conflicts(run).pairs == conflicts(run).hurt == {}
    assert hurt_grid(grouped([run])) is None


def test_a_calibration_chart_has_a_line_for_each_recipe_and_the_one_where_they_agree():
    figure = calibration("like", {"gradcraft": CURVE, "single": CURVE})
    assert figure.legend == ["gradcraft", "single"]
    assert figure.svg.count("stroke-dasharray") == 1
    assert "predicted" in figure.svg
    alone = calibration("like", {"gradcraft": {"predicted": [], "observed": [], "rows": []}})
    assert alone.legend == ()


def test_charts_of_calibration_are_those_of_the_first_seed(tmp_path, values):
    _, several = values
    runs = [
        read_run(many_tasks(tmp_path / f"g{seed}", "gradcraft", several[seed], seed=seed)) for seed in (0, 1)
    ]
    drawn = lines.calibrations({"gradcraft": [run.evaluations["test"] for run in runs]})
    assert [figure.title for figure in drawn] == ["like"]


@pytest.mark.usefixtures("undrawn")
def test_the_report_has_all_of_it(tmp_path, values):
    single, several = values
    folders = [
        many_tasks(tmp_path / "s", "single", single, separate=True),
        many_tasks(tmp_path / "g", "gradcraft", several[0]),
    ]
    log_of(folders[1], [((-0.1, 0.2, 0.3), (1.0, -0.1, 0.2))])
    page = write_report(folders, tmp_path / "report.html").read_text()
    for title in (
        "Task by task, auc, test",
        "Relative improvement over separate networks",
        "Calibration, test",
        "Tasks hurt by the merged update",
    ):
        assert f">{title}<" in page
    results = page[page.index(">Results, test<") : page.index(">Task by task, auc, test<")]
    assert "like/auc" not in results


def test_the_terminal_shows_the_columns_asked_for():
    record = {"metrics": {"auc": 0.6, "long_view/auc": 0.7}, "floors": {}}
    table = terminal_table(standing({"run": [record]}), ["long_view/auc"])
    assert [str(column.header) for column in table.columns] == ["", "long_\nview/\nauc"]
