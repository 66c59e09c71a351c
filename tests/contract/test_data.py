"""Raw data of every workload become one store, whoever prepares them, or one sentence."""

import json
import shutil

import pytest

import counterpoint
from contract.cases import CASES
from contract.errors import one_sentence
from counterpoint.errors import BadRowError, CounterpointError, UsageError
from counterpoint.workload import find

HOPELESS = {f"{case.name}-{what}": (case, what) for case in CASES for what in case.hopeless}


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


def test_prepared_again_elsewhere_it_is_the_same_store(case, raw, store, settings, tmp_path):
    shutil.copytree(raw, tmp_path / "moved")
    again = counterpoint.prepare(
        tmp_path / "moved", recipe=case.recipe, settings=settings, out=tmp_path / "again"
    )
    assert contents(again.path) == contents(store.path)
    assert contents(store.path)
    first, second = (
        {key: value for key, value in each.manifest.items() if key != "source"} for each in (store, again)
    )
    assert first == second
    source = json.dumps(again.manifest["source"]).replace(str(tmp_path / "moved"), str(raw))
    assert json.loads(source) == store.manifest["source"]


def test_the_cache_keeps_what_was_prepared(case, raw, store, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path))
    first = counterpoint.prepare(raw, recipe=case.recipe, settings=settings)
    before = (first.path / "manifest.json").stat().st_mtime_ns
    assert counterpoint.prepare(raw, recipe=case.recipe, settings=settings).path == first.path != store.path
    assert (first.path / "manifest.json").stat().st_mtime_ns == before
    assert first.manifest == store.manifest


def test_preparing_tells_its_progress(preparation):
    assert preparation.heard.came_to_an_end(), preparation.heard.latest


def test_a_malformed_row_stops_it_or_is_set_aside_and_counted(case, settings, tmp_path):
    case.write(tmp_path / "raw")
    file = case.spoil(tmp_path / "raw")
    with pytest.raises(BadRowError) as caught:
        counterpoint.prepare(tmp_path / "raw", recipe=case.recipe, settings=settings, out=tmp_path / "store")
    assert str(file) in one_sentence(caught.value)
    assert caught.value.line > 1
    assert not (tmp_path / "store").exists()
    store = counterpoint.prepare(
        tmp_path / "raw", recipe=case.recipe, settings=settings, out=tmp_path / "store", on_bad_row="skip"
    )
    assert store.counts["bad rows set aside"] == 1
    (aside,) = (store.path / "bad_rows.jsonl").read_text().splitlines()
    assert json.loads(aside)["field"] == caught.value.field


@pytest.mark.parametrize(("hopeless", "what"), HOPELESS.values(), ids=HOPELESS)
def test_data_from_which_nothing_can_be_learned_are_one_sentence(hopeless, what, tiny_encoder, tmp_path):
    write, message = hopeless.hopeless[what]
    write(tmp_path / "raw")
    settings = hopeless.settings(tiny_encoder)
    with pytest.raises(CounterpointError) as caught:
        counterpoint.train(hopeless.recipe, data=tmp_path / "raw", settings=settings, out=tmp_path / "run")
    assert message in one_sentence(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_place_without_data_is_one_sentence(case, settings, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(UsageError) as caught:
            counterpoint.prepare(place, recipe=case.recipe, settings=settings)
        assert one_sentence(caught.value).startswith(f"{place}: no ")


def test_data_of_another_workload_name_a_recipe_for_them(case, raw, store, tiny_encoder):
    for other in CASES:
        if other.name == case.name:
            continue
        settings = other.settings(tiny_encoder)
        with pytest.raises(CounterpointError) as caught:
            counterpoint.prepare(store.path, recipe=other.recipe, settings=settings)
        assert case.name in one_sentence(caught.value)
        assert other.name in str(caught.value)
        with pytest.raises(UsageError) as caught:
            counterpoint.prepare(raw, recipe=other.recipe, settings=settings)
        one_sentence(caught.value)
        if find(case.name).find is not None:
            assert f"choose a recipe such as {find(case.name).example}" in str(caught.value)


def test_a_format_that_nobody_has_is_one_sentence(case, raw, settings):
    with pytest.raises(UsageError) as caught:
        counterpoint.prepare(raw, recipe=case.recipe, settings=settings, format="mnid")
    assert "format: no format is called 'mnid'" in one_sentence(caught.value)
