import math

import numpy as np
import pytest
import torch

from counterpoint.news.data.store import IGNORE
from counterpoint.news.models.recommender import nce_loss
from counterpoint.news.tasks.classification import Classification, accuracy
from counterpoint.news.tasks.tagging import Tagging


def fixed(head, weight):
    """Give a head a weight and no bias, so that its outputs are known."""
    with torch.no_grad():
        head.output.weight.copy_(torch.tensor(weight))
        head.output.bias.zero_()
    return head


def test_click_loss_is_the_mean_negative_log_share_of_the_click():
    scores = [[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    expected = [-math.log(math.exp(2) / (math.exp(2) + math.exp(1) + 1)), math.log(3)]
    assert nce_loss(torch.tensor(scores)).item() == pytest.approx(sum(expected) / 2)


def test_click_loss_is_computed_in_float32():
    assert nce_loss(torch.tensor([[100.0, 99.9]], dtype=torch.bfloat16)).dtype == torch.float32


def test_category_loss_is_the_mean_over_labelled_articles():
    head = fixed(Classification(2, 2), [[1.0, 0.0], [0.0, 1.0]])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 3.0], [50.0, -50.0]])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))) / 2
    assert head.loss(vectors, torch.tensor([0, 0, IGNORE])).item() == pytest.approx(expected)


def test_category_loss_without_labels_is_zero_and_has_a_gradient():
    head = Classification(2, 3)
    vectors = torch.randn(2, 2, requires_grad=True)
    loss = head.loss(vectors, torch.tensor([IGNORE, IGNORE]))
    loss.backward()
    assert loss.item() == 0
    assert not vectors.grad.any()


def test_category_prediction_and_accuracy():
    head = fixed(Classification(2, 2), [[1.0, 0.0], [0.0, 1.0]])
    predicted = head.predict(torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 1.0]])).numpy()
    assert predicted.tolist() == [0, 1, 0]
    assert accuracy(predicted, np.array([0, 0, IGNORE])) == 0.5
    assert math.isnan(accuracy(predicted, np.full(3, IGNORE)))


def test_tagging_loss_sums_over_tokens_and_averages_over_titles():
    states = torch.tensor(
        [[9.0, 9.0], [1.0, 0.0], [0.0, 2.0], [9.0, 9.0], [9.0, 9.0], [0.0, 1.0], [9.0, 9.0]]
    )
    tags = torch.tensor([IGNORE, 0, 1, IGNORE, IGNORE, 0, IGNORE])  # two titles: two tokens and one
    weight = [[1.0, 0.0], [0.0, 1.0], [-100.0, -100.0]]
    tokens = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2)), math.log(1 + math.exp(1))]
    by_title = fixed(Tagging(2, 1), weight).loss(states, tags, 2)
    by_token = fixed(Tagging(2, 1, "token"), weight).loss(states, tags, 2)
    assert by_title.item() == pytest.approx(sum(tokens) / 2)
    assert by_token.item() == pytest.approx(sum(tokens) / 3)
    # A title without any tagged token counts as a title, but adds no token.
    assert fixed(Tagging(2, 1), weight).loss(states, tags, 3).item() == pytest.approx(sum(tokens) / 3)


def test_tagging_loss_without_tags_is_zero():
    for average in ("title", "token"):
        assert Tagging(2, 1, average).loss(torch.randn(2, 2), torch.full((2,), IGNORE), 1).item() == 0


def test_a_head_has_three_tags_or_two_for_each_type_and_one():
    assert Tagging(4, 1).output.out_features == 3
    assert Tagging(4, 22).output.out_features == 45
