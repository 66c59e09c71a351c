"""From files to a store: splits, distinct sentences, word pieces, what is cut, and what a store refuses."""

import json

import numpy as np
import pytest

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.sentences import workload
from counterpoint.sentences.data.layout import find
from counterpoint.sentences.data.prepare import prepare
from counterpoint.sentences.data.store import Store
from counterpoint.workload import Preparation
from sentences.simulated import likenesses, lines, sentiments, write_course


@pytest.fixture
def prepared(recipe, tokenizer, tmp_path):
    """Prepare a folder with a recipe's settings."""

    def make(data, *settings, name="store", **options):
        resolved = recipe(*settings)
        return prepare(find(data, resolved), tmp_path / name, tokenizer, resolved, Preparation(**options))

    return make


def test_a_tenth_of_each_tasks_training_rows_validates(store, course):
    counts = store.counts
    assert (counts["train rows of sentiment"], counts["validation rows of sentiment"]) == (43, 5)
    assert (counts["train rows of paraphrase"], counts["validation rows of paraphrase"]) == (86, 10)
    assert (counts["train rows of similarity"], counts["validation rows of similarity"]) == (22, 2)
    assert store.manifest["splits"] == {"train": 151, "validation": 17, "test": 72, "unlabelled": 11}
    train, held_out = (store.rows("sentiment", split).ids.to_list() for split in ("train", "validation"))
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(row[0] for row in sentiments(48))
    # Both keep the order of the file.
    order = {row[0]: place for place, row in enumerate(sentiments(48))}
    assert [order[each] for each in train] == sorted(order[each] for each in train)


def test_rows_lead_to_their_sentences_and_labels(store):
    rows = store.rows("sentiment", "test")
    given = sentiments(24, 1)
    assert rows.ids.to_list() == [row[0] for row in given]
    assert store.texts(rows.sentences[0]) == [row[1] for row in given]
    assert rows.labels.tolist() == [row[2] for row in given]
    pairs = store.rows("similarity", "unlabelled")
    assert pairs.sentences.shape == (2, 6)
    assert np.isnan(pairs.labels).all()


def test_each_sentence_is_kept_and_tokenised_once(store, tokenizer):
    every = store.texts(np.arange(store.counts["distinct sentences"]))
    assert len(set(every)) == len(every)
    for place in (0, 5, len(every) - 1):
        framed = tokenizer.encode([every[place]], 24)[0].ids
        (pieces,) = store.pieces(np.array([place]))
        assert [*store.frame.before, *pieces.tolist(), *store.frame.after] == framed
        assert store.lengths()[place] == len(pieces)


def test_very_long_sentences_are_cut_and_counted(course, prepared, tmp_path, tokenizer):
    data = write_course(tmp_path / "long")
    long = "word " * 10_000
    rows = [*sentiments(20), ("long", long, 2), ("longer", "a, " * 30_000, 1)]
    (data / "ids-sst-train.csv").write_text(lines(rows, ("id", "sentence", "sentiment")))
    store = prepared(data)
    assert store.counts["sentences cut"] == 2
    assert prepared(course, name="short").counts["sentences cut"] == 0
    ids = [*store.rows("sentiment", "train").ids, *store.rows("sentiment", "validation").ids]
    assert "long" in ids
    cut = [store.befell("cut", store.tasks, (split,)) for split in ("train", "validation", "test")]
    assert sum(found.get("sentiment", 0) for found in cut) == 2
    assert cut[2] == {}
    assert store.befell("cut", store.tasks, ("train", "validation")) == {"sentiment": 2}
    longest = int(store.lengths().argmax())
    assert store.lengths()[longest] == 22
    assert [101, *store.pieces(np.array([longest]))[0].tolist(), 102] == tokenizer.encode([long], 24)[0].ids


def test_the_draw_of_a_task_does_not_depend_on_other_tasks(course, prepared, store):
    alone = prepared(course, 'tasks=["sentiment"]')
    assert alone.tasks == ("sentiment",)
    for split in ("train", "validation"):
        assert alone.rows("sentiment", split).ids.equals(store.rows("sentiment", split).ids)
    other = prepared(course, "data.split_seed=1", name="other")
    assert not other.rows("sentiment", "validation").ids.equals(store.rows("sentiment", "validation").ids)
    assert other.manifest["fingerprints"]["test"] == store.manifest["fingerprints"]["test"]
    assert other.manifest["fingerprints"]["train"] != store.manifest["fingerprints"]["train"]


def test_a_task_without_training_rows_is_one_sentence(prepared, tmp_path):
    data = write_course(tmp_path / "empty")
    (data / "sts-train.csv").write_text("\tid\tsentence1\tsentence2\tsimilarity\n")
    with pytest.raises(CounterpointError) as caught:
        prepared(data)
    assert "the task 'similarity' has 0 sound training rows and needs two" in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_broken_rows_stop_or_are_counted(prepared, tmp_path):
    data = write_course(tmp_path / "broken")
    with (data / "quora-dev.csv").open("a") as file:
        file.write("7\tx\tOnly one side\t\t\n")
    with pytest.raises(CounterpointError, match=r"quora-dev.csv, line 26, field 'sentence2'"):
        prepared(data)
    store = prepared(data, on_bad_row="skip")
    assert store.counts["bad rows set aside"] == 1
    assert len(store.rows("paraphrase", "test")) == 24
    assert json.loads((store.path / "bad_rows.jsonl").read_text())["field"] == "sentence2"
    assert store.counts["test rows of paraphrase set aside"] == 1
    assert store.befell("set aside", store.tasks, ("train", "test")) == {"paraphrase": 1}
    assert store.befell("set aside", store.tasks, ("train", "unlabelled")) == {}


def test_a_trained_model_needs_no_training_files(prepared, tmp_path, recipe, tokenizer):
    data = write_course(tmp_path / "dev-only")
    for file in data.glob("*"):
        if "train" in file.name or file.name.startswith("quora"):
            file.unlink()
    with pytest.raises(UsageError, match="no training file of the task 'paraphrase'"):
        find(data, recipe())
    found = find(data, recipe(), trained=True)
    assert {name: len(files.train) for name, files in found.items()} == {"sentiment": 0, "similarity": 0}
    store = prepare(found, tmp_path / "store", tokenizer, recipe(), Preparation())
    assert store.tasks == ("sentiment", "similarity")
    assert store.manifest["splits"] == {"train": 0, "validation": 0, "test": 48, "unlabelled": 11}
    assert store.rows("similarity", "test").labels.tolist() == [row[3] for row in likenesses(24, 6)]
    store.require(recipe(), tokenizer, trained=True)
    with pytest.raises(CounterpointError, match="without training rows of the task 'sentiment'; prepare"):
        store.require(recipe(), tokenizer)
    with pytest.raises(CounterpointError, match="the recipe has the task 'paraphrase'"):
        store.require(recipe('tasks=["paraphrase"]'), tokenizer, trained=True)
    for file in data.glob("*"):
        file.unlink()
    with pytest.raises(
        UsageError, match=r"no file of any task, looked for quora-train\*, quora-dev\*"
    ) as caught:
        find(data, recipe(), trained=True)
    assert str(caught.value).startswith(f"{data}: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.max_tokens=30"], "prepared with data.max_tokens = 24, the recipe has 30"),
        (["data.validation_share=0.2"], "prepared with data.validation_share = 0.1"),
        (["task.sentiment.classes=6"], "the task 'sentiment' was prepared with other columns"),
        (['tasks=["sentiment", "cfimdb"]'], "the recipe has the task 'cfimdb'"),
    ],
)  # fmt: skip
def test_a_store_refuses_a_recipe_it_was_not_made_for(store, recipe, tokenizer, settings, message):
    with pytest.raises(CounterpointError) as caught:
        store.require(recipe(*settings), tokenizer)
    assert message in str(caught.value)


def test_the_order_of_tasks_and_what_models_are_made_of_share_a_store(course, recipe):
    def stored(*settings, name="minbert-final"):
        resolved = recipe(*settings, name=name)
        return workload.prepare(course, resolved, Preparation()).store.path

    first = stored()
    assert stored('tasks=["similarity", "sentiment", "paraphrase"]') == first
    assert stored(name="sentences-cross") == first
    assert stored("data.max_tokens=20") != first


def test_unknown_splits_and_other_folders_are_refused(store, tmp_path):
    with pytest.raises(UsageError, match=r"no split is called 'tset' \(did you mean 'test'\?\)"):
        store.rows("sentiment", "tset")
    with pytest.raises(CounterpointError, match="not a prepared store"):
        Store(tmp_path)


def test_no_room_for_a_word_is_one_sentence(course, tokenizer, recipe, tmp_path):
    resolved = recipe()
    short = resolved.model_copy(update={"data": resolved.data.model_copy(update={"max_tokens": 2})})
    with pytest.raises(UsageError, match=r"data.max_tokens = 2 leaves no room for a word"):
        prepare(find(course, resolved), tmp_path / "store", tokenizer, short, Preparation())


def test_no_sentences_have_no_pieces(store):
    assert store.pieces(np.empty(0, dtype=np.int64)) == []
