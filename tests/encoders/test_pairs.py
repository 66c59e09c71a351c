"""Pairs of texts that are encoded jointly: special tokens and segments as tokenizer and model have them."""

import copy

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from counterpoint.encoders.loading import load_tokenizer
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.encoders.tokens import Frame, Texts, Tokenizer
from counterpoint.sentences.batches import pack

PAIRS = [("a dog runs", "the dog is running fast"), ("yes", "no"), ("one two three", "two")]


def roberta_like():
    """A tokenizer whose pairs have two tokens between them and a single segment."""
    words = sorted({word for pair in PAIRS for text in pair for word in text.split()} | {"a"})
    vocabulary = {word: place for place, word in enumerate(["<s>", "</s>", "<unk>", *words])}
    backend = Backend(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=False)
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend), "roberta-like")


def framed(tokenizer, texts, second=None):
    pieces = [
        [np.array(each.ids) for each in tokenizer.encode(side, 64, special=False)]
        for side in (texts, second)
        if side is not None
    ]
    return pack(tokenizer.frame(), *pieces)


def each_of(packed, values):
    parts = torch.split(values, list(packed.texts.lengths))
    return [parts[place].tolist() for place in packed.places.tolist()]


@pytest.mark.parametrize("make", [lambda: load_tokenizer("minilm"), roberta_like], ids=["bert", "roberta"])
def test_a_frame_makes_what_the_tokenizer_makes(make):
    tokenizer = make()
    first, second = zip(*PAIRS, strict=True)
    single = framed(tokenizer, first)
    assert each_of(single, single.texts.tokens) == [each.ids for each in tokenizer.encode(first, 64)]
    assert single.texts.segments is None
    joint = framed(tokenizer, first, second)
    wanted = [tokenizer._backend.encode(*pair) for pair in PAIRS]
    assert each_of(joint, joint.texts.tokens) == [each.ids for each in wanted]
    assert list(joint.texts.lengths) == sorted(joint.texts.lengths)
    if joint.texts.segments is None:
        assert not any(any(each.type_ids) for each in wanted)
    else:
        assert each_of(joint, joint.texts.segments) == [each.type_ids for each in wanted]


def test_minilm_tells_the_two_apart():
    assert load_tokenizer("minilm").frame() == Frame(
        [101], [102], [[101], [102], [102]], [[0], [0], [1]], [0, 1]
    )


@pytest.mark.parametrize("name", ["bert", "electra", "distilbert", "mpnet"])
def test_pairs_get_the_states_of_the_ordinary_forward(name, make_model):
    model = make_model(name)
    plain = copy.deepcopy(model).eval()
    lengths, generator = (5, 7, 7), torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 100, (sum(lengths),), generator=generator)
    segments = torch.cat([(torch.arange(length) >= 3).long() for length in lengths])
    encoder = PretrainedEncoder(model, "cls").eval()
    encoder.precision = "fp32"
    states, vectors = encoder(Texts(tokens, lengths, segments))
    has_segments = name in ("bert", "electra")
    start = 0
    for number, length in enumerate(lengths):
        part = slice(start, start + length)
        kinds = {"token_type_ids": segments[part][None]} if has_segments else {}
        alone = plain(input_ids=tokens[part][None], **kinds).last_hidden_state[0]
        torch.testing.assert_close(states[part], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(vectors[number], alone[0], rtol=1e-4, atol=1e-5)
        start += length
    without = encoder(Texts(tokens, lengths))[0]
    assert torch.allclose(states, without) is not has_segments


def test_the_longest_text_is_what_the_model_has_positions_for(make_model):
    assert PretrainedEncoder(make_model("bert"), "cls").longest == 512
    assert PretrainedEncoder(make_model("roberta"), "cls").longest == 510
