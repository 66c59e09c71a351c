"""The heads by hand, and as torch has their losses."""

import math

import pytest
import torch

from counterpoint.sentences.heads import Classes, CosineScore, LinearScore, make_head

U = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
V = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [5.0, 0.0]])
COSINES = torch.tensor([24 / 25, -1.0, 0.0])


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("cosine", COSINES),
        ("relu_cosine", torch.tensor([24 / 25, 0.0, 0.0])),
        ("learned_cosine", torch.sigmoid((COSINES - 0.5) / 0.2)),
    ],
    ids=["cosine", "relu_cosine", "learned_cosine"],
)
def test_cosines_in_the_labels_range(kind, share):
    head = CosineScore((0.0, 5.0), kind)
    torch.testing.assert_close(head.answer((U, V))[:, 0], 5 * share)
    labels = torch.tensor([5.0, 0.0, 2.5])
    torch.testing.assert_close(head.loss((U, V), labels), (5 * share - labels).square().mean())
    shifted = CosineScore((-1.0, 1.0), kind)
    torch.testing.assert_close(shifted.answer((U, V))[:, 0], 2 * share - 1)


def test_relu_gives_opposite_sentences_no_gradient_and_the_temperature_does():
    labels = torch.tensor([5.0, 5.0, 5.0])
    for kind, moves in (("relu_cosine", False), ("cosine", True), ("learned_cosine", True)):
        u = U.clone().requires_grad_()
        # Off its opposite direction, where the cosine has no slope.
        CosineScore((0.0, 5.0), kind).loss((u, V + 0.1), labels).backward()
        assert bool(u.grad[1].abs().max() > 0) is moves


def test_the_temperature_is_learned():
    head = CosineScore((0.0, 5.0), "learned_cosine")
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        head.loss((U, V), torch.tensor([4.0, 0.5, 1.0])).backward()
        optimizer.step()
    assert len(list(head.parameters())) == 2
    assert head.loss((U, V), torch.tensor([4.0, 0.5, 1.0])).item() < 0.1


def joined(sides):
    return torch.cat(tuple(sides), dim=1)


def test_two_classes_need_one_logit():
    head = Classes(4, 2, 0.0, joined)
    assert head.output.weight.shape == (1, 4)
    with torch.no_grad():
        head.output.weight.copy_(torch.tensor([[1.0, 0.0, -1.0, 0.5]]))
        head.output.bias.fill_(0.25)
    logits = torch.tensor([3 - 4 + 1.5 + 0.25, 1 + 2 + 0.25, -5 + 0.25])
    labels = torch.tensor([1.0, 0.0, 1.0])
    expected = -torch.log(torch.where(labels == 1, torch.sigmoid(logits), 1 - torch.sigmoid(logits))).mean()
    torch.testing.assert_close(head.loss((U, V), labels), expected)
    answered = head.answer((U, V))
    torch.testing.assert_close(answered[:, 1], torch.sigmoid(logits))
    torch.testing.assert_close(answered.sum(1), torch.ones(3))


def test_more_classes_are_a_softmax():
    head = Classes(2, 5, 0.0, lambda sides: sides[0])
    labels = torch.tensor([4.0, 0.0, 2.0])
    logits = head.output(U)
    expected = -torch.log_softmax(logits, 1)[torch.arange(3), labels.long()].mean()
    torch.testing.assert_close(head.loss((U,), labels), expected)
    torch.testing.assert_close(head.answer((U,)), torch.softmax(logits, 1))


def test_a_linear_score_is_scaled():
    head = LinearScore(4, (1.0, 5.0), 0.0, joined)
    with torch.no_grad():
        head.output.weight.copy_(torch.tensor([[0.1, 0.0, 0.0, 0.1]]))
        head.output.bias.fill_(0.5)
    expected = 1 + 4 * torch.tensor([0.3 + 0.3 + 0.5, 0.1 + 0.5, 0.5])
    torch.testing.assert_close(head.answer((U, V))[:, 0], expected)
    torch.testing.assert_close(head.loss((U, V), expected + 2), torch.tensor(4.0))


@pytest.mark.parametrize(("pair", "wide"), [("concatenation", 2), ("difference", 3), ("joint", 1)])
def test_a_linear_layer_sees_what_the_recipe_says(recipe, pair, wide):
    resolved = recipe(f"task.paraphrase.pair={pair}", "heads.dropout=0.4")
    head = make_head(resolved.task["paraphrase"], 2, resolved)
    assert head.output.in_features == 2 * wide
    assert head.dropout.p == 0.4
    seen = head._features((U,) if pair == "joint" else (U, V))
    expected = {
        "joint": U,
        "concatenation": torch.cat((U, V), 1),
        "difference": torch.cat((U, V, (U - V).abs()), 1),
    }[pair]
    torch.testing.assert_close(seen, expected)


def test_dropout_is_off_where_the_recipe_says_so(recipe):
    resolved = recipe(name="minbert-baseline")
    drops = {name: make_head(task, 2, resolved).dropout.p for name, task in resolved.task.items()}
    assert drops == {"sentiment": 0.3, "paraphrase": 0.0, "similarity": 0.0}


def test_a_class_by_chance_costs_what_it_should():
    head = Classes(2, 5, 0.0, lambda sides: sides[0])
    torch.nn.init.zeros_(head.output.weight)
    torch.nn.init.zeros_(head.output.bias)
    assert head.loss((U,), torch.tensor([0.0, 1.0, 2.0])).item() == pytest.approx(math.log(5))
