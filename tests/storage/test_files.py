import json
import os
import shutil

import polars as pl
import pytest

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.storage.files import cached_store, new_file, new_folder, new_store, read_json, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "result.json"
    write_json(target, {"name": "Zoë"})
    assert json.loads(target.read_text(encoding="utf-8")) == {"name": "Zoë"}

    with pytest.raises(RuntimeError), new_file(target) as path:  # noqa: PT012
        path.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"name": "Zoë"}
    assert [path.name for path in target.parent.iterdir()] == ["result.json"]


def test_numbers_that_are_not_finite_are_null(tmp_path):
    write_json(tmp_path / "a.json", {"auc": float("nan"), "interval": [0.5, float("inf")]})
    assert read_json(tmp_path / "a.json") == {"auc": None, "interval": [0.5, None]}


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_folder_appears_whole_or_not_at_all(failure, tmp_path):
    target = tmp_path / "store"
    with pytest.raises(failure), new_folder(target) as folder:  # noqa: PT012
        (folder / "half").write_text("x")
        raise failure
    assert list(tmp_path.iterdir()) == []

    with new_folder(target) as folder:
        (folder / "one").write_text("1")
        assert not target.exists()
    with pytest.raises(failure), new_folder(target):
        raise failure
    assert [path.name for path in target.iterdir()] == ["one"]
    with new_folder(target) as folder:
        (folder / "two").write_text("2")
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = tmp_path / "store"
    with new_folder(target) as folder:
        (folder / "old").write_text("1")
    rename = type(target).rename

    def interrupted(path, to):
        if path.suffix == ".part":
            raise KeyboardInterrupt
        return rename(path, to)

    monkeypatch.setattr(type(target), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), new_folder(target) as folder:
        (folder / "new").write_text("2")
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_error_is_one_sentence(tmp_path):
    with (
        pytest.raises(
            CounterpointError, match=r"result: writing failed \(No space left on device\); free some"
        ),
        new_file(tmp_path / "result"),
    ):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").write_text("")
    with pytest.raises(CounterpointError, match="writing failed"):
        write_json(tmp_path / "file" / "below.json", {})


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file; check the path"), (b"{", "not valid JSON"), (b"\xff", "not valid JSON")],
)
def test_reading_what_is_not_there_or_not_json(content, message, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CounterpointError, match=message):
        read_json(tmp_path / "a.json")


def test_a_store_replaces_a_store_or_nothing(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    for content in ("first", "second"):
        with new_store(target) as folder:
            (folder / "arrays").mkdir()
            (folder / "manifest.json").write_text(content)
    assert (target / "manifest.json").read_text() == "second"

    shutil.rmtree(target / "arrays")
    (tmp_path / "letter").write_text("keep me")
    for other in (target, tmp_path / "letter"):
        with pytest.raises(
            UsageError, match=f"{other.name}: there is something else already; choose another place"
        ):
            new_store(other).__enter__()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter", "store"]


def test_what_polars_cannot_write_is_a_disk_error(tmp_path):
    with (
        pytest.raises(CounterpointError, match=r"store: writing failed \(no space\); free some space"),
        new_store(tmp_path / "store"),
    ):
        raise pl.exceptions.ComputeError("no space")
    assert list(tmp_path.iterdir()) == []


def test_a_cached_store_is_of_these_files_as_they_are_now_and_of_these_settings(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("1,2")
    second.write_text("3,4")
    places = [cached_store(tmp_path, [first, second], {"core": 3})]
    assert cached_store(tmp_path, [first, second], {"core": 3}) == places[0]

    written = second.stat().st_mtime_ns
    second.write_text("4,3")  # as long as before
    os.utime(second, ns=(written, written + 1_000))
    places.append(cached_store(tmp_path, [first, second], {"core": 3}))
    second.write_text("4,30")
    os.utime(second, ns=(written, written))
    places.append(cached_store(tmp_path, [first, second], {"core": 3}))
    places.append(cached_store(tmp_path, [first], {"core": 3}))
    places.append(cached_store(tmp_path, [first], {"core": 4}))
    places.append(cached_store(tmp_path, [shutil.copy2(first, tmp_path / "c.csv")], {"core": 4}))
    assert len(set(places)) == len(places)
