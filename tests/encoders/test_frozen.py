import copy
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from counterpoint.encoders import frozen
from counterpoint.encoders.adapters import Lora
from counterpoint.encoders.frozen import StateCache, cache_key
from counterpoint.encoders.loading import load_encoder, restore_encoder
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.encoders.tokens import Texts
from counterpoint.errors import CounterpointError, UsageError

WITH_PARTS = ["bert", "roberta", "xlm-roberta", "distilbert", "electra"]
WITHOUT_PARTS = {"deberta-v2": "DebertaV2Model", "mpnet": "MPNetModel", "modernbert": "ModernBertModel"}

# Four articles, the second one without tokens; rows 3 and 0 are equally long.
OFFSETS = np.array([0, 5, 5, 8, 13])


def encoder_of(model, frozen_layers, **given):
    encoder = PretrainedEncoder(model, "mean", frozen_layers=frozen_layers, **given)
    encoder.precision = "fp32"
    return encoder.eval()


def tokens_of(row):
    return torch.arange(OFFSETS[row], OFFSETS[row + 1]) + 10


def blocks():
    """The articles shortest first, in two blocks."""
    yield np.array([2]), Texts(tokens_of(2), (3,))
    yield np.array([3, 0]), Texts(torch.cat([tokens_of(3), tokens_of(0)]), (5, 5))


@pytest.fixture
def encoder(make_model):
    return encoder_of(make_model("bert"), 1)


@pytest.fixture
def build(encoder, tmp_path):
    def make(**given):
        arguments = {"blocks": blocks(), "offsets": OFFSETS, **given}
        return StateCache.build(tmp_path / "cache", "key", encoder, **arguments)

    return make


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", WITH_PARTS)
def test_lower_and_upper_layers_give_what_the_whole_model_gives(
    name, layers, make_model, padded_states, titles
):
    model = make_model(name)
    expected = padded_states(copy.deepcopy(model), titles)
    encoder = encoder_of(model, layers)
    lower = encoder.lower(titles)
    assert (lower.shape, lower.dtype, lower.requires_grad) == (
        (len(titles.tokens), 32),
        torch.float32,
        False,
    )
    for states, vectors in (encoder(titles), encoder(titles, lower=lower)):
        torch.testing.assert_close(states, torch.cat(expected), rtol=1e-4, atol=1e-5)
        means = torch.stack([each.mean(0) for each in expected])
        torch.testing.assert_close(vectors, means, rtol=1e-4, atol=1e-5)


def test_the_states_given_are_those_that_are_used(encoder, titles):
    lower = encoder.lower(titles)
    assert not torch.allclose(encoder(titles, lower=-lower)[1], encoder(titles)[1])


def test_the_lower_states_are_the_hidden_states_of_that_layer(make_model):
    plain = make_model("bert")
    text = Texts(torch.tensor([7, 8, 9]), (3,))
    hidden = plain(input_ids=text.tokens[None], output_hidden_states=True).hidden_states
    for layers in (1, 2):
        lower = encoder_of(copy.deepcopy(plain), layers).lower(text)
        torch.testing.assert_close(lower, hidden[layers][0], rtol=1e-4, atol=1e-5)


def test_gradients_of_upper_layers_are_the_whole_models_and_others_have_none(
    make_model, padded_states, titles
):
    model = make_model("electra")
    plain = copy.deepcopy(model)
    weights = torch.randn(sum(titles.lengths), 32, generator=torch.Generator().manual_seed(2))
    (torch.cat(padded_states(plain, titles)) * weights).sum().backward()
    encoder = encoder_of(model, 1)
    (encoder(titles, lower=encoder.lower(titles))[0] * weights).sum().backward()
    seen = set()
    for name, value in model.named_parameters():
        upper = name.startswith("encoder.layer.1.")
        assert value.requires_grad is upper
        assert (value.grad is not None) is upper
        if upper:
            torch.testing.assert_close(value.grad, plain.get_parameter(name).grad, rtol=1e-3, atol=1e-4)
        seen.add(upper)
    assert seen == {True, False}


def test_dropout_of_frozen_layers_stays_off(make_model, titles):
    model = make_model("bert")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.3
    encoder = encoder_of(model, 1)
    still = encoder.lower(titles)
    encoder.train()
    assert encoder.training
    assert torch.equal(encoder.lower(titles), still)
    assert not torch.equal(encoder(titles)[1], encoder(titles)[1])
    assert torch.equal(encoder.eval()(titles)[1], encoder(titles)[1])


def test_bfloat16_lower_states_are_close_to_the_exact_ones(encoder, titles):
    exact = encoder.lower(titles)
    encoder.precision = "bf16"
    assert encoder.lower(titles).dtype == torch.float32
    assert 0 < (encoder.lower(titles) - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("name", WITHOUT_PARTS)
def test_a_model_whose_layers_cannot_be_run_alone_is_refused(name, make_model):
    with pytest.raises(UsageError) as error:
        encoder_of(make_model(name), 1)
    assert str(error.value) == (
        "encoder.frozen_layers needs layers that can be run on their own, which those of "
        f"{WITHOUT_PARTS[name]} cannot; set it to 0, or encoder.name to a BERT, RoBERTa, XLM-R, DistilBERT "
        "or ELECTRA."
    )


def test_a_model_with_more_between_its_layers_is_refused(make_model):
    model = make_model("bert")
    model.encoder.register_forward_pre_hook(lambda _, given: (2 * given[0], *given[1:]))
    with pytest.raises(UsageError, match=r"BertModel cannot; set it to 0"):
        encoder_of(model, 1)


@pytest.mark.parametrize("layers", [3, -1])
def test_more_frozen_layers_than_there_are_is_one_sentence(layers, make_model):
    with pytest.raises(
        UsageError,
        match=rf"^encoder\.frozen_layers is {layers}, but the encoder has 2 layers; "
        r"set it to a number from 0 to 2\.$",
    ):
        encoder_of(make_model("bert"), layers)


def test_adapters_go_into_the_layers_that_are_not_frozen(make_model, titles):
    model = make_model("bert")
    plain = copy.deepcopy(model)
    encoder = encoder_of(model, 1, lora=Lora(rank=2))
    names = [name for name, value in encoder.named_parameters() if value.requires_grad]
    assert len(names) == 4
    assert all(name.startswith("model.encoder.layer.1.attention.self.") and "lora_" in name for name in names)
    torch.testing.assert_close(encoder(titles), encoder_of(plain, 0)(titles), rtol=1e-4, atol=1e-5)
    with pytest.raises(
        UsageError,
        match=r"^encoder\.frozen_layers = 2 leaves no layer for encoder\.lora to adapt; "
        r"set it to 1 at most\.$",
    ):
        encoder_of(make_model("bert"), 2, lora=Lora(rank=2))


def test_lower_states_without_frozen_layers_are_a_mistake(make_model, titles):
    encoder = encoder_of(make_model("bert"), 0)
    with pytest.raises(ValueError, match="no layers are frozen"):
        encoder.lower(titles)
    with pytest.raises(ValueError, match="no layers are frozen"):
        encoder(titles, lower=torch.zeros(len(titles.tokens), 32))


def test_an_encoder_with_frozen_layers_is_saved_whole(tiny_encoder, titles, tmp_path):
    encoder = load_encoder(str(tiny_encoder), frozen_layers=1)
    assert encoder.base is None
    encoder.save_config(tmp_path)
    restored = restore_encoder(tmp_path, encoder.description())
    assert restored.frozen_layers == 1
    restored.load_state_dict(encoder.trained_state())
    assert torch.equal(restored.eval()(titles)[1], encoder.eval()(titles)[1])


def test_the_cache_returns_articles_in_the_order_asked_for(encoder, build):
    told = []
    cache = build(progress=lambda *given: told.append(given))
    assert told == [("frozen layers", 3, 13), ("frozen layers", 13, 13)]
    for rows in ([3, 0, 2], [2], [1, 2, 2], [1], []):
        states = cache.states(np.array(rows, dtype=np.int64))
        expected = [encoder.lower(Texts(tokens_of(row), (len(tokens_of(row)),))) for row in rows if row != 1]
        assert states.dtype == torch.float16
        assert states.shape == (sum(map(len, expected)), 32)
        if expected:
            torch.testing.assert_close(states.float(), torch.cat(expected), rtol=1e-3, atol=1e-4)


def test_the_upper_layers_run_on_cached_states(encoder, build):
    cache = build()
    texts = Texts(torch.cat([tokens_of(2), tokens_of(0)]), (3, 5))
    lower = cache.states(np.array([2, 0]))
    torch.testing.assert_close(encoder(texts, lower=lower), encoder(texts), rtol=5e-3, atol=5e-3)


def test_a_cache_is_opened_by_its_key_alone(build, tmp_path):
    folder = tmp_path / "cache"
    assert StateCache.open(folder, "key") is None
    built = build()
    rows = np.array([0, 2, 3])
    assert torch.equal(StateCache.open(folder, "key").states(rows), built.states(rows))
    assert StateCache.open(folder, "other") is None
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("name", ["states.npy", "offsets.npy", "cache.json"])
def test_a_broken_cache_is_no_cache_and_is_built_anew(name, build, tmp_path):
    build()
    file = tmp_path / "cache" / name
    whole = file.read_bytes()
    for broken in (whole[:-9], whole[:10], b""):
        file.write_bytes(broken)
        assert StateCache.open(tmp_path / "cache", "key") is None
    file.unlink()
    assert StateCache.open(tmp_path / "cache", "key") is None
    build()
    assert file.read_bytes() == whole


def test_a_cache_that_is_not_finished_leaves_the_older_one(build, tmp_path):
    older = build().states(np.array([0]))

    def interrupted():
        yield next(blocks())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(blocks=interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert torch.equal(StateCache.open(tmp_path / "cache", "key").states(np.array([0])), older)


def test_articles_that_are_missing_or_of_another_length_are_a_mistake(build, tmp_path):
    with pytest.raises(ValueError, match="2 articles were not given, among them 0"):
        build(blocks=[next(blocks())])
    with pytest.raises(ValueError, match="articles from 0 on have other lengths than the offsets say"):
        build(blocks=[(np.array([0]), Texts(tokens_of(2), (3,)))])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_one_sentence(build, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(frozen.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CounterpointError) as error:
        build()
    assert str(error.value) == (
        f"{tmp_path / 'cache'}: the frozen layers' states of 4 articles take 0.8 kB and 0.0 kB are free; "
        "free some space or set encoder.frozen_layers to 0."
    )
    assert list(tmp_path.iterdir()) == []


def test_states_that_float16_cannot_hold_are_one_sentence(encoder, build, tmp_path):
    with torch.no_grad():
        encoder.model.encoder.layer[0].output.LayerNorm.bias.fill_(1e5)
    with pytest.raises(CounterpointError) as error:
        build()
    assert str(error.value) == (
        f"{tmp_path / 'cache'}: the frozen layers give states beyond 65504, which float16 cannot hold; "
        "set encoder.frozen_layers to 0."
    )


def test_the_key_follows_what_the_states_depend_on_and_nothing_else(make_model):
    encoder = encoder_of(make_model("bert"), 1)
    key = cache_key(encoder, "tokens")
    with torch.no_grad():
        encoder.model.encoder.layer[1].output.dense.weight.zero_()
    assert cache_key(encoder, "tokens") == key
    assert cache_key(encoder_of(make_model("bert"), 1, lora=Lora(rank=2)), "tokens") == key
    keys = {key, cache_key(encoder, "other"), cache_key(encoder_of(make_model("bert"), 2), "tokens")}
    encoder.precision = "bf16"
    keys.add(cache_key(encoder, "tokens"))
    encoder.precision = "fp32"
    with torch.no_grad():
        encoder.model.encoder.layer[0].output.dense.weight[0, 0] += 1
    keys.add(cache_key(encoder, "tokens"))
    assert len(keys) == 5


def test_minilm_runs_from_its_fourth_layer(padded_states):
    lengths = (5, 9, 9, 14)
    texts = Texts(
        torch.randint(1000, 30000, (sum(lengths),), generator=torch.Generator().manual_seed(0)), lengths
    )
    plain, encoder = load_encoder("minilm"), load_encoder("minilm", frozen_layers=4)
    plain.precision = encoder.precision = "fp32"
    expected = plain.eval()(texts)[0]
    lower = encoder.eval().lower(texts)
    torch.testing.assert_close(encoder(texts, lower=lower)[0], expected, rtol=1e-4, atol=1e-4)
    # Kept as float16, as the cache does, they are ten times closer than bfloat16 products are.
    error = (encoder(texts, lower=lower.half())[0] - expected).norm() / expected.norm()
    encoder.precision = "bf16"
    half = (encoder(texts)[0] - expected).norm() / expected.norm()
    assert error < 5e-4
    assert error < half / 10
    trained = sum(value.numel() for value in encoder.parameters() if value.requires_grad)
    assert trained == 2 * (4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384)
