import math

import pytest
import torch
from torch import nn

from counterpoint.encoders.attention import MultiHeadSelfAttention, blocks
from counterpoint.encoders.shallow import ConvolutionEncoder, SelfAttentionEncoder
from counterpoint.encoders.tokens import Texts

ENCODERS = {
    "convolution": lambda words: ConvolutionEncoder(words, size=6, window=3, query_size=4),
    "wide convolution": lambda words: ConvolutionEncoder(words, size=6, window=5, query_size=4),
    "self-attention": lambda words: SelfAttentionEncoder(words, heads=2, head_size=3, query_size=4),
}


@pytest.fixture(params=ENCODERS)
def encoder(request) -> nn.Module:
    torch.manual_seed(0)
    return ENCODERS[request.param](nn.Embedding(100, 8)).eval()


@pytest.fixture
def attend() -> MultiHeadSelfAttention:
    torch.manual_seed(0)
    return MultiHeadSelfAttention(size_in=6, heads=2, head_size=3)


def one_by_one(texts):
    return texts.tokens.split(texts.lengths)


def weighted(attention, states):
    """Additive attention over one text, written out."""
    logits = [float(attention.query @ torch.tanh(attention.project.weight @ state)) for state in states]
    total = sum(math.exp(logit) for logit in logits)
    return sum(math.exp(logit) / total * state for logit, state in zip(logits, states, strict=True))


@pytest.mark.parametrize("window", [1, 3, 5])
def test_convolution_is_each_word_with_its_neighbours_of_the_same_text(titles, window):
    torch.manual_seed(0)
    encoder = ConvolutionEncoder(nn.Embedding(100, 8), size=6, window=window, query_size=4).eval()
    reach = window // 2
    expected, pooled = [], []
    with torch.no_grad():
        for tokens in one_by_one(titles):
            words = encoder.words.weight[tokens]
            states = []
            for place in range(len(tokens)):
                state = encoder.convolution.bias.clone()
                for step in range(-reach, reach + 1):
                    if 0 <= place + step < len(tokens):
                        state += encoder.convolution.weight[:, :, step + reach] @ words[place + step]
                states.append(state.clamp(min=0))
            expected += states
            pooled.append(weighted(encoder.attention, states))
        states, vectors = encoder(titles)
    assert encoder.size == 6
    torch.testing.assert_close(states, torch.stack(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(vectors, torch.stack(pooled), rtol=1e-5, atol=1e-5)


def test_self_attention_encoder_is_each_text_alone_through_torchs_own_attention(titles):
    torch.manual_seed(0)
    encoder = SelfAttentionEncoder(nn.Embedding(100, 6), heads=2, head_size=3, query_size=4).eval()
    own = as_torch(encoder.attend)
    with torch.no_grad():
        states, vectors = encoder(titles)
        expected = []
        for tokens in one_by_one(titles):
            words = encoder.words.weight[tokens][None]
            expected.append(own(words, words, words)[0][0])
        pooled = [weighted(encoder.attention, text) for text in expected]
    assert encoder.size == 6
    torch.testing.assert_close(states, torch.cat(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(vectors, torch.stack(pooled), rtol=1e-5, atol=1e-5)


def test_a_text_gets_the_same_vector_in_any_company(encoder, titles):
    with torch.no_grad():
        states, vectors = encoder(titles)
        start = 0
        for number, tokens in enumerate(one_by_one(titles)):
            alone, vector = encoder(Texts(tokens, (len(tokens),)))
            torch.testing.assert_close(states[start : start + len(tokens)], alone, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(vectors[number], vector[0], rtol=1e-5, atol=1e-6)
            start += len(tokens)


def test_another_text_of_the_same_length_changes_nothing(encoder, titles):
    other = titles.tokens.clone()
    other[3:7] = 99  # the first of three texts with four tokens
    with torch.no_grad():
        before, after = encoder(titles), encoder(Texts(other, titles.lengths))
    changed = torch.zeros(len(titles), dtype=torch.bool)
    changed[1] = True
    assert torch.equal(before[1][~changed], after[1][~changed])
    assert not torch.equal(before[1][changed], after[1][changed])
    assert torch.equal(before[0][7:], after[0][7:])


def test_a_text_of_one_special_token_has_a_vector(encoder):
    states, vectors = encoder(Texts(torch.zeros(2, dtype=torch.long), (1, 1)))
    assert states.shape == vectors.shape == (2, 6)
    assert vectors.isfinite().all()
    torch.testing.assert_close(vectors, states)


def test_every_parameter_learns_and_only_words_of_the_texts_do(encoder, titles):
    states, vectors = encoder.train()(titles)
    (states.square().sum() + vectors.square().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    met = encoder.words.weight.grad.any(1).nonzero().flatten()
    assert set(met.tolist()) <= set(titles.tokens.tolist())


def test_gradients_are_the_same_bit_for_bit(encoder, titles):
    both = []
    for _ in range(2):
        encoder.zero_grad()
        encoder(titles)[1].square().sum().backward()
        both.append([parameter.grad.clone() for parameter in encoder.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*both, strict=True))


def test_dropout_is_there_while_training_only(encoder, titles):
    assert torch.equal(encoder(titles)[1], encoder(titles)[1])
    encoder.train()
    assert not torch.equal(encoder(titles)[1], encoder(titles)[1])
    encoder.dropout.p = 0.0
    expected = encoder(titles)[1]
    torch.testing.assert_close(encoder.eval()(titles)[1], expected)


def test_dropout_follows_the_words_and_the_layer_above_them(encoder, titles):
    encoder.dropout.p = 1.0
    states, vectors = encoder.train()(titles)
    assert not states.any()
    assert not vectors.any()
    seen = []
    encoder.dropout.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    encoder(titles)
    assert seen == [8, 6]


def test_blocks_hold_equally_long_texts(titles):
    states = torch.arange(2.0 * len(titles.tokens)).view(-1, 2)
    cut = list(blocks(states, titles))
    assert [tuple(block.shape) for block in cut] == [(1, 3, 2), (3, 4, 2), (1, 7, 2), (2, 12, 2), (1, 20, 2)]
    assert torch.equal(torch.cat([block.flatten(0, 1) for block in cut]), states)


def as_torch(attend: MultiHeadSelfAttention) -> nn.MultiheadAttention:
    """Torch's own attention with the same weights and no projection of the joined heads."""
    own = nn.MultiheadAttention(attend.size, attend.heads, bias=False, batch_first=True).eval()
    with torch.no_grad():
        own.in_proj_weight.copy_(torch.cat([attend.query.weight, attend.key.weight, attend.value.weight]))
        own.out_proj.weight.copy_(torch.eye(attend.size))
    return own


def test_one_head_of_hand_computed_attention():
    attend = MultiHeadSelfAttention(size_in=1, heads=1, head_size=4)
    with torch.no_grad():
        for layer, numbers in (
            (attend.query, [1.0] * 4),
            (attend.key, [0.5] * 4),
            (attend.value, [1.0, 2, 3, 4]),
        ):
            layer.weight.copy_(torch.tensor(numbers)[:, None])
    mixed = attend(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[True, True]]))
    # Logits qᵀk/√4: the first entry's 1, 2, the second's 2, 4, so the second entry weighs σ(1) and σ(2).
    expected = torch.tensor([1.73106, 1.88080])[:, None] * torch.tensor([1.0, 2, 3, 4])
    torch.testing.assert_close(mixed[0], expected, rtol=0, atol=1e-4)


def test_padded_sets_get_what_torchs_own_attention_gives_each_alone(attend):
    vectors, real = (
        torch.randn(4, 5, 6),
        torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 1], [0] * 5]) > 0,
    )
    mixed, own = attend(vectors, real), as_torch(attend)
    for row in range(3):
        alone = vectors[row, real[row]][None]
        torch.testing.assert_close(
            mixed[row, real[row]], own(alone, alone, alone)[0][0], rtol=1e-5, atol=1e-5
        )
    assert (mixed[~real] == 0).all()


def test_what_stands_in_padding_changes_nothing(attend):
    vectors, real = torch.randn(3, 4, 6), torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0] * 4]) > 0
    other = torch.where(real[..., None], vectors, 1e4)
    assert torch.equal(attend(vectors, real), attend(other, real))
    longer = torch.cat([vectors, torch.randn(3, 2, 6)], 1)
    further = attend(longer, torch.cat([real, torch.zeros(3, 2, dtype=torch.bool)], 1))
    torch.testing.assert_close(further[:, :4], attend(vectors, real))
    assert not further[:, 4:].any()


def test_sets_of_padding_alone_give_zeros_and_no_gradient(attend):
    vectors = torch.randn(2, 3, 6, requires_grad=True)
    attend(vectors, torch.tensor([[True, True, False], [False] * 3])).square().sum().backward()
    assert vectors.grad[0, :2].all()
    assert not vectors.grad[0, 2].any()
    assert not vectors.grad[1].any()
    for parameter in attend.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_no_entries_and_no_sets_are_no_error(attend, shape):
    vectors = torch.randn(*shape, 6, requires_grad=True)
    mixed = attend(vectors, torch.zeros(shape, dtype=torch.bool))
    assert mixed.shape == (*shape, 6)
    mixed.sum().backward()


def test_other_sets_are_attended_to_as_torchs_own_attention_does(attend):
    vectors, others = torch.randn(3, 2, 6), torch.randn(3, 4, 6)
    real = torch.tensor([[True, True], [True, False], [True, True]])
    there = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [0] * 4]) > 0
    mixed, own = attend(vectors, real, (others, there)), as_torch(attend)
    for row in range(2):
        alone, over = vectors[row, real[row]][None], others[row, there[row]][None]
        torch.testing.assert_close(mixed[row, real[row]], own(alone, over, over)[0][0], rtol=1e-5, atol=1e-5)
    assert not mixed[1, 1].any()
    assert not mixed[2].any()


def test_heads_may_be_larger_together_than_the_entries():
    attend = MultiHeadSelfAttention(size_in=6, heads=20, head_size=20)
    assert attend.size == 400
    assert attend(torch.randn(2, 3, 6), torch.ones(2, 3, dtype=torch.bool)).shape == (2, 3, 400)
