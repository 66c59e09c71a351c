"""What the seam gets of news: stores by what shapes them, and word of how far long work is."""

import subprocess
import sys

import pytest

from counterpoint.news import workload
from counterpoint.progress import silent
from counterpoint.workload import Preparation


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def prepared(small_mind):
    def prepare(recipe, **options):
        return workload.prepare(small_mind, recipe, Preparation(**options))

    return prepare


class Told:
    """Remembers what it is told: for each label, how much was done in the end and how much there was."""

    def __init__(self):
        self.last = {}

    def __call__(self, label, done, total):
        assert 0 <= done <= total
        self.last[label] = done, total

    def finished(self):
        return {label for label, (done, total) in self.last.items() if done == total}


def test_a_store_in_the_cache_is_found_again(prepared, make_recipe):
    first = prepared(make_recipe())
    again = prepared(
        make_recipe(tasks=["click"], training={"seed": 7}, data={"max_history": 3, "negatives": 2})
    )
    assert (first.fresh, again.fresh) == (True, False)
    assert again.store.path == first.store.path


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"max_title_tokens": 5}},
        {"data": {"max_text_tokens": 9}},
        {"data": {"validation_days": 2}},
        {"data": {"test_days": 2}},
        {"data": {"sentiment": "vader"}},
        {"articles": {"fields": ["article"]}, "tasks": ["click"]},
        {"encoder": {"kind": "convolution", "words": "words.txt"}, "tasks": ["click"]},
    ],
)
def test_whatever_shapes_a_store_gives_another_one(change, prepared, make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("city 0.5 1\ntram 1 2\n", encoding="utf-8")
    first, other = prepared(make_recipe()), prepared(make_recipe(**change))
    assert other.fresh
    assert other.store.path != first.store.path
    assert prepared(make_recipe(), on_bad_row="skip").fresh


def test_preparing_training_and_evaluating_tell_how_far_they_are(prepared, make_recipe):
    recipe, told = make_recipe(encoder={"frozen_layers": 1}), Told()
    store = prepared(recipe, progress=told).store
    reading = {"reading small-mind/news.tsv", "reading small-mind/behaviors.tsv"}
    assert told.finished() == {*reading, "finishing the store"}
    told = Told()
    made = workload.trainee(recipe, store, told)
    assert told.finished() == {"frozen layers"}
    assert made.validate is not None
    made.validate()
    validating = {"validating: encoding articles", "validating: scoring readers"}
    assert told.finished() == {"frozen layers", *validating}
    told = Told()
    workload.evaluate(made.model, recipe, store, "test", told)
    assert told.finished() == {
        *(
            "encoding articles",
            "scoring readers",
            "encoding articles untrained",
            "floors",
            "editorial measures",
        )
    }


def test_a_file_of_words_is_read_in_sight(small_mind, prepared, make_recipe, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("city 0.5 1\ntram 1 2\n", encoding="utf-8")
    recipe = make_recipe(tasks=["click"], encoder={"kind": "convolution", "words": str(words), "size": 8})
    told = Told()
    store = prepared(recipe, progress=told).store
    assert "reading words.txt" in told.finished()
    told = Told()
    workload.trainee(recipe, store, told)
    assert "reading words.txt" in told.finished()


def test_without_a_validation_split_nothing_is_validated(mind_folder, make_recipe, tmp_path):
    recipe = make_recipe()
    store = workload.prepare(mind_folder("site"), recipe, Preparation(out=tmp_path / "store")).store
    assert workload.trainee(recipe, store, silent).validate is not None
    store.manifest["splits"]["validation"] = 0
    assert workload.trainee(recipe, store, silent).validate is None


def test_recipes_are_read_without_what_trains():
    code = (
        "import sys, counterpoint.news.recipe; "
        "print(sorted({'torch', 'polars', 'numpy', 'transformers', 'rich'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
