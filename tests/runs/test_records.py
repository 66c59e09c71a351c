import json

import numpy as np
import polars as pl
import pytest

from counterpoint.errors import CounterpointError
from counterpoint.metrics.evaluated import Evaluated
from counterpoint.runs.records import grouped, read_per_unit, read_run, write_evaluation
from run_folders import evaluation, write_run


def test_the_metrics_of_every_impression_are_kept(tmp_path):
    auc, chance = np.array([0.5, np.nan, 1.0]), np.array([0.25, np.nan, 0.75])
    evaluated = Evaluated.of(
        {"split": "test", "metrics": {"auc": 0.75}}, {"auc": auc}, {"random": {"auc": chance}}
    )
    write_evaluation(tmp_path, evaluated)
    table = pl.read_parquet(tmp_path / "evaluation-test.parquet")
    assert table.columns == ["unit", "auc", "floor/random/auc"]
    assert table["unit"].to_list() == [0, 1, 2]
    assert table["auc"].to_list() == [0.5, None, 1.0]
    read = read_per_unit(tmp_path, "test")
    np.testing.assert_array_equal(read["auc"], auc)
    np.testing.assert_array_equal(read["floor/random/auc"], chance)
    assert read_run(tmp_path).evaluations["test"]["metrics"] == {"auc": 0.75}


def test_impressions_that_were_not_kept_are_one_sentence(run):
    with pytest.raises(
        CounterpointError, match=r"evaluation-test.parquet: missing or cut short .*run counterpoint evaluate"
    ) as caught:
        read_per_unit(run, "test")
    assert "\n" not in str(caught.value)
    (run / "evaluation-test.parquet").write_bytes(b"PAR1")
    with pytest.raises(CounterpointError, match="missing or cut short"):
        read_per_unit(run, "test")


def test_logs_become_columns(run):
    read = read_run(run)
    assert (read.name, read.seed) == ("mtrec", 0)
    assert read.balance["cosines"]["click|category+entities"].steps.tolist() == list(range(1, 61))
    assert read.training["losses"]["click"].steps.tolist() == [10, 20, 30, 40, 50, 60]
    assert read.training["learning_rate"][""].values[-1] == 0
    assert read.training["validation"]["auc"].values[-1] == pytest.approx(0.68)
    assert read.evaluations["test"]["counts"]["impressions"] == 73152


def test_a_step_logged_again_after_a_resume_counts_once(run):
    lines = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 2.5), (30, 3.5)]
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "losses": {"click": loss}}) + "\n" for step, loss in lines)
    )
    series = read_run(run).training["losses"]["click"]
    assert (series.steps.tolist(), series.values.tolist()) == ([10, 20, 30], [1.0, 2.5, 3.5])


def test_values_that_are_no_numbers_are_left_out(run):
    (run / "balance.jsonl").write_text(
        '{"step": 1, "norms": {"click": NaN, "entities": null}, "note": "x"}\n'
        '{"step": 2, "norms": {"click": 0.5, "entities": null}}\n'
    )
    norms = read_run(run).balance["norms"]
    assert norms["click"].steps.tolist() == [2]
    assert "entities" not in norms


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", '{"step": 1}\n{"step": 2, "los', r"metrics\.jsonl, line 2: not valid JSON"),
        ("balance.jsonl", "3\n", r"balance\.jsonl, line 1: not a JSON object"),
        ("run.json", "{", r"run\.json: not valid JSON"),
        ("recipe.toml", "name = ", r"recipe\.toml: not valid TOML"),
        (
            "evaluation-test.json",
            '{"metrics": {"auc": "high"}}',
            r"evaluation-test\.json, field metrics\.auc: ",
        ),
        ("evaluation-test.json", "[]", r"evaluation-test\.json, field the whole: "),
        ("run.json", "3", r"run\.json, field the whole: "),
    ],
)
def test_a_broken_file_is_one_sentence(run, file, content, message):
    (run / file).write_text(content)
    with pytest.raises(CounterpointError, match=message) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "missing", ["recipe.toml", "run.json", "metrics.jsonl", "balance.jsonl", "evaluation-test.json"]
)
def test_every_file_may_be_missing(run, missing):
    (run / missing).unlink()
    assert read_run(run).name == "mtrec"


def test_without_recipe_and_facts_the_folder_gives_the_name(run):
    (run / "recipe.toml").unlink()
    (run / "run.json").unlink()
    read = read_run(run)
    assert (read.name, read.seed) == ("first", None)


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(CounterpointError, match="not the folder of a run"):
        read_run(tmp_path)
    with pytest.raises(CounterpointError, match="not the folder of a run"):
        read_run(tmp_path / "nowhere")


def test_evaluations_of_several_splits_are_kept_apart(run):
    (run / "evaluation-validation.json").write_text(json.dumps(evaluation(split="validation", auc=0.1)))
    read = read_run(run)
    assert set(read.evaluations) == {"test", "validation"}
    assert read.evaluations["test"]["metrics"]["auc"] == 0.68
    assert read.evaluations["validation"]["metrics"]["auc"] == 0.1


def test_seeds_of_one_recipe_form_a_group(tmp_path):
    runs = [read_run(write_run(tmp_path / f"m{seed}", seed=seed, steps=12)) for seed in range(3)]
    other = read_run(write_run(tmp_path / "other", name="bert", method="single", steps=12))
    assert [(group.label, len(group.runs)) for group in grouped([*runs, other])] == [
        ("mtrec", 3),
        ("bert", 1),
    ]


def test_one_name_with_another_setting_is_another_group(tmp_path):
    first = read_run(write_run(tmp_path / "a", steps=12))
    changed = read_run(write_run(tmp_path / "b", method="pcgrad", seed=1, steps=12))
    labels = [group.label for group in grouped([first, changed])]
    assert labels == [f"mtrec ({tmp_path / 'a'})", f"mtrec ({tmp_path / 'b'})"]


def test_one_seed_twice_is_not_two_seeds(tmp_path):
    runs = [read_run(write_run(tmp_path / name, steps=12)) for name in ("a", "b")]
    assert [len(group.runs) for group in grouped(runs)] == [1, 1]
