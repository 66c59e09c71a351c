import copy
import inspect

import pytest
import torch
from torch import nn

from counterpoint.encoders import packing
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.encoders.tokens import Texts
from counterpoint.precision import bf16_is_fast

PACKED = ["bert", "roberta", "xlm-roberta", "distilbert", "electra"]
BY_LENGTH = ["deberta-v2", "mpnet", "modernbert"]


def pooled(states, pooling):
    return torch.stack([each.mean(0) if pooling == "mean" else each[0] for each in states])


def encoder_of(model, pooling="mean"):
    encoder = PretrainedEncoder(model, pooling)
    encoder.precision = "fp32"
    return encoder.eval()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("name", PACKED + BY_LENGTH)
def test_titles_get_the_vectors_of_the_ordinary_padded_forward(
    name, pooling, make_model, padded_states, titles
):
    model = make_model(name)
    expected = padded_states(copy.deepcopy(model), titles)
    states, vectors = encoder_of(model, pooling)(titles)
    torch.testing.assert_close(states, torch.cat(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors, pooled(expected, pooling), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PACKED + BY_LENGTH)
def test_gradients_are_those_of_the_ordinary_padded_forward(name, make_model, padded_states, titles):
    model = make_model(name)
    plain = copy.deepcopy(model)
    weights = torch.randn(len(titles), 32, generator=torch.Generator().manual_seed(2))
    (pooled(padded_states(plain, titles), "cls") * weights).sum().backward()
    (encoder_of(model, "cls")(titles)[1] * weights).sum().backward()
    wanted = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert wanted[name] is None or not wanted[name].any()
            continue
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", PACKED)
def test_packs_what_can_be_packed_into_one_call(name, make_model, titles):
    model = make_model(name)
    encoder = encoder_of(model)
    calls = []
    model.register_forward_pre_hook(
        lambda _, __, given: calls.append(given["input_ids"].shape), with_kwargs=True
    )
    encoder(titles)
    assert calls == [(1, len(titles.tokens))]


@pytest.mark.parametrize("name", BY_LENGTH)
def test_calls_other_models_once_for_each_length(name, make_model, titles):
    model = make_model(name)
    encoder = encoder_of(model)
    calls = []
    model.register_forward_pre_hook(
        lambda _, __, given: calls.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    encoder(titles)
    assert calls == [(1, 3), (3, 4), (1, 7), (2, 12), (1, 20)]


def test_a_pack_may_be_longer_than_the_longest_title_of_the_model(make_model, padded_states):
    model = make_model("bert")
    titles = Texts(torch.arange(1200) % 90 + 5, (4,) * 300)
    expected = torch.cat(padded_states(copy.deepcopy(model), titles))
    torch.testing.assert_close(encoder_of(model)(titles)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_title_gets_the_same_vector_in_any_company(make_model, titles):
    encoder = encoder_of(make_model("roberta"))
    together = encoder(titles)[1]
    for place, title in enumerate(titles.tokens.split(titles.lengths)):
        alone = encoder(Texts(title, (len(title),)))[1]
        torch.testing.assert_close(together[place : place + 1], alone, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_close_and_returned_as_float32(make_model, titles):
    encoder = encoder_of(make_model("bert"))
    exact_states, exact = encoder(titles)
    encoder.precision = "bf16"
    states, vectors = encoder(titles)
    assert states.dtype == vectors.dtype == torch.float32
    assert not torch.equal(vectors, exact)
    assert nn.functional.cosine_similarity(vectors, exact).min() > 0.999
    assert (states - exact_states).abs().mean() < 0.03


def test_auto_precision_follows_the_processor(make_model, titles, monkeypatch):
    encoder = encoder_of(make_model("bert"))
    exact = encoder(titles)[1]
    encoder.precision = "auto"
    for capability, half in (({"avx512_bf16": True}, True), ({"bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capability=capability: capability)
        assert bf16_is_fast(torch.device("cpu")) is half
        assert torch.equal(encoder(titles)[1], exact) is not half


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_drops_weights_and_keeps_their_mean(dtype):
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 6, 8).to(dtype)
    value = torch.ones(1, 2, 6, 8, dtype=dtype)
    attend = packing.packed_attention
    runs = ((0, 3, 2),)
    plain, none = attend(nn.Module(), query, key, value, None, text_runs=runs)
    assert none is None
    assert plain.shape == (1, 6, 2, 8)
    torch.testing.assert_close(plain.float(), torch.ones(1, 6, 2, 8), rtol=0.02, atol=0)
    dropped = torch.stack(
        [attend(nn.Module(), query, key, value, None, dropout=0.5, text_runs=runs)[0] for _ in range(200)]
    ).float()
    assert (dropped[0] != plain).any()
    torch.testing.assert_close(dropped.mean(0), torch.ones(1, 6, 2, 8), rtol=0.3, atol=0)


def test_attention_uses_the_given_scale():
    query, key, value = torch.randn(3, 1, 1, 4, 8, generator=torch.Generator().manual_seed(3))
    for dtype in (torch.float32, torch.bfloat16):
        states = [each.to(dtype) for each in (query, key, value)]
        given, _ = packing.packed_attention(nn.Module(), *states, None, scaling=0.0, text_runs=((0, 4, 1),))
        means = states[2].mean(2, keepdim=True).transpose(1, 2).expand(1, 4, 1, 8)
        torch.testing.assert_close(given, means, rtol=0.02, atol=0.01)


def test_dropout_acts_in_training_only(make_model, titles):
    model = make_model("bert")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    encoder = encoder_of(model)
    assert torch.equal(encoder(titles)[1], encoder(titles)[1])
    encoder.train()
    assert not torch.equal(encoder(titles)[1], encoder(titles)[1])


def test_the_trial_leaves_mode_and_attention_as_they_were(make_model):
    for name in ("bert", "modernbert"):
        model = make_model(name).train()
        own = model.config._attn_implementation
        encoder = PretrainedEncoder(model, "cls")
        assert model.training
        assert encoder._packs == (model.config._attn_implementation != own)


def test_a_model_that_drops_the_runs_is_not_packed(make_model, padded_states, titles):
    model = make_model("bert")
    plain = copy.deepcopy(model)
    forward = model.forward

    def without_runs(input_ids, position_ids=None, text_runs=None):
        return forward(input_ids=input_ids, position_ids=position_ids)

    model.forward = without_runs
    assert "position_ids" in inspect.signature(model.forward).parameters
    states, _ = encoder_of(model)(titles)
    torch.testing.assert_close(states, torch.cat(padded_states(plain, titles)), rtol=1e-4, atol=1e-5)
