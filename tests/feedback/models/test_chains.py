import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from counterpoint.feedback.models.chains import Apart, AttentionTransfer, Products


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=3, max_size=3), st.sampled_from([(0, 1, 2), (2, 0), (1, 2, 0)]))
def test_probabilities_are_products_down_the_chain(logits, order):
    given_logits = [torch.tensor([value], dtype=torch.float64) for value in logits]
    found = Products(order).logits(given_logits)
    product = 1.0
    for task in order:
        product *= sigmoid(logits[task])
        assert float(found[task].sigmoid()) == pytest.approx(product, rel=1e-9)
    for task in set(range(3)).difference(order):
        assert found[task] is given_logits[task]


def test_losses_of_products_by_hand():
    """P(click) = 3/4 and P(buy) = 3/4 · 1/3 = 1/4."""
    logits = [torch.tensor([math.log(3)]), torch.tensor([-math.log(2)])]
    click, buy = Products((0, 1)).logits(logits)
    assert float(buy.sigmoid()) == pytest.approx(1 / 4)
    for label, expected in ((1.0, -math.log(1 / 4)), (0.0, -math.log(3 / 4))):
        loss = binary_cross_entropy_with_logits(buy, torch.tensor([label]))
        assert float(loss) == pytest.approx(expected)
    assert float(binary_cross_entropy_with_logits(click, torch.ones(1))) == pytest.approx(-math.log(3 / 4))


@pytest.mark.parametrize("size", [30.0, 200.0])
def test_products_of_extreme_probabilities_stay_finite(size):
    """In single precision 1 - σ(z) is 0 from z = 17 on, and the product of two σ(-z) from 52 on."""
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        logits = [torch.tensor([size * sign], requires_grad=True) for sign in signs]
        _, buy = Products((0, 1)).logits(logits)
        # The odds of both: e^z e^z / (1 + 2 e^z), and so on.
        expected = {(1, 1): size - math.log(2), (-1, -1): -2 * size}.get(signs, -size)
        assert buy.item() == pytest.approx(expected, rel=1e-6)
        for label in (0.0, 1.0):
            loss = binary_cross_entropy_with_logits(buy, torch.tensor([label]))
            gradients = torch.autograd.grad(loss, logits, retain_graph=True)
            assert all(bool(each.isfinite().all()) for each in (loss, *gradients))


def test_gradients_of_products_are_right():
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: torch.stack(Products((2, 0, 1)).logits(z.unbind())), logits)


def transferred(state, before, found, width):
    """Attention over two rows, number by number."""

    def layer(name, row):
        weight, bias = (
            state[f"transfers.0.{name}.weight"].tolist(),
            state[f"transfers.0.{name}.bias"].tolist(),
        )
        return [
            sum(w * x for w, x in zip(of, row, strict=True)) + b for of, b in zip(weight, bias, strict=True)
        ]

    pair = [[max(0.0, each) for each in layer("passed", before)], found]
    products = [
        sum(q * k for q, k in zip(layer("queries", row), layer("keys", row), strict=True)) / math.sqrt(width)
        for row in pair
    ]
    shares = [math.exp(each) / sum(map(math.exp, products)) for each in products]
    values = [layer("values", row) for row in pair]
    return [
        sum(share * row[place] for share, row in zip(shares, values, strict=True)) for place in range(width)
    ]


def test_attention_transfers_what_the_tower_before_found():
    torch.manual_seed(2)
    chain = AttentionTransfer((2, 0), 3, 0.6, nn.init.xavier_uniform_)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.normal_()
    states = [torch.randn(4, 3) for _ in range(3)]
    passed = chain.states(states)
    assert passed[1] is states[1]
    assert passed[2] is states[2]
    for row in range(4):
        expected = transferred(chain.state_dict(), states[2][row].tolist(), states[0][row].tolist(), 3)
        assert passed[0][row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_task_takes_what_the_one_before_it_passes_on_and_not_what_its_tower_found():
    torch.manual_seed(4)
    chain = AttentionTransfer((0, 1, 2), 3, 0.6, nn.init.xavier_uniform_)
    states = [torch.randn(4, 3) for _ in range(3)]
    passed = chain.states(states)
    torch.testing.assert_close(passed[2], chain.transfers[1](passed[1], states[2]))
    assert not torch.allclose(passed[2], chain.transfers[1](states[1], states[2]))


def test_the_calibrator_counts_where_what_follows_is_likelier():
    """σ(0) = 1/2 before 3/4 and 1/5: the first row counts, with 1/4; the second would with 3/10."""
    chain = AttentionTransfer((0, 1), 3, 0.6, nn.init.xavier_uniform_)
    click, purchase = torch.zeros(2), torch.tensor([math.log(3), -math.log(4)])
    (following,) = chain.penalties([click, purchase]).items()
    assert following == (1, pytest.approx(0.6 * 0.25 / 2))
    (turned,) = chain.penalties([purchase, click]).values()
    assert float(turned) == pytest.approx(0.6 * 0.3 / 2)
    assert not chain.penalties([click, torch.full((2,), -1.0)])[1]


def test_tasks_apart_pass_nothing_on():
    states, logits = [torch.zeros(2, 3)], [torch.zeros(2)]
    apart = Apart()
    assert apart.states(states) == states
    assert apart.logits(logits) == logits
    assert apart.penalties(logits) == {}
