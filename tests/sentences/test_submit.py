"""Predictions in the course's form, from a zip or a folder, and what is wrong with files of them."""

import zipfile

import numpy as np
import pytest
import torch

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.sentences.data.layout import find
from counterpoint.sentences.data.prepare import prepare
from counterpoint.sentences.evaluate import evaluate
from counterpoint.sentences.model import fresh
from counterpoint.sentences.submit import read_predictions, write_submission
from counterpoint.workload import Preparation
from sentences.simulated import write_course


@pytest.fixture(scope="module")
def model(recipe):
    torch.manual_seed(0)
    return fresh(recipe()).eval()


def silent(label, done, total):
    pass


def test_a_file_for_each_task_and_split(model, recipe, store, tmp_path):
    out = tmp_path / "predictions"
    written = write_submission(model, recipe(), store, None, out, silent)
    assert sorted(file.name for file in out.iterdir()) == [
        "para-dev-output.csv",
        "sst-dev-output.csv",
        "sst-test-output.csv",
        "sts-dev-output.csv",
        "sts-test-output.csv",
    ]
    assert (written.split, written.units, written.unit) == ("test and unlabelled", 72 + 11, "answers")
    metrics = evaluate(model, recipe(), store, "test", with_floors=False).record["metrics"]
    assert written.metrics == pytest.approx(metrics, abs=1e-9)


def test_the_lines_are_the_courses(model, recipe, store, tmp_path):
    out = tmp_path / "predictions.zip"
    write_submission(model, recipe(), store, "test", out, silent)
    with zipfile.ZipFile(out) as archive:
        texts = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    assert set(texts) == {"para-dev-output.csv", "sst-dev-output.csv", "sts-dev-output.csv"}
    assert texts["sst-dev-output.csv"][0] == "id \t Predicted_Sentiment "
    assert texts["para-dev-output.csv"][0] == "id \t Predicted_Is_Paraphrase "
    assert texts["sts-dev-output.csv"][0] == "id \t Predicted_Similiary "
    assert [line.split(" , ")[0] for line in texts["sst-dev-output.csv"][1:]] == [
        f"s1-{n}" for n in range(24)
    ]
    assert {line.split(" , ")[1] for line in texts["sst-dev-output.csv"][1:]} <= {f"{n} " for n in range(5)}
    assert {line.split(" , ")[1] for line in texts["para-dev-output.csv"][1:]} <= {"0.0 ", "1.0 "}
    scores = [value for _, value in read_predictions(out, "sts-dev-output.csv")]
    assert len(scores) == 24
    assert np.std(scores) > 0


OWN = """
extends = "minbert-final"
tasks = ["tone", "entails", "same"]
[task.tone]
texts = ["text"]
label = "tone"
classes = 3
[task.entails]
texts = ["first", "second"]
label = "entails"
classes = 3
[task.same]
texts = ["first", "second"]
label = "same"
classes = 2
"""


def test_files_of_ones_own_tasks_are_called_as_the_splits_are(recipe, tokenizer, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "own.toml").write_text(OWN)
    own = recipe(name=tmp_path / "own.toml")
    rows = [f"A dog {number},The cat {number},{number % 3},{number % 2}" for number in range(9)]
    for split in ("train", "test", "unlabelled"):
        for name, header in (
            ("tone", "text,rest,tone,no"),
            ("entails", "first,second,entails,no"),
            ("same", "first,second,no,same"),
        ):
            (data / f"{name}-{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    store = prepare(find(data, own), tmp_path / "store", tokenizer, own, Preparation())
    out = tmp_path / "predictions"
    write_submission(fresh(own).eval(), own, store, None, out, silent)
    assert sorted(file.name for file in out.iterdir()) == sorted(
        f"{name}-{split}-output.csv"
        for name in ("tone", "entails", "same")
        for split in ("test", "unlabelled")
    )

    def written(name):
        lines = (out / f"{name}-unlabelled-output.csv").read_text().splitlines()[1:]
        return {line.split(" , ")[1] for line in lines}

    assert written("tone") <= {"0 ", "1 ", "2 "}
    assert written("entails") <= {"0 ", "1 ", "2 "}
    assert written("same") <= {"0.0 ", "1.0 "}


def test_rows_without_a_prediction_are_told_of(model, recipe, tokenizer, tmp_path):
    data = write_course(tmp_path / "data")
    with (data / "sts-test-student.csv").open("a") as file:
        file.write("90\tx\tOnly one side\t\n")
    with (data / "sts-train.csv").open("a") as file:
        file.write("90\tx\tOnly one side\t\t1.0\n")
    resolved = recipe()
    store = prepare(
        find(data, resolved), tmp_path / "store", tokenizer, resolved, Preparation(on_bad_row="skip")
    )
    written = write_submission(model, resolved, store, None, tmp_path / "out", silent)
    aside = store.path / "bad_rows.jsonl"
    assert list(written.notes) == [
        f"Malformed rows were set aside and have no answers: 1 of similarity; see {aside}."
    ]
    assert not write_submission(model, resolved, store, "test", tmp_path / "dev", silent).notes


def test_an_older_folder_of_predictions_is_replaced_and_nothing_else(model, recipe, store, tmp_path):
    out = tmp_path / "predictions"
    write_submission(model, recipe(), store, "test", out, silent)
    write_submission(model, recipe(), store, "test", out, silent)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="there is something else already"):
        write_submission(model, recipe(), store, "test", out, silent)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_split_without_rows_is_one_sentence(model, recipe, store, tmp_path):
    alone = recipe('tasks=["paraphrase"]')
    with pytest.raises(UsageError, match="no task has rows in the split 'unlabelled'; bring its file"):
        write_submission(model, alone, store, "unlabelled", tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()
    assert write_submission(fresh(alone), alone, store, None, tmp_path / "out", silent).split == "test"


def test_what_cannot_be_read_back_is_one_sentence(tmp_path):
    with pytest.raises(CounterpointError, match=r"no predictions sst-dev-output.csv in it"):
        read_predictions(tmp_path, "sst-dev-output.csv")
    (tmp_path / "sst-dev-output.csv").write_text("id \t Predicted_Sentiment \na , 1 \nb 2\n")
    with pytest.raises(CounterpointError, match="line 3: not an id, a comma and an answer"):
        read_predictions(tmp_path, "sst-dev-output.csv")
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(CounterpointError, match="no predictions"):
        read_predictions(tmp_path / "x.zip", "sst-dev-output.csv")
