"""A format in somebody else's package works by its name, from files to metrics."""

import pytest

import counterpoint
from counterpoint.errors import CounterpointError
from counterpoint.sentences.data.store import Store
from sentences.simulated import sentiments, write_course

THEIRS = """
import polars as pl

from counterpoint.sentences.data.formats import Format


def barred(file, task, *, labelled, bad, progress):
    read = pl.read_csv(file, separator="|", has_header=False, new_columns=["id", "first", "label"])
    return read.select("id", "first", *([pl.col("label").cast(pl.Float64)] if labelled else []))


FORMAT = Format("barred", "bars between the fields", (".bars",), barred)
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "their_sentences.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    return "their_sentences:FORMAT"


def test_a_format_of_somebody_else_trains_and_is_evaluated(theirs, tmp_path, tiny_encoder):
    data = write_course(tmp_path / "data")  # other files of the same names, which it does not read
    for name, rows in (("train", sentiments(30, 8)), ("dev", sentiments(20, 9))):
        text = "".join("|".join(map(str, row)) + "\n" for row in rows)
        (data / f"ids-sst-{name}.bars").write_text(text)
    settings = [
        f"encoder.name={tiny_encoder}",
        'tasks=["sentiment"]',
        "data.max_tokens=24",
        "training.precision=fp32",
    ]
    own = counterpoint.prepare(data, recipe="minbert-final", settings=settings)
    run = counterpoint.train(
        "minbert-final", data=data, format=theirs, settings=settings, out=tmp_path / "run"
    )
    store = Store(run.path / run.facts["store"]["path"])
    assert store.path != own.path
    assert store.manifest["source"]["format"] == "barred"
    assert store.rows("sentiment", "test").ids.to_list() == [row[0] for row in sentiments(20, 9)]
    record = counterpoint.evaluate(run.path)
    assert record["counts"]["examples"] == 20
    assert 0 <= record["metrics"]["sentiment/accuracy"] <= 1


def test_what_is_no_format_is_refused(theirs, tmp_path, course, recipe):
    for name, problem in (("their_sentences:THEIRS", "cannot be imported"), ("their_sentences:pl", "is no")):
        with pytest.raises(CounterpointError, match=f"format: {name} {problem}"):
            counterpoint.prepare(
                course,
                recipe="minbert-final",
                settings=[f"encoder.name={recipe().encoder.name}"],
                format=name,
            )
