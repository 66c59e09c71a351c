"""From a log over training to a file that others score the log's own values with."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from counterpoint.feedback.batches import FeedbackBatch
from counterpoint.opened_run import OpenedRun
from counterpoint.progress import silent

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SMALL = ("training.epochs=1", "training.batch_size=512", "network.experts=[8]", "network.towers=[8]")
SETTINGS = [part for setting in SMALL for part in ("--set", setting)]


@pytest.fixture(scope="module")
def log(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log") / "views"
    sizes = ("--users", 60, "--videos", 50, "--rows", 3000, "--tasks", 2)
    made = command("simulate", "feedback", *sizes, "--out", folder)
    assert made.code == 0, made.err
    return folder


def scored(folder, log):
    """Probabilities that the file gives for a log's values, encoded as the vocabulary beside it tells."""
    told = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    inputs = {
        f"ids/{name}": np.array([rows.get(str(value), told["unknown"]) for value in log[name]])
        for name, rows in told["ids"].items()
    }
    inputs |= {f"numbers/{name}": log[name].cast(pl.Float64).to_numpy() for name in told["numbers"]}
    for name, rows in told["lists"].items():
        lists = [
            [rows.get(str(value), told["unknown"]) for value in each or []] for each in log[name].to_list()
        ]
        longest = max(map(len, lists))
        inputs[f"lists/{name}"] = np.array(
            [each + [told["padding"]] * (longest - len(each)) for each in lists], dtype=np.int64
        )
    session = runtime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return told["labels"], session.run(["probabilities"], inputs)[0]


def predicted(run, log):
    """What the run's model says, its values encoded by what the training rows told."""
    model, store = OpenedRun(run).opened(None, silent)
    schema, fitted = model.schema, store.fitted
    rows = {
        name: {value: row for row, value in enumerate(ids.to_list(), 1)}
        for name, ids in fitted.vocabularies.items()
    }
    ids = [[rows[column.name].get(str(value), 0) for value in log[column.name]] for column in schema.ids]
    scales = [fitted.scales[name] for name in schema.numbers]
    numbers = [
        ((log[name] - scale.mean) / scale.spread).to_list()
        for name, scale in zip(schema.numbers, scales, strict=True)
    ]
    bags = []
    for column in schema.lists:
        lists = [
            [rows[column.name].get(str(value), 0) for value in each or []]
            for each in log[column.name].to_list()
        ]
        lengths = torch.tensor([len(each) for each in lists])
        values = torch.tensor([value for each in lists for value in each], dtype=torch.int64)
        bags.append((values, lengths.cumsum(0) - lengths))
    batch = FeedbackBatch(
        torch.tensor(ids).T, torch.tensor(numbers).T, tuple(bags), torch.zeros(len(log), len(schema.labels))
    )
    with torch.no_grad():
        return list(schema.labels), model.logits(batch).sigmoid().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["gradcraft", "feedback-single"])
def test_the_exported_file_scores_the_logs_own_values_as_the_run_does(recipe, command, log, tmp_path):
    run, out = tmp_path / "run", tmp_path / "onnx"
    trained = command("train", recipe, "--data", log, "--out", run, *SETTINGS)
    assert trained.code == 0, trained.err
    exported = command("export", run, "--out", out)
    assert exported.code == 0, exported.err
    assert exported.out.startswith("         512  rows scored by both, probabilities equal to ")
    rows = pl.read_parquet(log / "simulated-views.parquet").head(200)
    rows[0, "user"] = "nobody"
    labels, found = scored(out, rows)
    wanted, expected = predicted(run, rows)
    assert labels == wanted
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    again = command("export", run, "--out", run)
    assert again.code == 2
    assert "there is something else already; choose another place" in again.err
