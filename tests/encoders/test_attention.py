import torch

from counterpoint.encoders.attention import AdditiveAttention
from counterpoint.encoders.tokens import Texts


def test_weights_are_those_of_equation_one():
    attention = AdditiveAttention(size=2, query_size=2)
    with torch.no_grad():
        attention.project.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        attention.query.copy_(torch.tensor([1.0, -1.0]))
    vectors = torch.tensor([[0.5, 0.0], [0.0, 0.5], [1.0, 1.0]])
    # tanh(0.5) = 0.46212, tanh(1) = 0.76159, tanh(2) = 0.96403
    logits = attention.logits(vectors)
    torch.testing.assert_close(
        logits, torch.tensor([0.46212, -0.76159, 0.76159 - 0.96403]), atol=1e-5, rtol=0
    )
    weights = attention.weights(logits[None], torch.tensor([[True, True, True]]))
    # e^0.46212 = 1.58743, e^-0.76159 = 0.46692, e^-0.20244 = 0.81674
    expected = torch.tensor([[1.58743, 0.46692, 0.81674]]) / 2.87109
    torch.testing.assert_close(weights, expected, atol=1e-5, rtol=0)


def test_weights_sum_to_one_and_padding_gets_none():
    torch.manual_seed(0)
    attention = AdditiveAttention(4, 3)
    real = torch.tensor([[True, True, False, False], [True, True, True, True], [False] * 4])
    weights = attention.weights(1e4 * torch.randn(3, 4), real)
    assert (weights[~real] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 0.0]))


def test_packed_texts_are_pooled_each_by_itself():
    torch.manual_seed(0)
    attention = AdditiveAttention(size=4, query_size=3)
    texts = Texts(torch.zeros(10, dtype=torch.long), (1, 3, 3, 3))
    states = torch.randn(10, 4)
    pooled = attention.pool(states, texts)
    for vector, text in zip(pooled, states.split(texts.lengths), strict=True):
        torch.testing.assert_close(vector, torch.softmax(attention.logits(text), 0) @ text)
    torch.testing.assert_close(pooled[0], states[0])
