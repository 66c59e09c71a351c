"""The sentences workload through the commands, from the course's files to vectors of sentences."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

import counterpoint
from counterpoint.errors import UsageError
from counterpoint.runs.recipe import to_toml
from sentences.simulated import write_course

SETTINGS = [
    "data.max_tokens=24",
    "training.batch_size=8",
    "training.epochs=2",
    "training.precision=fp32",
    "training.learning_rate=1e-3",
    "training.checkpoint_every=4",
]


@pytest.fixture(scope="module")
def options(tiny_encoder):
    settings = [f"encoder.name={tiny_encoder}", *SETTINGS]
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return write_course(tmp_path_factory.mktemp("course") / "data")


@pytest.fixture(scope="module")
def trained(command, course, options, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "final"
    done = command("train", "minbert-final", "--data", course, "--out", run, "--seed", 1, *options)
    assert done.code == 0, done.err
    return run


def test_a_store_is_prepared_and_counted(command, course, options, tmp_path):
    told = command("prepare", course, "--recipe", "minbert-final", "--out", tmp_path / "store", *options)
    assert told.code == 0, told.err
    assert "96  train rows of paraphrase" not in told.out
    assert "86  train rows of paraphrase" in told.out
    assert "0  sentences cut" in told.out
    assert "a random 10% of each task's training rows validates" in told.err


def test_a_run_tells_its_numbers_beside_the_floors(command, trained, tmp_path):
    told = command("evaluate", trained, "--json", tmp_path / "result.json")
    assert told.code == 0, told.err
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["unit"] == "examples"
    assert result["data"]["simulated"] is None
    assert {"overall", "sentiment/accuracy", "paraphrase/f1", "similarity/spearman"} <= set(result["metrics"])
    assert set(result["floors"]) == {"majority", "word overlap", "untrained encoder"}
    by_unit = pl.read_parquet(trained / "evaluation-test.parquet")
    assert len(by_unit) == result["counts"]["examples"] == 72
    assert by_unit["similarity/pearson"].mean() == pytest.approx(result["metrics"]["similarity/pearson"])
    page = command("report", trained, "--out", tmp_path / "report.html")
    assert page.code == 0, page.err
    written = (tmp_path / "report.html").read_text()
    assert "Confusions, test" in written
    assert "Most missed, test" in written
    assert result["missed"]["similarity"][0]["texts"][0] in written


def test_the_run_learns_and_notes_what_it_did(trained):
    facts = json.loads((trained / "run.json").read_text())
    assert facts["target"] == "sentiment"
    lines = [json.loads(line) for line in (trained / "balance.jsonl").read_text().splitlines()]
    assert len(lines) == 22  # two epochs over the largest task's 86 rows
    assert all(set(line["losses"]) == {"sentiment", "paraphrase", "similarity"} for line in lines)
    assert "sentiment|paraphrase" in lines[0]["cosines"]
    metrics = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    seen = [line["validation"]["overall"] for line in metrics if "validation" in line]
    assert len(seen) == 2
    assert facts["best"] == pytest.approx(max(seen))


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(
    command, course, options, trained, tmp_path, monkeypatch
):
    from counterpoint.training import loop

    run, step = tmp_path / "run", loop._Loop._step

    def interrupted(self):
        if self.state.step == 14:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(loop._Loop, "_step", interrupted)
    arguments = ("train", "minbert-final", "--data", course, "--out", run)
    assert command(*arguments, "--seed", 1, *options).code == 1
    monkeypatch.undo()
    assert command(*arguments, "--resume").code == 0
    ours, theirs = ((place / "model" / "model.safetensors").read_bytes() for place in (run, trained))
    assert ours == theirs


def test_predictions_are_written_and_read_back(command, trained, tmp_path):
    told = command("submit", trained, "--out", tmp_path / "predictions")
    assert told.code == 0, told.err
    assert "83  answers of split test and unlabelled, read back and equal" in told.out
    assert len(list((tmp_path / "predictions").iterdir())) == 5


def test_sentences_become_vectors(command, trained, tmp_path):
    sentences = ["The dog sees the cat", "A good plot .", "The dog sees the boat"]
    (tmp_path / "mine.txt").write_text("\n".join(sentences) + "\n")
    (tmp_path / "mine.csv").write_text("title\n" + "\n".join(sentences) + "\n")
    told = command("embed", trained, tmp_path / "mine.txt", "--out", tmp_path / "vectors.parquet")
    assert told.code == 0, told.err
    assert "written: 3 vectors" in told.err
    table = pl.read_parquet(tmp_path / "vectors.parquet")
    assert table["sentence"].to_list() == sentences
    arguments = ("embed", trained, tmp_path / "mine.csv", "--column", "title")
    assert command(*arguments, "--out", tmp_path / "vectors.npy").code == 0
    vectors = np.load(tmp_path / "vectors.npy")
    assert vectors.shape == (3, 32)
    np.testing.assert_array_equal(vectors, table["vector"].to_numpy())
    encoder = counterpoint.load(trained)
    np.testing.assert_allclose(encoder.embed(sentences[1:2])[0], vectors[1], rtol=1e-4, atol=1e-5)


def test_two_sentences_have_a_similarity(trained):
    encoder = counterpoint.load(trained)
    alike = encoder.similarity("The dog sees the cat", "The dog sees the cat")
    assert alike == pytest.approx(5.0, abs=1e-4)
    other = encoder.similarity("The dog sees the cat", "The king paints the river")
    assert 0 <= other < alike
    told = encoder.answers("paraphrase", ["The dog sees the cat"], ["The dog sees the cat"])
    assert told.values.tolist()[0] in (0.0, 1.0)
    assert 0.5 <= told.certainty[0] <= 1
    with pytest.raises(UsageError, match=r"no task is called 'paraphrases' \(did you mean 'paraphrase'\?\)"):
        encoder.answers("paraphrases", ["a"])
    with pytest.raises(
        UsageError, match="the task 'paraphrase' takes pairs, as many second sentences as first"
    ):
        encoder.answers("paraphrase", ["a"])
    with pytest.raises(UsageError, match="the task 'sentiment' takes sentences alone"):
        encoder.answers("sentiment", ["a"], ["b"])
    with pytest.raises(UsageError, match="sentence 2 is empty; leave it out"):
        encoder.embed(["a", " "])


def test_a_run_answers_from_its_folder_alone(command, trained, tmp_path):
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(trained, moved)
    facts = json.loads((moved / "run.json").read_text())
    facts["store"]["path"] = str(tmp_path / "gone")
    (moved / "run.json").write_text(json.dumps(facts))
    pair = ("The dog sees the cat", "The king paints the river")
    assert counterpoint.load(moved).similarity(*pair) == counterpoint.load(trained).similarity(*pair)
    (tmp_path / "mine.txt").write_text("\n".join(pair) + "\n")
    told = command("embed", moved, tmp_path / "mine.txt", "--out", tmp_path / "vectors.npy")
    assert told.code == 0, told.err
    assert told.err.splitlines() == [f"written: 2 vectors in {tmp_path / 'vectors.npy'}"]
    told = command("evaluate", moved)
    assert told.code == 2
    assert "its prepared store" in told.err


def test_vectors_of_long_sentences_say_so_and_a_file_without_any_is_refused(command, trained, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("sentence\nA good plot .\n" + "word " * 10_000 + "\n")
    told = command("embed", trained, file, "--out", tmp_path / "vectors.parquet")
    assert told.code == 0, told.err
    assert told.err.splitlines()[0] == (
        "1 of 2 sentences was cut at 24 word pieces; train with a higher data.max_tokens to read more of "
        "them."
    )
    file.write_text("sentence\n")
    for out in ("nothing.parquet", "nothing.npy"):
        told = command("embed", trained, file, "--out", tmp_path / out)
        assert (told.code, told.err) == (
            1,
            f"counterpoint: {file}: there is no sentence in it; bring a file with one at least.\n",
        )
        assert not (tmp_path / out).exists()


def test_a_trained_run_takes_data_without_training_files(command, trained, tmp_path):
    data = write_course(tmp_path / "dev")
    for file in data.glob("*train*"):
        file.unlink()
    told = command("evaluate", trained, "--data", data, "--json", tmp_path / "dev.json")
    assert told.code == 0, told.err
    result, whole = (json.loads(file.read_text()) for file in (
        tmp_path / "dev.json", trained / "evaluation-test.json",
    ))  # fmt: skip
    assert result["metrics"] == whole["metrics"]
    assert result["floors"] == {}
    assert "leave out paraphrase, sentiment, similarity: the data has none" in " ".join(told.err.split())
    told = command("submit", trained, "--data", data, "--out", tmp_path / "predictions")
    assert told.code == 0, told.err
    assert len(list((tmp_path / "predictions").iterdir())) == 5
    for file in data.glob("*dev*"):
        file.unlink()
    told = command("submit", trained, "--data", data, "--out", tmp_path / "students")
    assert told.code == 0, told.err
    assert sorted(file.name for file in (tmp_path / "students").iterdir()) == [
        "sst-test-output.csv",
        "sts-test-output.csv",
    ]
    told = command("train", "minbert-final", "--data", data, "--out", tmp_path / "run")
    assert told.code == 2
    assert "no training file of the task 'paraphrase'" in told.err


@pytest.mark.slow
def test_malformed_rows_are_treated_as_they_were_in_training(command, options, tmp_path):
    data = write_course(tmp_path / "data", rows=12, tests=8)
    with (data / "quora-dev.csv").open("a") as file:
        file.write("90\tx\tOnly one side\t\t\n")
    quick = ("--set", "training.epochs=1", "--set", "data.max_tokens=8", "--set", "training.batch_size=32")
    run = tmp_path / "run"
    train = ("train", "minbert-final", "--data", data, "--out", run, *options, *quick)
    assert command(*train).code == 1
    done = command(*train, "--on-bad-row", "skip")
    assert done.code == 0, done.err
    assert "sentences were cut at 8 word pieces; raise data.max_tokens to read more of them." in done.err
    assert json.loads((run / "run.json").read_text())["store"]["on_bad_row"] == "skip"
    told = command("evaluate", run, "--data", data)
    assert told.code == 0, told.err
    assert "set aside and have no answers: 1 of paraphrase; see" in " ".join(told.err.split())
    told = command("submit", run, "--data", data, "--out", tmp_path / "predictions")
    assert told.code == 0, told.err
    assert "set aside and have no answers: 1 of paraphrase; see" in told.err
    assert command("train", "minbert-final", "--data", data, "--out", run, "--resume").code == 0
    # One that was trained on a store of before is no other, and one that noted nothing stops.
    store = json.loads((run / "run.json").read_text())["store"]["path"]
    again = command("train", "minbert-final", "--data", store, "--out", tmp_path / "again", *options, *quick)
    assert again.code == 0, again.err
    assert command("evaluate", tmp_path / "again", "--data", data).code == 0
    facts = json.loads((run / "run.json").read_text())
    del facts["store"]["on_bad_row"]
    (run / "run.json").write_text(json.dumps(facts))
    told = command("evaluate", run, "--data", data)
    assert told.code == 1
    assert "quora-dev.csv, line 10, field 'sentence2': the sentence is empty" in told.err


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_cross_encoder_is_trained_compared_and_asked(command, course, options, tmp_path):
    out = tmp_path / "compare"
    told = command(
        "compare", "minbert-final", "sentences-cross", "--data", course, "--seeds", 1, "--out", out, *options
    )
    assert told.code == 0, told.err
    found = json.loads((out / "comparison.json").read_text())
    assert (found["unit"], found["metric"], found["units"], found["scored"]) == (
        "examples",
        "overall",
        72,
        72,
    )
    against = found["recipes"]["sentences-cross"]["against the baseline"]
    assert set(against) == {
        "overall", "paraphrase/accuracy", "paraphrase/f1", "sentiment/accuracy", "similarity/pearson",
        "similarity/spearman",
    }  # fmt: skip
    values = {
        name: found["recipes"][name]["metrics"]["similarity/pearson"]["mean"] for name in found["recipes"]
    }
    difference = values["sentences-cross"] - values["minbert-final"]
    assert against["similarity/pearson"]["mean_difference"] == pytest.approx(difference)
    encoder = counterpoint.load(out / "sentences-cross-seed0")
    assert np.isfinite(encoder.similarity("The dog sees the cat", "The cat sees the dog"))


@pytest.mark.slow
def test_a_search_over_the_papers_choices(command, course, options, tmp_path):
    pytest.importorskip("optuna")
    quick = ("--set", "training.epochs=1", "--set", "sampling.share=0.2")
    arguments = ("--data", course, "--trials", 2, "--out", tmp_path / "tune")
    told = command("tune", "minbert-final", *arguments, *options, *quick)
    assert told.code == 0, told.err
    assert (tmp_path / "tune" / "trial-0001").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (
            ("recommend", "RUN", "--user", "a"),
            "a run of sentences, which recommends nothing; give a",
            2,
        ),
        (
            ("export", "RUN"),
            "a run of sentences, which cannot be exported; give a run of feedback.",
            2,
        ),
        (("evaluate", "RUN", "--split", "unlabelled"), "the unlabelled split has no answers", 2),
        (("evaluate", "RUN", "--split", "dev"), "no split is called 'dev'", 2),
        (("embed", "RUN", "nowhere.txt"), "nowhere.txt: cannot be read", 1),
        (("embed", "RUN", "nowhere.doc"), "sentences are read from .txt, .csv, .tsv, .jsonl; convert it", 2),
        (("embed", "RUN", "a.txt", "--out", "v.csv"), "vectors are written as .parquet or .npy", 2),
        (("embed", "nowhere", "a.txt"), "nowhere: not a run folder", 2),
    ],
    ids=["recommend", "export", "unlabelled", "dev", "missing", "format", "out", "run"],
)
def test_wrong_use_is_one_sentence(command, trained, arguments, message, code):
    told = command(*(trained if part == "RUN" else part for part in arguments))
    assert told.code == code
    assert message in told.err
    assert len(told.err.splitlines()) == 1


def test_a_run_of_news_makes_no_sentence_vectors(command, trained, tmp_path):
    other = tmp_path / "news"
    shutil.copytree(trained, other)
    facts = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**facts, "workload": "news"}))
    (other / "recipe.toml").write_text(to_toml(counterpoint.read_recipe("mtrec")))
    told = command("embed", other, tmp_path / "a.txt")
    assert (told.code, len(told.err.splitlines())) == (2, 1)
    assert "a run of news, which makes no vectors of sentences; give a run of sentences." in told.err


@pytest.mark.slow
def test_real_sentences_are_learned(command, data_root, tmp_path):
    """A few steps of MiniLM on the course's files are better than the majority."""
    data = data_root / "sentences"
    if not data.is_dir():
        pytest.skip(f"no real data in {data}")
    small = tmp_path / "data"
    small.mkdir()
    for file in data.glob("*.csv"):
        kept = 70 if "train" in file.name else 40
        lines = file.read_text(encoding="utf-8").split("\n")[:kept]
        (small / file.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = ["training.learning_rate=5e-5", "training.head_learning_rate=1e-3"]
    options = [part for setting in settings for part in ("--set", setting)]
    done = command("train", "minbert-final", "--data", small, "--out", tmp_path / "run", *options)
    assert done.code == 0, done.err
    result = counterpoint.evaluate(tmp_path / "run")
    assert result["metrics"]["overall"] > result["floors"]["majority"]["overall"] + 0.15
    assert result["metrics"]["similarity/pearson"] > 0.5
