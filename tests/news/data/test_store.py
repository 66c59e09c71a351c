import json
from dataclasses import dataclass

import numpy as np
import pytest

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.news.data import prepare as preparation
from counterpoint.news.data.prepare import require_made_for
from counterpoint.news.data.store import Store
from counterpoint.news.recipe import Data
from counterpoint.storage.arrays import SeenHashes, ranges
from counterpoint.storage.files import write_json


def tree(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@dataclass(frozen=True)
class Other:
    """A tokenizer that is none of ours."""

    fingerprint: str = "0" * 16
    name: str = "other"


def test_another_tokenizer_is_refused(small_mind, prepared, tokenizer):
    store = prepared(small_mind)
    require_made_for(store, tokenizer, Data())
    with pytest.raises(
        CounterpointError, match=r"not for 'other'; prepare the data again with the encoder other\."
    ):
        require_made_for(store, Other(), Data())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_title_tokens": 30}, "prepared with data.max_title_tokens = 20, the recipe has 30; prepare"),
        ({"max_text_tokens": 30}, "prepared with data.max_text_tokens = 50, the recipe has 30; prepare"),
        ({"sentiment": "vader"}, "prepared with data.sentiment = given, the recipe has vader; prepare"),
    ],
)
def test_settings_that_shape_a_store_are_refused_where_they_differ(
    settings, message, small_mind, prepared, tokenizer
):
    store = prepared(small_mind)
    require_made_for(store, tokenizer, Data(negatives=1, max_history=3, validation_days=2))
    with pytest.raises(CounterpointError, match=message):
        require_made_for(store, tokenizer, Data(**settings))


def test_a_store_of_another_version_is_refused(small_mind, prepared):
    store = prepared(small_mind)
    write_json(store.path / "manifest.json", {**store.manifest, "format": 99})
    with pytest.raises(CounterpointError, match="a store of version 99, this program reads version 2"):
        Store(store.path)


def test_a_store_of_another_workload_is_refused(small_mind, prepared):
    store = prepared(small_mind)
    write_json(store.path / "manifest.json", {**store.manifest, "workload": "behaviors", "format": 1})
    with pytest.raises(CounterpointError) as caught:
        Store(store.path)
    assert str(caught.value) == (
        f"{store.path}: a prepared store of the workload 'behaviors', the recipe is of 'news'; choose a "
        "recipe of the same workload or other data."
    )


def test_a_store_that_does_not_name_its_workload_is_refused(small_mind, prepared):
    store = prepared(small_mind)
    nameless = {name: value for name, value in store.manifest.items() if name != "workload"}
    write_json(store.path / "manifest.json", nameless)
    with pytest.raises(CounterpointError, match="a prepared store of the workload None"):
        Store(store.path)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(CounterpointError, match="not a prepared store; run counterpoint prepare first"):
        Store(tmp_path)


@pytest.mark.parametrize("damage", ["cut short", "missing"])
def test_a_damaged_array_is_named(damage, small_mind, prepared):
    file = prepared(small_mind).path / "arrays" / "candidates.npy"
    whole = file.read_bytes()
    file.unlink()
    if damage == "cut short":
        file.write_bytes(whole[:-8])
    store = Store(file.parents[1])
    with pytest.raises(CounterpointError, match=r"array 'candidates' is missing or cut short .*; prepare"):
        store.impressions(np.arange(3))


def test_a_damaged_table_is_named(small_mind, prepared):
    store = prepared(small_mind)
    for name in ("articles", "impressions"):
        file = store.path / f"{name}.parquet"
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CounterpointError, match=r"articles.parquet: missing or cut short"):
        _ = store.articles
    with pytest.raises(CounterpointError, match=r"impressions.parquet: missing or cut short"):
        store.impression_ids(np.arange(2))


def test_splits_that_are_unknown_or_empty(small_mind, prepared):
    store = prepared(small_mind)
    with pytest.raises(UsageError, match=r"no split is called 'tset' \(did you mean 'test'\?\)"):
        store.split("tset")
    with pytest.raises(
        CounterpointError, match="in split 'unlabelled'; choose among train, validation, test"
    ):
        store.split("unlabelled")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_store_and_nothing_else(
    failure, small_mind, prepared, monkeypatch, tmp_path
):
    before = tree(prepared(small_mind).path)
    present = sorted(tmp_path.iterdir())

    def fail(*arguments, **options):
        raise failure

    monkeypatch.setattr(preparation, "assign_splits", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else CounterpointError
    with pytest.raises(expected) as caught:
        prepared(small_mind)
    assert tree(tmp_path / "store") == before
    assert sorted(tmp_path.iterdir()) == present
    if expected is CounterpointError:
        assert str(caught.value).startswith(f"{tmp_path / 'store'}: writing failed (No space left on device)")


def test_a_new_store_takes_the_place_of_the_old_one(small_mind, prepared, tmp_path):
    prepared(small_mind)
    assert prepared(small_mind, max_title_tokens=5).manifest["tokenizer"]["max_title_tokens"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small-mind", "store"]


def test_odd_characters_in_a_folder_name_are_only_characters(small_mind, prepared):
    store = prepared(small_mind, "my [new] store*")
    assert store.path.name == "my [new] store*"
    assert len(store.articles) == 13
    assert store.impression_ids(np.array([0])) == ["1"]


def test_a_folder_with_something_else_is_never_replaced(small_mind, prepared, tmp_path):
    (tmp_path / "store").mkdir()
    prepared(small_mind)  # an empty folder may be filled
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    (tmp_path / "letters" / "manifest.json").write_text("{}")
    for name in ("letters", "small-mind"):
        with pytest.raises(UsageError, match="there is something else already; choose another place"):
            prepared(small_mind, name)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "keep me"


def test_vectors_are_copied_with_their_ids(small_mind, prepared):
    (small_mind / "entity_embedding.vec").write_text("Q1\t0.5\t-1\t2\t\nQ64\t1\t2\t3\t\nQ1\t9\t9\t9\n")
    (small_mind / "relation_embedding.vec").write_text("P31\t1e-3\t4\n")
    store = prepared(small_mind)

    assert store.counts["entity vectors"] == 2
    assert store.counts["relation vectors"] == 1
    assert np.load(store.path / "entity_vectors.npy").tolist() == [[0.5, -1.0, 2.0], [1.0, 2.0, 3.0]]
    assert np.load(store.path / "relation_vectors.npy").dtype == np.float32


@pytest.mark.parametrize("line", ["Q2\t1\t2\n", "Q2\tone\t2\t3\n", "Q2\n", "\n"])
def test_a_malformed_vector_is_named(line, small_mind, prepared):
    (small_mind / "entity_embedding.vec").write_text("Q1\t0.5\t-1\t2\n" + line)
    with pytest.raises(
        CounterpointError, match=r"entity_embedding.vec, line 2, field 'vector': .* not 3 numbers"
    ):
        prepared(small_mind)


def test_vectors_that_are_not_utf8(small_mind, prepared):
    (small_mind / "entity_embedding.vec").write_bytes(b"Q\xff\t1\n")
    with pytest.raises(CounterpointError, match=r"entity_embedding.vec: not UTF-8"):
        prepared(small_mind)


def test_hashes_are_numbered_by_first_appearance():
    seen = SeenHashes()
    rows, new = seen.rows(np.array([7, 3, 7, 9], dtype=np.uint64))
    assert (rows.tolist(), new.tolist()) == ([0, 1, 0, 2], [0, 1, 3])
    rows, new = seen.rows(np.array([9, 1, 3], dtype=np.uint64))
    assert (rows.tolist(), new.tolist()) == ([2, 3, 1], [1])


def test_ranges_stand_one_after_another():
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ranges(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []


def test_live_articles_are_those_of_the_last_24_hours(small_mind, prepared):
    live = prepared(small_mind).shown_on_last_day()
    assert live.tolist() == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11]


def test_the_manifest_is_plain_json(small_mind, prepared):
    text = (prepared(small_mind).path / "manifest.json").read_text()
    assert json.loads(text)["tokenizer"]["max_title_tokens"] == 20
