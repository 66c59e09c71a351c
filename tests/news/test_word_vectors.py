"""A recipe over a file of word vectors: words, categories, and what becomes of it without the file."""

import json
import re

import numpy as np
import pytest
import torch

from counterpoint import api
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.news import workload
from counterpoint.news.data.store import Store
from counterpoint.progress import silent
from counterpoint.storage.files import write_json
from counterpoint.workload import Preparation
from samples import ARTICLES

SIZE = 12
# "newsus" is made of two words; "hiking" is none, and no part of it is.
NAMES = ("news", "sports", "food", "finance", "travel", "us", "world", "cycling", "wine")


def write_words(file, size=SIZE, without=()):
    """A file like GloVe's, with all words of the little site but some."""
    titles = " ".join(row[3] for row in ARTICLES).lower()
    words = [word for word in dict.fromkeys([*NAMES, *re.findall(r"\w+", titles)]) if word not in without]
    draw = np.random.default_rng(0)
    rows = [f"{word} " + " ".join(f"{value:.4f}" for value in draw.normal(size=size)) for word in words]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def words(tmp_path):
    return write_words(tmp_path / "words.txt")


@pytest.fixture
def settings(words):
    return [
        f"encoder.words={words}",
        "encoder.size=8",
        "encoder.heads=2",
        "reader.heads=2",
        "articles.query_size=5",
        "training.precision=fp32",
        "training.batch_size=4",
        "training.epochs=2",
    ]


def vector_of(words, *parts):
    table = {
        line.split()[0]: np.array(line.split()[1:], dtype=np.float32)
        for line in words.read_text().splitlines()
    }
    return np.mean([table[part] for part in parts], axis=0)


@pytest.mark.parametrize("name", ["nrms", "naml", "lstur", "hierec"])
def test_recipes_of_words_train_save_and_load_over_a_file(name, words, settings, small_mind, tmp_path):
    run = api.train(name, data=small_mind, out=tmp_path / "run", settings=settings)
    recipe = api.read_recipe(name, settings)
    evaluated = api.evaluate(run.path)
    assert set(evaluated["floors"]) == {"random", "popularity", "popularity, 24 h", "recency", "content"}
    store = Store(next((tmp_path / "cache" / "stores").iterdir()))
    model = workload.load(run.model, recipe, store)
    assert model.vocabulary.words == (2 + len(words.read_text().splitlines()), SIZE)
    again = workload.evaluate(model, recipe, store, "test", silent).record
    assert again["metrics"] == evaluated["metrics"]


@pytest.mark.parametrize("name", ["naml", "lstur"])
def test_categories_start_from_the_vectors_of_their_names(name, words, settings, small_mind):
    recipe = api.read_recipe(name, settings)
    store = workload.prepare(small_mind, recipe, Preparation()).store
    model = workload.trainee(recipe, store).model
    for field, known in (
        ("category", {name: (name,) for name in NAMES[:5]}),
        ("subcategory", {"newsus": ("news", "us"), "newsworld": ("news", "world"), "wine": ("wine",)}),
    ):
        table = model.articles.others[field].vectors.weight
        names = store.labels[field]
        assert table.shape == (len(names) + 1, SIZE)
        assert not table[0].any()
        for label, parts in known.items():
            expected = torch.from_numpy(vector_of(words, *parts))
            torch.testing.assert_close(table[1 + names.index(label)], expected)
    # The vectors of names that say nothing are drawn, and small.
    hiking = model.articles.others["subcategory"].vectors.weight[1 + names.index("hiking")]
    assert 0 < hiking.norm() < 1


def test_the_texts_of_a_recipe_share_the_words_and_begin_with_the_file_s(words, settings, small_mind):
    recipe = api.read_recipe("naml", settings)
    store = workload.prepare(small_mind, recipe, Preparation()).store
    encoders = workload.trainee(recipe, store).model.articles.texts
    tables = [
        module.weight
        for encoder in (encoders["title"], encoders["abstract"])
        for module in encoder.modules()
        if isinstance(module, torch.nn.Embedding)
    ]
    assert len(tables) == 2
    assert tables[0] is tables[1]
    torch.testing.assert_close(tables[0][2], torch.from_numpy(vector_of(words, "news")))
    assert tables[0].requires_grad


def interrupted(name, settings, data, folder):
    """A run that was ended after its last checkpoint."""
    run = api.train(name, data=data, out=folder, settings=settings)
    facts = json.loads((run.path / "run.json").read_text())
    write_json(run.path / "run.json", {**facts, "status": "training"})
    return run


def test_a_file_of_another_width_on_resume_is_one_sentence(words, settings, small_mind, tmp_path):
    run = interrupted("nrms", settings, small_mind, tmp_path / "run")
    write_words(words, SIZE + 1)
    with pytest.raises(CounterpointError) as caught:
        api.train("nrms", data=small_mind, out=run.path, resume=True)
    said = str(caught.value)
    assert "model.safetensors: belongs to another model (" in said
    assert said.endswith("use the recipe it was made with.")
    assert "\n" not in said
    write_words(words)
    assert api.train("nrms", data=small_mind, out=run.path, resume=True).done


def test_a_file_of_other_words_does_not_fit_the_prepared_store(words, settings, small_mind, tmp_path):
    recipe = api.read_recipe("nrms", settings)
    store = workload.prepare(small_mind, recipe, Preparation(out=tmp_path / "store")).store
    write_words(words, without=("museum",))
    with pytest.raises(CounterpointError, match=r"tokenised for .*words.txt.*prepare the data again"):
        api.train("nrms", data=store.path, out=tmp_path / "run", settings=settings)


def test_a_run_whose_file_is_gone_still_evaluates_and_recommends(words, settings, small_mind, tmp_path):
    run = api.train("naml", data=small_mind, out=tmp_path / "run", settings=settings)
    before = api.evaluate(run.path)
    words.unlink()
    for data in (None, small_mind):
        after = api.evaluate(run.path, data=data)
        assert after["metrics"] == before["metrics"]
        assert set(before["floors"]) - set(after["floors"]) == {"content"}
        (warning,) = [each for each in after["warnings"] if "left out" in each]
        assert warning.startswith(f"The content floor is left out: {words}: cannot be read")
    (best, *_) = api.load(run.path).recommend(["N1"], articles={"new": "A museum of trams"})
    assert best.article


def test_a_file_of_other_words_by_now_costs_the_content_floor_alone(words, settings, small_mind, tmp_path):
    run = api.train("nrms", data=small_mind, out=tmp_path / "run", settings=settings)
    before = api.evaluate(run.path)
    words.write_text("\n".join(words.read_text().splitlines()[:3]), encoding="utf-8")
    after = api.evaluate(run.path)
    assert after["metrics"] == before["metrics"]
    assert set(before["floors"]) - set(after["floors"]) == {"content"}
    (warning,) = [each for each in after["warnings"] if "left out" in each]
    assert warning == (
        f"The content floor is left out: {words} splits titles otherwise than when this data was prepared; "
        "bring the original back."
    )


def test_training_without_its_file_is_one_sentence(settings, words, small_mind, tmp_path):
    words.unlink()
    with pytest.raises(CounterpointError) as caught:
        api.train("nrms", data=small_mind, out=tmp_path / "run", settings=settings)
    assert str(caught.value).startswith(
        f"{words}: cannot be read (No such file or directory); check the path"
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="words belong to a shallow encoder"):
        api.read_recipe("mtrec", [f"encoder.words={words}"])
