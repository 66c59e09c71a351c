import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from counterpoint import balance
from counterpoint.errors import CounterpointError
from counterpoint.training.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from counterpoint.training.log import JsonLog
from counterpoint.training.loop import make_optimizer


@pytest.fixture
def trained(toy, batches, settings):
    """A toy, its optimizer and balancer after three steps."""

    def make(method="pcgrad", **given):
        model = toy()
        optimizer, balancer = make_optimizer(model, settings(**given)), balance.make(method)
        for number in range(3):
            balancer.backward(
                model.losses(batches().batch(0, number)), shared=model.shared_parameters(), target="a"
            )
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer, balancer

    return make


def test_weights_moments_and_balancer_come_back_exactly(trained, toy, settings, tmp_path):
    model, optimizer, balancer = trained()
    state = {"step": 3, "best": 0.1 + 0.2, "log_sizes": {"metrics": 5}, "stopped": False}
    save_checkpoint(tmp_path, model, optimizer, balancer.state_dict(), state)
    fresh = toy()
    restored = make_optimizer(fresh, settings())
    loop, of_balancer = load_checkpoint(tmp_path, fresh, restored)
    assert loop == state
    assert of_balancer == balancer.state_dict() != balance.make("pcgrad").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    mine, its = optimizer.state_dict(), restored.state_dict()
    assert mine["param_groups"] == its["param_groups"]
    assert list(mine["state"]) == list(its["state"])
    for index, entries in mine["state"].items():
        assert set(entries) == set(its["state"][index]) == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in entries.items():
            assert torch.equal(its["state"][index][name], value)
            assert its["state"][index][name].dtype == value.dtype


def test_any_state_of_a_balancer_comes_back(trained, toy, settings, tmp_path):
    model, optimizer, _ = trained()
    state = {
        "momentum": {"a": torch.randn(3), "b": [torch.zeros(2, 2), 0.1]},
        "history": torch.tensor([[0.1, 1e-300]], dtype=torch.float64),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "draws": 7,
        "name": None,
        "empty": {},
    }
    save_checkpoint(tmp_path, model, optimizer, state, {"step": 1})
    _, restored = load_checkpoint(tmp_path, model, optimizer)
    assert set(restored) == set(state)
    assert torch.equal(restored["momentum"]["a"], state["momentum"]["a"])
    assert torch.equal(restored["momentum"]["b"][0], torch.zeros(2, 2))
    assert restored["momentum"]["b"][1] == 0.1
    for name in ("history", "scalar"):
        assert torch.equal(restored[name], state[name])
        assert restored[name].dtype == torch.float64
    assert (restored["draws"], restored["name"], restored["empty"]) == (7, None, {})


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(trained, tmp_path):
    model, optimizer, _ = trained()
    assert load_checkpoint(tmp_path / "checkpoints", model, optimizer) is None
    (tmp_path / ".step-00000009.x.part").mkdir()
    assert load_checkpoint(tmp_path, model, optimizer) is None


def test_only_the_newest_checkpoint_stays_and_is_read(trained, tmp_path):
    model, optimizer, _ = trained()
    for step in (9, 10, 100):
        save_checkpoint(tmp_path, model, optimizer, {}, {"step": step})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000100"]
    shutil.copytree(tmp_path / "step-00000100", tmp_path / "step-00000020")
    assert load_checkpoint(tmp_path, model, optimizer)[0] == {"step": 100}


def test_no_checkpoint_is_half_written(trained, tmp_path, monkeypatch):
    from counterpoint.training import checkpoint

    model, optimizer, _ = trained()
    save_checkpoint(tmp_path, model, optimizer, {}, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(CounterpointError, match=r"step-00000002: writing failed \(No space left"):
        save_checkpoint(tmp_path, model, optimizer, {}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_checkpoint_cut_short_is_one_sentence(trained, tmp_path):
    model, optimizer, _ = trained()
    save_checkpoint(tmp_path, model, optimizer, {}, {"step": 1})
    file = tmp_path / "step-00000001" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CounterpointError, match=r"model\.safetensors: missing or cut short") as error:
        load_checkpoint(tmp_path, model, optimizer)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [None, 1, 99])
def test_a_checkpoint_of_another_version_is_one_sentence_and_changes_nothing(trained, tmp_path, version):
    model, optimizer, _ = trained()
    save_checkpoint(tmp_path, model, optimizer, {}, {"step": 1})
    file = tmp_path / "step-00000001" / "state.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "format": version}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with pytest.raises(
        CounterpointError, match=r"another version of Counterpoint; remove .* and train again"
    ):
        load_checkpoint(tmp_path, model, optimizer)
    assert not any(parameter.any() for parameter in model.parameters())


def test_weights_of_another_model_are_refused(toy, tmp_path):
    file = tmp_path / "model.safetensors"
    save_weights(torch.nn.Linear(2, 2), file)
    with pytest.raises(CounterpointError, match=r"belongs to another model .*use the recipe") as error:
        load_weights(toy(), file)
    assert "\n" not in str(error.value)


def test_tied_parameters_can_be_saved(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "model.safetensors")
    weight = model[0].weight.detach().clone()
    torch.nn.init.zeros_(model[0].weight)
    load_weights(model, tmp_path / "model.safetensors")
    assert torch.equal(model[1].weight, weight)


class Adapted(torch.nn.Module):
    """A module whose first layer stands elsewhere."""

    def __init__(self):
        super().__init__()
        self.base, self.adapter = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def unsaved(self):
        return {"base.weight", "base.bias"}


@pytest.mark.parametrize("depth", [0, 2])
def test_what_stands_elsewhere_is_neither_saved_nor_loaded(depth, tmp_path):
    def nested():
        module = Adapted()
        for _ in range(depth):
            module = torch.nn.Sequential(torch.nn.Linear(2, 2), module)
        return module

    model, other, file = nested(), nested(), tmp_path / "model.safetensors"
    save_weights(model, file)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    load_weights(other, file)
    for name, value in other.state_dict().items():
        elsewhere = "base." in name
        assert torch.equal(value, (before if elsewhere else model.state_dict())[name])
        assert (name in load_file(file)) is not elsewhere


def test_a_module_under_two_names_is_saved_without_what_stands_elsewhere(tmp_path):
    file, module = tmp_path / "model.safetensors", Adapted()
    model = torch.nn.ModuleDict({"title": module, "body": module})
    save_weights(model, file)
    assert set(load_file(file)) == {
        f"{field}.adapter.{part}" for field in ("title", "body") for part in ("weight", "bias")
    }
    adapter = module.adapter.weight.detach().clone()
    torch.nn.init.zeros_(module.adapter.weight)
    load_weights(model, file)
    assert torch.equal(module.adapter.weight, adapter)


def test_a_file_that_holds_what_stands_elsewhere_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(Adapted().state_dict(), file)
    with pytest.raises(CounterpointError, match=r"model \(it holds base\.bias, which stands elsewhere\)"):
        load_weights(Adapted(), file)


def test_a_log_is_cut_back_and_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLog(path)
    log.write({"step": 1, "loss": {"a": float("nan"), "b": 1 / 3}})
    size = log.size()
    log.write({"step": 2})
    # Every line is in the file at once: a process may be killed at any time.
    assert len(path.read_text().splitlines()) == 2
    log.close()
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    log = JsonLog(path, size)
    log.write({"step": 2, "again": True})
    log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": {"a": None, "b": 0.3333333}},
        {"step": 2, "again": True},
    ]
