import copy
import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from counterpoint import balance
from counterpoint.encoders.adapters import Base, Lora, fingerprint
from counterpoint.encoders.loading import load_encoder, restore_encoder
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.runs.recipe import Training
from counterpoint.training.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from counterpoint.training.loop import make_optimizer

PROJECTIONS = {
    "bert": "attention.self.{query,value}",
    "roberta": "attention.self.{query,value}",
    "xlm-roberta": "attention.self.{query,value}",
    "distilbert": "attention.{q_lin,v_lin}",
    "electra": "attention.self.{query,value}",
    "deberta-v2": "attention.self.{query_proj,value_proj}",
    "mpnet": "attention.attn.{q,v}",
}
STACKS = {"distilbert": "transformer.layer"}


def adapted_encoder(model, lora, **given):
    encoder = PretrainedEncoder(model, "mean", lora=lora, **given)
    encoder.precision = "fp32"
    return encoder.eval()


def trained(module):
    return [name for name, value in module.named_parameters() if value.requires_grad]


def draw_adapters(encoder, seed=5):
    """Give the adapters' second factors, which begin as zero, some values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if ".lora_B." in name:
                value.normal_(generator=generator)


class Model(nn.Module):
    """An encoder and two heads."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        torch.manual_seed(11)
        self.heads = nn.ModuleDict({task: nn.Linear(encoder.size, 1) for task in "ab"})

    def shared_parameters(self):
        return (value for value in self.encoder.parameters() if value.requires_grad)

    def losses(self, texts):
        vectors = self.encoder(texts)[1]
        wanted = torch.arange(len(texts)) / len(texts) - 0.5
        return {
            "a": (self.heads["a"](vectors)[:, 0] - wanted).square().mean(),
            "b": (self.heads["b"](vectors)[:, 0] + wanted).square().mean(),
        }


@pytest.mark.parametrize("name", PROJECTIONS)
def test_adapters_of_queries_and_values_begin_as_the_base(name, make_model, titles):
    model = make_model(name)
    plain = PretrainedEncoder(copy.deepcopy(model), "mean")
    plain.precision = "fp32"
    encoder = adapted_encoder(model, Lora(rank=3))
    assert encoder._packs == plain._packs == (name not in ("deberta-v2", "mpnet"))
    for mine, its in zip(encoder(titles), plain.eval()(titles), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)
    place, names = PROJECTIONS[name].rstrip("}").split("{")
    assert sorted(trained(encoder)) == sorted(
        f"model.{STACKS.get(name, 'encoder.layer')}.{layer}.{place}{each}.lora_{factor}.default.weight"
        for layer in (0, 1)
        for each in names.split(",")
        for factor in "AB"
    )


def test_adapters_of_all_linear_layers_leave_embeddings_and_norms(make_model):
    encoder = adapted_encoder(make_model("bert"), Lora(rank=3, targets="linear"))
    adapted = {name.rpartition(".lora_A")[0] for name in trained(encoder) if ".lora_A." in name}
    layer = ["self.query", "self.key", "self.value", "output.dense"]
    assert adapted == {
        f"model.encoder.layer.{number}.{each}"
        for number in (0, 1)
        for each in (*(f"attention.{part}" for part in layer), "intermediate.dense", "output.dense")
    }
    assert all("lora_" in name for name in trained(encoder))


def test_a_model_with_queries_keys_and_values_in_one_matrix_is_refused(make_model):
    with pytest.raises(
        UsageError,
        match=r"^encoder\.lora finds no query and value projections in the layers of ModernBertModel \(known "
        r"names: query, .*\); set encoder\.lora\.targets to 'linear'\.$",
    ):
        PretrainedEncoder(make_model("modernbert"), "cls", lora=Lora())
    assert trained(adapted_encoder(make_model("modernbert"), Lora(targets="linear")))


def test_a_model_without_a_list_of_layers_is_refused(make_model):
    model = make_model("bert")
    model.config.num_hidden_layers = 3
    for given in ({"lora": Lora()}, {"frozen_layers": 1}):
        with pytest.raises(
            UsageError,
            match=r"^encoder\.lora and encoder\.frozen_layers need a list of transformer blocks, and "
            r"BertModel has none for its 3 layers; leave both out or choose another encoder\.name\.$",
        ):
            PretrainedEncoder(model, "cls", **given)


@pytest.mark.parametrize(("rank_stabilised", "scale"), [(False, 6 / 4), (True, 6 / 4**0.5)])
def test_states_and_gradients_are_those_of_the_changed_weights(
    rank_stabilised, scale, make_model, padded_states, titles
):
    plain = make_model("bert")
    encoder = adapted_encoder(copy.deepcopy(plain), Lora(4, 6.0, rank_stabilised))
    draw_adapters(encoder)
    weights = torch.randn(sum(titles.lengths), 32, generator=torch.Generator().manual_seed(2))
    states = encoder(titles)[0]
    (states * weights).sum().backward()

    # The second way: W + s B A put into the plain model, which runs on padded texts.
    adapters = {
        name.removeprefix("model."): value.detach().clone().requires_grad_()
        for name, value in encoder.named_parameters()
        if value.requires_grad
    }
    changed = {}
    for name in (name for name in adapters if ".lora_A." in name):
        place = name.partition(".lora_A.")[0]
        first, second = adapters[name], adapters[name.replace("lora_A", "lora_B")]
        changed[f"{place}.weight"] = plain.get_parameter(f"{place}.weight") + scale * second @ first
    assert len(changed) == 4
    called = copy.copy(plain)
    called.forward = lambda **given: torch.func.functional_call(plain, changed, kwargs=given)
    expected = torch.cat(padded_states(called, titles))
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)
    (expected * weights).sum().backward()
    for name, value in adapters.items():
        assert value.grad.any()
        torch.testing.assert_close(encoder.model.get_parameter(name).grad, value.grad, rtol=1e-3, atol=1e-4)
    assert all(value.grad is None for value in encoder.parameters() if not value.requires_grad)


def test_dropout_of_adapters_acts_in_training_only(make_model, titles):
    encoder = adapted_encoder(make_model("bert"), Lora(dropout=0.5))
    draw_adapters(encoder)
    assert torch.equal(encoder(titles)[1], encoder(titles)[1])
    encoder.train()
    assert not torch.equal(encoder(titles)[1], encoder(titles)[1])


def test_gradients_of_adapters_alone_are_balanced(make_model, titles):
    encoder = adapted_encoder(make_model("bert"), Lora(rank=2))
    draw_adapters(encoder)
    model = Model(encoder)
    shared = list(model.shared_parameters())
    rows = torch.stack(
        [
            torch.cat([part.flatten() for part in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in model.losses(titles).values()
        ]
    )
    assert rows[0] @ rows[1] < 0
    report = balance.make("pcgrad").backward(
        model.losses(titles), shared=model.shared_parameters(), heads=model.parameters()
    )
    assert report.conflicts.any()
    merged = torch.cat([value.grad.flatten() for value in shared])
    # Two tasks: each loses its part along the other, whatever the order.
    dot = rows[0] @ rows[1]
    expected = (1 - dot / rows[0].square().sum()) * rows[0] + (1 - dot / rows[1].square().sum()) * rows[1]
    ratio = merged.norm() / expected.norm()  # the mean or the sum of the tasks
    torch.testing.assert_close(merged, ratio * expected, rtol=1e-3, atol=1e-5)
    assert all((value.grad is None) != value.requires_grad for value in model.parameters())


def test_adapters_come_back_exactly_without_their_base(tiny_encoder, titles, tmp_path):
    encoder = load_encoder(str(tiny_encoder), lora=Lora(rank=2, alpha=3.0, rank_stabilised=True))
    draw_adapters(encoder)
    model = Model(encoder)
    save_weights(model, tmp_path / "model.safetensors")
    encoder.save_config(tmp_path / "encoder")
    description = json.loads(json.dumps(encoder.description()))
    restored = restore_encoder(tmp_path / "encoder", description)
    assert (restored.lora, restored.base, restored.pooling) == (encoder.lora, encoder.base, "cls")
    again = Model(restored)
    nn.init.zeros_(again.heads["a"].weight)
    load_weights(again, tmp_path / "model.safetensors")
    assert torch.equal(again.eval().encoder(titles)[1], model.eval().encoder(titles)[1])
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_only_adapters_and_heads_are_in_the_file(tiny_encoder, tmp_path):
    whole, file = Model(load_encoder(str(tiny_encoder))), tmp_path / "model.safetensors"
    save_weights(whole, tmp_path / "whole.safetensors")
    assert whole.encoder.trained_state().keys() == whole.encoder.state_dict().keys()
    model = Model(load_encoder(str(tiny_encoder), lora=Lora(rank=2)))
    save_weights(model, file)
    adapters = model.encoder.trained_state()
    assert set(load_file(file)) == {
        *(f"encoder.{name}" for name in adapters),
        *(f"heads.{task}.{part}" for task in "ab" for part in ("weight", "bias")),
    }
    # Two layers, queries and values, two factors of 2 × 32 each.
    assert sum(value.numel() for value in adapters.values()) == 2 * 2 * 2 * 64
    assert file.stat().st_size < 0.01 * (tmp_path / "whole.safetensors").stat().st_size


def test_a_file_with_too_little_or_too_much_is_refused(tiny_encoder, tmp_path):
    model, file = Model(load_encoder(str(tiny_encoder), lora=Lora(rank=2))), tmp_path / "model.safetensors"
    save_weights(model, file)
    saved = load_file(file)
    base = "encoder.model.embeddings.LayerNorm.weight"
    assert base in model.state_dict()
    adapter = next(name for name in saved if "lora_A" in name)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for wrong in (
        {name: value for name, value in saved.items() if name != adapter},
        {**saved, base: torch.zeros(32)},
        {**saved, "more": torch.zeros(1)},
    ):
        save_file(wrong, file)
        with pytest.raises(CounterpointError, match="belongs to another model") as error:
            load_weights(model, file)
        assert "\n" not in str(error.value)
        assert torch.equal(model.state_dict()[base], before[base])


def test_training_goes_on_bit_for_bit_from_a_checkpoint_without_the_base(tiny_encoder, titles, tmp_path):
    def fresh():
        torch.manual_seed(3)
        model = Model(load_encoder(str(tiny_encoder), lora=Lora(rank=2)))
        return model, make_optimizer(model, Training(learning_rate=1e-2)), balance.make("pcgrad")

    def steps(number, model, optimizer, balancer):
        for _ in range(number):
            balancer.backward(model.losses(titles), shared=model.shared_parameters())
            optimizer.step()
            optimizer.zero_grad()

    through = fresh()
    steps(4, *through)
    first = fresh()
    steps(2, *first)
    save_checkpoint(tmp_path, first[0], first[1], first[2].state_dict(), {"step": 2})
    model, optimizer, balancer = fresh()
    draw_adapters(model)
    balancer.load_state_dict(load_checkpoint(tmp_path, model, optimizer)[1])
    steps(2, model, optimizer, balancer)
    for name, value in through[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    stored = load_file(tmp_path / "step-00000002" / "model.safetensors")
    assert not any("base_layer" in name or "embeddings" in name for name in stored)


def test_a_run_from_before_there_were_adapters_still_loads(tiny_encoder, titles, tmp_path):
    encoder = load_encoder(str(tiny_encoder))
    encoder.save_config(tmp_path)
    restored = restore_encoder(tmp_path, {"pooling": "cls", "tokenizer": {}, "labels": {}})
    assert (restored.lora, restored.frozen_layers, restored.base) == (None, 0, None)
    restored.load_state_dict(encoder.state_dict())
    assert torch.equal(restored.eval()(titles)[1], encoder.eval()(titles)[1])


def test_adapters_on_random_weights_are_saved_with_them(tiny_encoder, titles, tmp_path):
    encoder = load_encoder(str(tiny_encoder), lora=Lora(rank=2), random_weights=True)
    assert encoder.base is None
    assert encoder.unsaved() == set()
    draw_adapters(encoder)
    encoder.save_config(tmp_path)
    restored = restore_encoder(tmp_path, encoder.description())
    restored.load_state_dict(encoder.trained_state())
    assert torch.equal(restored.eval()(titles)[1], encoder.eval()(titles)[1])


def test_another_base_under_the_same_name_is_refused(tiny_encoder, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_encoder, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder("base", lora=Lora(rank=2))
    assert encoder.base.name == str(folder)
    encoder.save_config(tmp_path / "encoder")
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"][3] += 1e-6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    now = load_encoder("base", lora=Lora(rank=2)).base.fingerprint
    with pytest.raises(CounterpointError) as error:
        restore_encoder(tmp_path / "encoder", encoder.description())
    assert str(error.value) == (
        f"{tmp_path / 'encoder'}: the adapters were trained on another base model ({folder}, fingerprint "
        f"{encoder.base.fingerprint}), {folder} here is {now}; bring the original back or train again."
    )


def test_a_base_that_is_gone_is_named(tiny_encoder, tmp_path):
    gone = str(tmp_path / "gone")
    encoder = load_encoder(str(tiny_encoder), lora=Lora(rank=2))
    encoder.save_config(tmp_path / "encoder")
    description = {
        **encoder.description(),
        "base": {"name": gone, "revision": "v1", "fingerprint": ""},
    }
    with pytest.raises(CounterpointError) as error:
        restore_encoder(tmp_path / "encoder", description)
    told = str(error.value)
    assert told.startswith(f"encoder {gone!r} cannot be loaded from the hub (is this machine offline?): ")
    assert told.endswith(
        f"; the adapters in {tmp_path / 'encoder'} need the model that they were trained on, bring it back."
    )
    assert "\n" not in told


def test_the_fingerprint_sees_names_shapes_types_and_values_but_no_order():
    parameters = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([3.0])}
    own = fingerprint(parameters)
    assert len(own) == 16
    assert int(own, 16) >= 0
    assert fingerprint(dict(reversed(parameters.items()))) == own
    assert fingerprint({"a": torch.tensor([[1.0], [2.0]]).T, "b": parameters["b"]}) == own
    others = [
        {"a": parameters["a"], "c": parameters["b"]},
        {"a": parameters["a"].T, "b": parameters["b"]},
        {"a": parameters["a"].int(), "b": parameters["b"]},
        {"a": torch.tensor([[1.0, -2.0]]), "b": parameters["b"]},
        {"a": parameters["a"]},
    ]
    assert len({own, *map(fingerprint, others)}) == 6


def test_the_fingerprint_of_minilm_does_not_depend_on_what_is_trained():
    encoder = load_encoder("minilm", lora=Lora(), frozen_layers=2)
    assert encoder.base == Base(
        "minilm", None, load_encoder("minilm", lora=Lora(targets="linear")).base.fingerprint
    )
    assert sum(value.numel() for value in encoder.trained_state().values()) == 4 * 2 * 2 * 16 * 384


@pytest.mark.slow
def test_peft_is_imported_for_adapters_alone(tiny_encoder):
    code = (
        "import sys; from counterpoint.encoders.loading import load_encoder; "
        f"load_encoder({str(tiny_encoder)!r}, frozen_layers=1); assert 'peft' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
