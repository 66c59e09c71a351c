"""Which of the prepared stores in the cache a recipe finds."""

import json
import shutil

import pytest

from counterpoint.news import workload
from counterpoint.workload import Preparation


@pytest.fixture
def cased(tiny_encoder, tmp_path):
    """The folder of the same encoder with a tokenizer that keeps capitals."""
    folder = shutil.copytree(tiny_encoder, tmp_path / "cased")
    file = folder / "tokenizer_config.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**told, "do_lower_case": False}), encoding="utf-8")
    return folder


def test_another_tokenizer_finds_another_store(small_mind, make_recipe, cased):
    def prepared(**sections):
        return workload.prepare(small_mind, make_recipe(**sections), Preparation())

    first, other = prepared(), prepared(encoder={"name": str(cased)})
    assert (first.fresh, other.fresh) == (True, True)
    assert first.store.path != other.store.path
    again = [prepared(), prepared(encoder={"name": str(cased)})]
    assert [each.fresh for each in again] == [False, False]
    assert [each.store.path for each in again] == [first.store.path, other.store.path]
