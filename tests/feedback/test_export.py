import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.feedback import export as exporting
from counterpoint.feedback.data.schema import Column, Schema
from counterpoint.feedback.export import export
from small_feedback import SCHEMA, random_batch, small_network

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ONE_LAYER = {"experts": (12,), "towers": (6,)}
SCALES = {"duration": SimpleNamespace(mean=1.5e12, spread=2e7), "age": SimpleNamespace(mean=30.0, spread=9.0)}


def encoding_of(schema=SCHEMA):
    columns = (*schema.ids, *schema.lists)
    vocabularies = {each.name: [f"{each.name} {row}" for row in range(1, each.size)] for each in columns}
    return SimpleNamespace(vocabularies=vocabularies, scales=SCALES)


@pytest.fixture(scope="module")
def model():
    return small_network().eval()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder, told = tmp_path_factory.mktemp("export") / "served", []
    export([model], encoding_of(), folder, lambda *step: told.append(step))
    assert told == [("exporting", done, 2) for done in range(3)]
    return folder


def run(folder, inputs):
    session = runtime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], inputs)
    return probabilities


def padded(bag, rows, longest):
    values, offsets = (each.tolist() for each in bag)
    ends = [*offsets[1:], len(values)]
    lists = [values[start:end] for start, end in zip(offsets, ends, strict=True)]
    return np.array([each + [-1] * (longest - len(each)) for each in lists], dtype=np.int64)


def inputs_of(batch, longest=5):
    """A batch as a caller of the file has it: numbers as they stand in the data."""
    ids = {f"ids/{each.name}": batch.ids[:, place].numpy() for place, each in enumerate(SCHEMA.ids)}
    numbers = {
        f"numbers/{name}": SCALES[name].mean + SCALES[name].spread * batch.numbers[:, place].double().numpy()
        for place, name in enumerate(SCHEMA.numbers)
    }
    lists = {
        f"lists/{each.name}": padded(batch.lists[place], len(batch), longest + place)
        for place, each in enumerate(SCHEMA.lists)
    }
    return {**ids, **numbers, **lists}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 300])
@pytest.mark.parametrize("longest", [3, 40])
def test_the_file_gives_the_models_probabilities_of_any_number_of_rows(model, exported, rows, longest):
    batch = random_batch(rows=rows, seed=rows)
    with torch.no_grad():
        expected = model.probabilities(batch).numpy()
    np.testing.assert_allclose(run(exported, inputs_of(batch, longest)), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_list_of_an_unknown_id_is_not_an_empty_one(model, exported):
    inputs = inputs_of(random_batch(rows=2))
    inputs["lists/tags"] = np.array([[-1, -1], [0, -1]])
    batch = random_batch(rows=2)
    lists = (torch.tensor([0]), torch.tensor([0, 0])), batch.lists[1]
    with torch.no_grad():
        expected = model.probabilities(type(batch)(batch.ids, batch.numbers, lists, batch.labels)).numpy()
    np.testing.assert_allclose(run(exported, inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_rows_beyond_the_vocabulary_are_unknown_and_missing_numbers_are_the_mean(exported):
    inputs = inputs_of(random_batch(rows=3))
    odd = {**inputs, "ids/user": np.array([50, -7, 10**12]), "numbers/age": np.full(3, np.nan)}
    plain = {**inputs, "ids/user": np.zeros(3, dtype=np.int64), "numbers/age": np.full(3, SCALES["age"].mean)}
    np.testing.assert_array_equal(run(exported, odd), run(exported, plain))
    assert not np.allclose(run(exported, odd), run(exported, inputs))


@pytest.mark.slow
def test_the_vocabulary_tells_rows_and_labels(exported):
    told = json.loads((exported / "vocabulary.json").read_text(encoding="utf-8"))
    assert told["ids"]["user"]["user 1"] == 1
    assert len(told["ids"]["user"]) == 49
    assert told["lists"]["words"]["words 10"] == 10
    assert told["numbers"] == ["duration", "age"]
    assert told["labels"] == ["view", "click", "buy"]
    assert (told["unknown"], told["padding"]) == (0, -1)
    assert sorted(each.name for each in exported.iterdir()) == ["model.onnx", "vocabulary.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"chain": "esmm", "order": ("view", "click", "buy"), "shared_experts": 0},
        {"chain": "aitm", "order": ("view", "buy"), "levels": 2, "expert_kind": "shared-fm-scalar"},
    ],
    ids=["esmm", "aitm of two levels"],
)
def test_every_kind_of_network_is_exported(given, tmp_path):
    found = export([small_network(**ONE_LAYER, **given).eval()], encoding_of(), tmp_path / "served")
    assert found.rows == 512
    assert found.difference < 1e-5


@pytest.mark.slow
def test_columns_may_have_any_names_and_networks_one_label_each(tmp_path):
    """Names that the exporter gives to values, among them."""
    ids = tuple(Column(name, 5) for name in ("embedding", "val_0", "rows", "probabilities", "a b", "größe"))
    schemas = [Schema(ids, (), (), (label,)) for label in ("like", "follow")]
    networks = [small_network(schema, **ONE_LAYER).eval() for schema in schemas]
    export(networks, encoding_of(schemas[0]), tmp_path / "served")
    rows = np.arange(5, dtype=np.int64)
    found = run(tmp_path / "served", {f"ids/{each.name}": rows for each in ids})
    batch = random_batch(schemas[0], rows=5)
    batch = type(batch)(torch.from_numpy(rows)[:, None].expand(5, 6), batch.numbers, (), batch.labels)
    with torch.no_grad():
        expected = torch.cat([each.probabilities(batch) for each in networks], dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("difference", "told"), [(3e-4, "0.0003"), (float("nan"), "nan")])
def test_a_file_that_scores_differently_is_not_put_in_place(difference, told, model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_difference", lambda *_: difference)
    monkeypatch.setattr(exporting, "_write_model", lambda served, file: file.write_bytes(b"onnx"))
    with pytest.raises(CounterpointError, match=f"differ from the model's by {told}, more than 1e-05"):
        export([model], encoding_of(), tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_only_an_export_is_replaced(model, tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(UsageError, match="something else already"):
        export([model], encoding_of(), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "keep me"


def test_another_models_vocabulary_is_refused(model, tmp_path):
    encoding = encoding_of()
    encoding.vocabularies["video"].append("one more")
    with pytest.raises(CounterpointError, match="'video' has 91 rows in the vocabulary and 90 in the model"):
        export([model], encoding, tmp_path / "served")


def test_the_extra_is_named_where_it_is_missing(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(CounterpointError, match=r"pip install 'counterpoint\[onnx\]'"):
        export([model], encoding_of(), tmp_path / "served")
