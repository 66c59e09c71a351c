"""A run of every workload: broken off and gone on with, judged again, moved, asked, and refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
import torch

import counterpoint
from contract.agreement import AGREES
from contract.conftest import Heard
from contract.errors import one_sentence
from counterpoint import api, workload
from counterpoint.capabilities import Question
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.runs.folder import Run

OF_THE_MOMENT = {
    "examples_per_second",
    "finished",
    "log_sizes",  # of lines with times in them
    "peak megabytes",
    "seconds",
    "seconds per step",
    "seconds_per_step",
    "started",
}
ABILITIES = {
    "recommend": lambda run, out: api.recommend(run, Question()),
    "submit": lambda run, out: api.submit(run, out=out / "prediction.zip"),
    "export": lambda run, out: api.export(run, out=out / "export"),
    "embed": lambda run, out: api.embed(run, out / "texts.txt", out=out / "vectors.npy"),
}
KILLED = """
import os, signal, sys
import counterpoint

recipe, data, out, step, *settings = sys.argv[1:]

def kill(label, done, total):
    if (label, done) == ("training", int(step)):
        os.kill(os.getpid(), signal.SIGKILL)

counterpoint.train(recipe, data=data, out=out, settings=settings, progress=kill)
"""


class BrokenOff(BaseException):
    """What happens to a training that nobody can foresee."""


def lasting(value):
    """Return what JSON holds without what depends on the moment."""
    if isinstance(value, dict):
        return {key: lasting(each) for key, each in value.items() if key not in OF_THE_MOMENT}
    return [lasting(each) for each in value] if isinstance(value, list) else value


def contents(folder):
    """Return all files of a run but for its evaluations, byte by byte; of JSON, what lasts."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_dir() or file.name.startswith("evaluation-"):
            continue
        name = str(file.relative_to(folder))
        if file.suffix == ".json":
            found[name] = lasting(json.loads(file.read_text(encoding="utf-8")))
        elif file.suffix == ".jsonl":
            lines = file.read_text(encoding="utf-8").splitlines()
            found[name] = [lasting(json.loads(line)) for line in lines]
        else:
            found[name] = file.read_bytes()
    return found


def assert_same_run(broken, whole):
    one, other = contents(broken), contents(whole)
    assert one.keys() == other.keys()
    for name, content in other.items():
        assert one[name] == content, name
    assert any(name.startswith("model/") and name.endswith(".safetensors") for name in other)
    assert len(other["balance.jsonl"]) > 6
    assert (broken / "balance.jsonl").read_bytes() == (whole / "balance.jsonl").read_bytes()


def breaking_off(at):
    def progress(label, done, total):
        if (label, done) == ("training", at):
            raise BrokenOff

    return progress


@contextmanager
def gone(*folders):
    """Take folders away for a while."""
    away = [folder.rename(folder.with_name(f"{folder.name}-away")) for folder in folders]
    try:
        yield
    finally:
        for folder, place in zip(folders, away, strict=True):
            place.rename(folder)


def test_training_tells_its_progress(training):
    assert training.heard.came_to_an_end(), training.heard.latest
    assert training.heard.latest["training"][0] > 6
    assert training.result.done


def test_broken_off_and_gone_on_with_it_is_the_same_run(train, run, tmp_path):
    with pytest.raises(BrokenOff):
        train(tmp_path / "run", progress=breaking_off(5))  # between two checkpoints
    assert not Run.open(tmp_path / "run").done
    torch.manual_seed(1_000_000)
    train(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", run)


@pytest.mark.slow
def test_killed_and_gone_on_with_it_is_the_same_run(case, settings, train, store, run, tmp_path):
    arguments = [case.recipe, store.path, tmp_path / "run", 5, *settings]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    train(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", run)


def test_a_finished_run_stays_as_it_is(train, run):
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    assert train(run, resume=True).done
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before
    with pytest.raises(UsageError) as caught:
        train(run)
    assert str(run) in one_sentence(caught.value)


def test_evaluated_again_it_is_the_same_to_the_byte(run, evaluation):
    files = [run / "evaluation-test.json", run / "evaluation-test.parquet"]
    before = [file.read_bytes() for file in files]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # whoever draws from it must not change what is measured
    random.seed(1)
    counterpoint.evaluate(run)
    assert [file.read_bytes() for file in files] == before
    assert "NaN" not in files[0].read_text(encoding="utf-8")


def test_evaluating_tells_its_progress_and_its_floors(evaluation):
    assert evaluation.heard.came_to_an_end(), evaluation.heard.latest
    record = evaluation.result
    assert record["trained"]
    assert record["floors"]
    for metrics in record["floors"].values():
        assert set(metrics) & set(record["metrics"])


def test_moved_with_its_store_it_scores_the_same(case, run, store, evaluation, tmp_path):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation-*"))
    shutil.copytree(store.path, tmp_path / "store")
    with gone(run, store.path):
        with pytest.raises(UsageError) as caught:
            counterpoint.evaluate(tmp_path / "run")
        assert str(store.path) in one_sentence(caught.value)
        record = counterpoint.evaluate(tmp_path / "run", data=tmp_path / "store")
    assert record.pop("data") == {**evaluation.result["data"], "store": str(tmp_path / "store")}
    assert record == {key: value for key, value in evaluation.result.items() if key != "data"}
    table = "evaluation-test.parquet"
    assert (tmp_path / "run" / table).read_bytes() == (run / table).read_bytes()


def test_raw_data_score_as_their_store_does(run, raw, evaluation, tmp_path):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation-*"))
    record = counterpoint.evaluate(tmp_path / "run", data=raw)
    assert record["metrics"] == evaluation.result["metrics"]
    assert record["data"]["fingerprint"] == evaluation.result["data"]["fingerprint"]


def test_what_it_answers_is_what_was_judged(case, run, raw, evaluation, tmp_path):
    AGREES[case.name](run, raw, evaluation.result, tmp_path)


def test_a_wrong_question_is_one_sentence(case, run):
    assert len(case.wrong) > 3
    for ask, message in case.wrong.values():
        with pytest.raises(CounterpointError) as caught:
            ask(run)
        assert message in one_sentence(caught.value)
        assert "--" not in str(caught.value)  # whoever calls from Python has no options


def test_everybody_is_recommended_something_and_told_of(case, run, tmp_path):
    if workload.find(case.name).capabilities.recommend is None:
        with pytest.raises(UsageError):
            api.recommend_all(run, out=tmp_path / "all.parquet")
        return
    heard = Heard()
    rows = api.recommend_all(run, out=tmp_path / "all.parquet", top=3, progress=heard)
    assert heard.came_to_an_end(), heard.latest
    table = pl.read_parquet(tmp_path / "all.parquet")
    assert len(table) == rows > 0
    whom, _, what, _ = table.columns[:4]
    assert table.group_by(whom).len()["len"].max() == 3
    assert table.select(whom, what).is_unique().all()
    scores = table.group_by(whom, maintain_order=True).agg(pl.col("score").sort(descending=True))
    assert scores["score"].explode().equals(table["score"])


def test_what_it_cannot_do_is_refused_in_one_way(case, run, tmp_path):
    def can(name, ability):
        return getattr(workload.find(name).capabilities, ability) is not None

    refused = [ability for ability in ABILITIES if not can(case.name, ability)]
    assert refused  # no workload does everything
    for ability in refused:
        with pytest.raises(UsageError) as caught:
            ABILITIES[ability](run, tmp_path)
        assert str(caught.value) == str(workload.refusal(run, case.name, ability))
        reason, _, remedy = one_sentence(caught.value).rpartition("; ")
        assert reason.startswith(f"{run}: a run of {case.name}, which ")
        assert [name for name in workload.names() if name in remedy] == [
            name for name in workload.names() if can(name, ability)
        ]
    assert not list(tmp_path.iterdir())
