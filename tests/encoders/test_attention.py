import pytest
import torch

from counterpoint.encoders.attention import AdditiveAttention
from counterpoint.news.models.readers import AttentiveReader


@pytest.fixture
def reader() -> AttentiveReader:
    torch.manual_seed(0)
    reader = AttentiveReader(size=2, query_size=2)
    torch.nn.init.normal_(reader.cold)
    return reader


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


def test_reader_is_the_weighted_sum_of_the_history(reader):
    articles = torch.randn(5, 2)
    history = torch.tensor([[3, 1, 3], [4, -1, -1]])
    vectors, weights = reader(articles, history)
    logits = reader.attention.logits(articles)
    expected = torch.softmax(logits[[3, 1, 3]], 0)
    torch.testing.assert_close(weights[0], expected)
    torch.testing.assert_close(vectors[0], expected @ articles[[3, 1, 3]])
    torch.testing.assert_close(vectors[1], articles[4])
    assert weights[1].tolist() == [1, 0, 0]


def test_known_logits_and_more_padding_change_nothing(reader):
    articles = torch.randn(5, 2)
    history = torch.tensor([[3, 1], [4, -1], [-1, -1]])
    vectors, weights = reader(articles, history)
    further = torch.cat([history, torch.full((3, 2), -1)], 1)
    again, longer = reader(articles, further, reader.attention.logits(articles))
    torch.testing.assert_close(again, vectors)
    torch.testing.assert_close(longer[:, :2], weights)


def test_padding_is_not_the_article_it_is_looked_up_as(reader):
    articles = torch.randn(5, 2)
    other = articles.clone()
    other[0] = 1e6
    history = torch.tensor([[3, 1, -1]])
    assert torch.equal(reader(articles, history)[0], reader(other, history)[0])


@pytest.mark.parametrize("places", [0, 3])
def test_readers_without_history_get_the_cold_vector_and_train_it(reader, places):
    articles = torch.randn(5, 2, requires_grad=True)
    vectors, weights = reader(articles, torch.full((2, places), -1))
    assert torch.equal(vectors, reader.cold.expand(2, 2))
    assert weights.shape == (2, places)
    assert not weights.any()
    vectors.sum().backward()
    assert reader.cold.grad.tolist() == [2, 2]
    assert articles.grad is None or not articles.grad.any()


def test_gradients_are_finite_where_some_readers_are_cold(reader):
    articles = torch.randn(5, 2, requires_grad=True)
    reader(articles, torch.tensor([[1, 2], [-1, -1]]))[0].square().sum().backward()
    for gradient in (articles.grad, *(parameter.grad for parameter in reader.parameters())):
        assert gradient.isfinite().all()
        assert gradient.any()
