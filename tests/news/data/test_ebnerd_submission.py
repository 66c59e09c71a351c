import zipfile

import pytest

from counterpoint.news import submit, workload
from counterpoint.news.submit import write_submission
from counterpoint.progress import silent

from .bundles import TEST_ROWS, write_bundle


@pytest.mark.parametrize("candidates", [61, 3])
def test_eb_nerd_s_file_is_keyed_by_the_order_of_rows(
    candidates, store_of, make_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(submit, "_CANDIDATES", candidates)  # even a row that is larger is one block
    recipe = make_recipe(tasks=("click",))
    store = store_of(write_bundle(tmp_path / "bundle", test=TEST_ROWS))
    model = workload.trainee(recipe, store).model
    written = write_submission(model, recipe, store, "unlabelled", tmp_path / "p.zip", silent)

    assert written.metrics == {}
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert archive.namelist() == ["predictions.txt"]
        lines = archive.read("predictions.txt").decode().splitlines()
    assert [line.split()[0] for line in lines] == ["31", "0", "32", "0", "32", "0"]
    assert [len(line.split()) for line in lines] == [2] * 6
    assert [line.count(",") + 1 for line in lines] == [5, 21, 5, 21, 5, 21]
    assert lines[1] != lines[3]  # the same candidates, other readers
