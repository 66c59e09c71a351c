import itertools

import pytest
import torch
from torch import nn

from counterpoint.feedback.models.experts import MLPExperts
from counterpoint.feedback.models.extraction import Extraction, Gate

TASKS, INPUTS = 3, 5


def extraction(shared, own, levels):
    torch.manual_seed(shared + 10 * own + 100 * levels)
    made = Extraction(
        TASKS,
        INPUTS,
        shared=shared,
        own=own,
        lowest=lambda experts: MLPExperts(experts, INPUTS, (6, 4), 0.0, nn.init.xavier_uniform_),
        widths=(6, 4),
        levels=levels,
        dropout=0.0,
        fill=nn.init.xavier_uniform_,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def expert_of(state, prefix, number, inputs):
    for layer in range(2):
        weight, bias = (state[f"{prefix}.layers.{layer}.{each}"][number] for each in ("weight", "bias"))
        inputs = (inputs @ weight + bias[0]).clamp(min=0)
    return inputs


def mixed(state, prefix, inputs, experts):
    """Experts, one after another, by their shares."""
    if len(experts) == 1:
        return experts[0]
    logits = state[f"{prefix}.choice.weight"] @ inputs
    shares = logits.exp() / logits.exp().sum()
    total = torch.zeros_like(experts[0])
    for share, expert in zip(shares, experts, strict=True):
        total = total + share * expert
    return total


def looped(made, row, shared, own, levels):
    """What the tasks take for one row: level by level, expert by expert, from the state's tensors alone."""
    state = made.state_dict()
    common, of_tasks = row, [row] * TASKS
    for level in range(levels):
        place = f"levels.{level}"
        shared_ones = [expert_of(state, f"{place}.shared", number, common) for number in range(shared)]
        own_ones = [
            [expert_of(state, f"{place}.own.{task}", number, of_tasks[task]) for number in range(own)]
            for task in range(TASKS)
        ]
        mixtures = [
            mixed(state, f"{place}.gates.{task}", of_tasks[task], [*own_ones[task], *shared_ones])
            for task in range(TASKS)
        ]
        if level < levels - 1 and shared:
            every = [*itertools.chain.from_iterable(own_ones), *shared_ones]
            common = mixed(state, f"{place}.common_gate", common, every)
        of_tasks = mixtures
    return of_tasks


ARCHITECTURES = {
    "shared-bottom": (1, 0, 1),
    "mmoe": (4, 0, 1),
    "mmoe of two levels": (3, 0, 2),
    "cgc": (1, 1, 1),
    "cgc of several": (2, 3, 1),
    "ple of two levels": (1, 1, 2),
    "ple of three levels": (2, 2, 3),
    "apart": (0, 1, 1),
    "apart, several": (0, 2, 2),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mixtures_are_those_of_a_loop_over_experts(name):
    made = extraction(*ARCHITECTURES[name])
    inputs = torch.randn(8, INPUTS)
    found = made(inputs)
    assert len(found) == TASKS
    assert made.outputs == found[0].shape[1] == 4
    for place, row in enumerate(inputs):
        expected = looped(made, row, *ARCHITECTURES[name])
        for task in range(TASKS):
            torch.testing.assert_close(found[task][place], expected[task], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_parameter_is_without_gradient(name):
    made = extraction(*ARCHITECTURES[name])
    sum(mixture.square().sum() for mixture in made(torch.randn(64, INPUTS))).backward()
    dead = [name for name, each in made.named_parameters() if each.grad is None or not each.grad.any()]
    assert dead == []


@pytest.mark.parametrize("name", ["cgc", "cgc of several", "apart"])
def test_a_pass_from_one_task_leaves_the_others_experts_alone(name):
    made = extraction(*ARCHITECTURES[name])
    made(torch.randn(8, INPUTS))[1].sum().backward()
    for task, experts in enumerate(made.levels[-1].own):
        assert all((each.grad is not None) == (task == 1) for each in experts.parameters())


def test_a_gate_is_a_softmax_and_one_expert_needs_none():
    torch.manual_seed(0)
    gate = Gate(INPUTS, 3, nn.init.zeros_)
    experts = torch.randn(3, 8, 4)
    torch.testing.assert_close(gate(torch.randn(8, INPUTS), experts), experts.mean(dim=0))
    assert not list(Gate(INPUTS, 1, nn.init.zeros_).parameters())
