import tomllib

import pytest

from counterpoint.api import read_recipe
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.runs.folder import Run
from counterpoint.storage.files import read_json, write_json


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "runs" / "mine", read_recipe("mtrec"), {"path": "store", "manifest": {}})


def test_a_run_says_what_it_was_told(run):
    facts = read_json(run.path / "run.json")
    assert (facts["format"], facts["status"], facts["name"], facts["seed"]) == (2, "training", "mtrec", 0)
    assert facts["versions"]["torch"]
    assert tomllib.loads((run.path / "recipe.toml").read_text())["training"]["batch_size"] == 16
    opened = Run.open(run.path)
    assert opened.recipe_table() == run.recipe_table()
    assert not opened.done


def test_a_finished_run_is_done(run):
    run.finish(parameters=12)
    assert Run.open(run.path).done
    assert run.facts["parameters"] == 12
    assert run.facts["name"] == "mtrec"


def test_a_folder_in_use_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="choose another --out, or continue it with --resume"):
        Run.create(run.path, read_recipe("mtrec"), {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="there is something already"):
        Run.refuse_used(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    Run.refuse_used(tmp_path / "empty")
    Run.refuse_used(tmp_path / "nowhere")


def test_a_run_of_another_version_is_refused(run):
    write_json(run.path / "run.json", {**run.facts, "format": 7})
    with pytest.raises(
        CounterpointError, match="a run of version 7, this program reads version 2; train again"
    ):
        Run.open(run.path)


def test_what_is_no_run_or_has_no_model_yet(run, tmp_path):
    with pytest.raises(UsageError, match="not a run folder; give the folder that counterpoint train wrote"):
        Run.open(tmp_path)
    with pytest.raises(CounterpointError, match="no model yet; continue the training with --resume"):
        _ = run.model


@pytest.mark.parametrize("content", [None, "x = = 1"])
def test_a_broken_recipe_in_a_run(content, run):
    (run.path / "recipe.toml").unlink()
    if content is not None:
        (run.path / "recipe.toml").write_text(content)
    with pytest.raises(CounterpointError, match=r"recipe.toml: cannot be read"):
        run.recipe_table()
