"""Every workload is one object with its formats, found by names and read without what trains."""

import subprocess
import sys
from importlib import import_module

import pytest

from contract.cases import CASES
from contract.errors import one_sentence
from counterpoint import workload
from counterpoint.api import read_recipe
from counterpoint.errors import UsageError
from counterpoint.progress import silent
from counterpoint.storage.prepared import Prepared
from counterpoint.workload import Preparation

NAMES = pytest.mark.parametrize("name", workload.names())


def test_every_workload_has_a_case():
    assert [case.name for case in CASES] == list(workload.names())
    assert all(read_recipe(case.recipe).workload == case.name for case in CASES)


@NAMES
def test_a_workload_is_found_by_its_name(name):
    found = workload.find(name)
    assert found is import_module(f"counterpoint.{name}.workload").WORKLOAD
    assert found.name == name
    assert found.recipe_type is workload.recipe_type(name)
    assert found.formats is workload.formats(name)
    assert isinstance(read_recipe(found.example), found.recipe_type)


@NAMES
def test_a_format_is_called_as_its_file(name):
    known = workload.formats(name)
    assert known.names
    assert sorted(each.name for each in known) == list(known.names)
    for each in known:
        module = import_module(f"counterpoint.{name}.data.formats.{each.name.replace('-', '_')}")
        assert module.FORMAT is each is known.named(each.name)
        assert each.summary


@NAMES
def test_a_recipe_is_read_without_what_trains(name):
    read = (
        f"import sys; from counterpoint import workload; workload.recipe_type({name!r}); "
        "print(*sorted({'torch', 'polars', 'numpy', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_preparing_tells_whether_the_store_is_new(case, tiny_encoder, tmp_path):
    case.write(tmp_path / "raw")
    recipe = read_recipe(case.recipe, case.settings(tiny_encoder))
    place = workload.find(case.name)
    made = place.prepare(tmp_path / "raw", recipe, Preparation(out=tmp_path / "store"))
    found = place.prepare(tmp_path / "store", recipe, Preparation())
    assert isinstance(made, Prepared)
    assert (made.fresh, found.fresh) == (True, False)
    assert found.store.manifest["workload"] == case.name
    trainee = place.trainee(recipe, found.store, silent)
    assert trainee.target in tasks_of_a_step(trainee)
    assert trainee.facts["training examples"] > 0


def tasks_of_a_step(trainee):
    """Return the tasks that the first step has losses of."""
    batch = trainee.batches.batch(0, 0)
    parts = batch.parts() if hasattr(batch, "parts") else [batch]
    return {task for part in parts for task in trainee.model.losses(part)}


def test_an_unknown_workload_is_one_sentence():
    with pytest.raises(UsageError) as caught:
        workload.find("sentence")
    assert one_sentence(caught.value) == (
        "no workload is called 'sentence' (did you mean 'sentences'?); known: news, behaviors, feedback, "
        "sentences."
    )
