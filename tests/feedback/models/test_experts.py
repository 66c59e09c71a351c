import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from counterpoint.feedback.models.experts import DeepFMExperts, MLPExperts, factorization_machine


def filled(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def looped(experts, inputs):
    """One expert after another, one layer after another."""
    outputs = []
    for number in range(experts.experts):
        states = inputs
        for layer in experts.layers:
            states = (states @ layer.weight[number] + layer.bias[number]).clamp(min=0)
        outputs.append(states)
    return torch.stack(outputs)


@pytest.mark.parametrize("experts", [1, 4])
def test_batched_experts_are_those_of_a_loop_with_their_gradients(experts):
    torch.manual_seed(0)
    made = filled(MLPExperts(experts, 5, (6, 3), 0.0, nn.init.xavier_uniform_))
    inputs = torch.randn(7, 5, requires_grad=True)
    found, expected = made(inputs), looped(made, inputs)
    torch.testing.assert_close(found, expected)
    weigh = torch.randn_like(found)
    leaves = [inputs, *made.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((found * weigh).sum(), leaves),
        torch.autograd.grad((expected * weigh).sum(), leaves),
    )


def test_every_expert_begins_with_weights_of_its_own_and_no_bias():
    torch.manual_seed(0)
    made = MLPExperts(3, 40, (50,), 0.0, lambda weights: nn.init.normal_(weights, std=0.01))
    assert made.layers[0].weight.std(dim=(1, 2)).tolist() == pytest.approx([0.01] * 3, rel=0.1)
    assert not torch.equal(made.layers[0].weight[0], made.layers[0].weight[1])
    assert not made.layers[0].bias.any()


def test_dropout_hits_experts_apart_and_only_in_training():
    torch.manual_seed(0)
    made = filled(MLPExperts(2, 5, (60,), 0.5, nn.init.xavier_uniform_))
    inputs = torch.randn(50, 5)
    whole = made.eval()(inputs)
    dropped = made.train()(inputs)
    assert torch.equal(made.eval()(inputs), whole)
    alive = whole > 0
    kept = dropped[alive] != 0
    torch.testing.assert_close(dropped[alive][kept], 2 * whole[alive][kept])
    assert float(kept.float().mean()) == pytest.approx(0.5, abs=0.03)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 999))
def test_the_factorization_machine_is_the_sum_over_pairs(fields, width, experts, seed):
    torch.manual_seed(seed)
    vectors, weights = torch.randn(3, fields, width).double(), torch.randn(experts, fields).double()
    found = factorization_machine(vectors, weights)
    for expert, row in itertools.product(range(experts), range(3)):
        pairs = itertools.combinations(range(fields), 2)
        expected = sum(
            weights[expert, f] * weights[expert, g] * (vectors[row, f] @ vectors[row, g]) for f, g in pairs
        )
        assert float(found[expert, row]) == pytest.approx(float(expected), abs=1e-10)


def test_a_factorization_machine_by_hand():
    """⟨(1, 2), (3, 0)⟩ + ⟨(1, 2), (-1, 1)⟩ + ⟨(3, 0), (-1, 1)⟩ = 3 + 1 - 3."""
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [-1.0, 1.0]]])
    assert factorization_machine(vectors, torch.ones(1, 3)).tolist() == [[1.0]]


def test_every_deep_fm_has_an_mlp_a_linear_part_and_a_machine_of_its_own():
    torch.manual_seed(1)
    made = filled(DeepFMExperts(3, 4, 2, (6, 5), 0.0, nn.init.xavier_uniform_))
    inputs = torch.randn(7, 4 * 2 + 4)
    found = made(inputs)
    assert found.shape == (3, 7, made.outputs) == (3, 7, 7)
    vectors, weights = inputs[:, :8].reshape(7, 4, 2), inputs[:, 8:]
    torch.testing.assert_close(found[:, :, :5], looped(made.deep, inputs[:, :8]))
    for expert, row in itertools.product(range(3), range(7)):
        linear = sum(made.first_order[expert, f] * weights[row, f] for f in range(4))
        machine = sum(
            made.second_order[expert, f] * made.second_order[expert, g] * (vectors[row, f] @ vectors[row, g])
            for f, g in itertools.combinations(range(4), 2)
        )
        torch.testing.assert_close(found[expert, row, 5:], torch.stack((linear, machine)))


def test_deep_fms_begin_as_deep_fm():
    """Its linear part and its machine weigh all fields alike."""
    made = DeepFMExperts(2, 4, 2, (3,), 0.0, nn.init.xavier_uniform_)
    assert made.first_order.eq(1).all()
    assert made.second_order.eq(1).all()
