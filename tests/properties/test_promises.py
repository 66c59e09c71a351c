"""What methods say of themselves, held against them: what they need, cost, keep and promise."""

import re
from math import sqrt
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint import balance
from counterpoint.balance import Balancer, CoordinateBalancer
from counterpoint.balance import documentation as catalogue
from counterpoint.balance.lookup import find
from methods import NEEDED, Ladder, batches

from .matrices import NAMES, losses, matrices, rotations

METHODS = balance.available()
every_method = pytest.mark.every_method
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def new(name: str) -> Balancer:
    return balance.make(name, **NEEDED.get(name, {}))


def merged(
    name: str,
    gradients: Tensor,
    values: Tensor | None = None,
    *,
    order: list[int] | None = None,
    earlier: int = 0,
) -> Tensor:
    """What a balancer merges that was new some steps earlier, with gradients like these and other angles.

    The tasks are given in some order; the target is always the same task.
    """
    order = list(range(len(gradients))) if order is None else order
    values = torch.linspace(0.5, 2, len(gradients)).double() if values is None else values
    balancer, names = new(name), [NAMES[each] for each in order]
    signs = torch.tensor([1.0, -0.5] * 4).double()[: len(gradients), None]
    past = [gradients.roll(1, dims=1), signs * gradients.flip(1)][:earlier]
    for step, each in enumerate([*past, gradients]):
        result = balancer.merge(
            each[order], target=order.index(0), losses=values[order] / (1 + step), tasks=names
        )
    return result


def test_every_promise_is_explained_tested_and_given() -> None:
    tested = set(
        re.findall(r'^@pytest.mark.promise\("([a-z ]+)"\)', Path(__file__).read_text(), flags=re.MULTILINE)
    )
    assert tested == set(catalogue.PROMISES)
    assert tested == {word for name in METHODS for word in find(name).promises}


@every_method
def test_needs(name: str) -> None:
    balancer = new(name)
    assert ("target" in catalogue.needs(find(name))) is balancer.needs_target
    assert ("losses" in catalogue.needs(find(name))) is balancer.needs_losses


@every_method
def test_state(name: str) -> None:
    assert set(catalogue.state(find(name))) == set(new(name).state_dict())


@every_method
def test_passes(name: str) -> None:
    counts = []
    for tasks in (3, 5):
        model, balancer = Ladder(tasks), new(name)
        passes: list[Tensor] = []
        model.trunk[0].weight.register_hook(passes.append)
        for words in batches(2):
            model.step(balancer, words)
        counts.append(len(passes) / 2)
    assert counts == {"1": [1, 1], "2": [2, 2], "K": [3, 5]}[find(name).cost]


@every_method
def test_sources(name: str) -> None:
    assert len(find(name).source) > 10


@every_method
@given(gradients=matrices(), data=st.data())
@relaxed
def test_is_finite_and_deterministic(name: str, gradients: Tensor, data: st.DataObject) -> None:
    values, earlier = data.draw(losses(len(gradients))), data.draw(st.integers(0, 2))
    result = merged(name, gradients, values, earlier=earlier)
    assert result.isfinite().all()
    assert torch.equal(result, merged(name, gradients, values, earlier=earlier))


@every_method
@given(gradients=matrices(), exponent=st.sampled_from([-25, -20, 20, 25]))
@settings(max_examples=15, deadline=None)
def test_is_finite_at_any_size(name: str, gradients: Tensor, exponent: int) -> None:
    assert merged(name, gradients * 10.0**exponent).isfinite().all()


@pytest.mark.promise("scales")
@given(gradients=matrices(), exponent=st.integers(-6, 6), earlier=st.integers(0, 2))
@relaxed
def test_scales(name: str, gradients: Tensor, exponent: int, earlier: int) -> None:
    factor = 10.0**exponent
    once = merged(name, gradients, earlier=earlier)
    largest = max(float(gradients.norm()), float(once.norm()))
    again = merged(name, gradients * factor, earlier=earlier) / factor
    torch.testing.assert_close(again, once, rtol=1e-6, atol=1e-6 * largest)


@pytest.mark.promise("symmetric")
@given(gradients=matrices(), data=st.data(), earlier=st.integers(0, 2))
@relaxed
def test_symmetric(name: str, gradients: Tensor, data: st.DataObject, earlier: int) -> None:
    order = data.draw(st.permutations(range(len(gradients))))
    once = merged(name, gradients, earlier=earlier)
    largest = max(float(gradients.norm()), float(once.norm()))
    again = merged(name, gradients, order=order, earlier=earlier)
    torch.testing.assert_close(again, once, rtol=1e-6, atol=1e-6 * largest)


@pytest.mark.promise("agrees")
@given(gradients=matrices(), earlier=st.integers(0, 2))
@relaxed
def test_agrees_with_every_task(name: str, gradients: Tensor, earlier: int) -> None:
    result = merged(name, gradients, earlier=earlier)
    sizes = gradients.norm(dim=1) * max(float(result.norm()), 1e-6 * float(gradients.norm()))
    assert (gradients @ result >= -1e-6 * sizes).all()


@pytest.mark.promise("agrees with the target")
@given(gradients=matrices(), earlier=st.integers(0, 2))
@relaxed
def test_agrees_with_the_target(name: str, gradients: Tensor, earlier: int) -> None:
    result = merged(name, gradients, earlier=earlier)
    size = float(gradients[0].norm()) * max(float(result.norm()), float(gradients.norm()))
    assert float(gradients[0] @ result) >= -1e-9 * size


@pytest.mark.promise("sum without conflict")
@given(gradients=matrices(), data=st.data(), earlier=st.integers(0, 2))
@relaxed
def test_is_the_sum_without_conflict(name: str, gradients: Tensor, data: st.DataObject, earlier: int) -> None:
    # Coordinates of both signs, but no angle above 90 degrees.
    gradients = gradients.abs() @ data.draw(rotations(gradients.shape[1]))
    result = merged(name, gradients, earlier=earlier)
    torch.testing.assert_close(result, gradients.sum(dim=0), rtol=1e-9, atol=1e-12 * float(gradients.norm()))


@pytest.mark.promise("alone")
@given(gradients=matrices(), data=st.data(), earlier=st.integers(0, 2))
@relaxed
def test_alone_a_task_keeps_its_gradient(
    name: str, gradients: Tensor, data: st.DataObject, earlier: int
) -> None:
    balancer, values = new(name), data.draw(losses(len(gradients)))
    for _ in range(earlier):
        balancer.merge(gradients.flip(1), target=0, losses=values, tasks=NAMES[: len(gradients)])
    result = balancer.merge(gradients[:1], target=0, losses=values[:1], tasks=NAMES[:1])
    torch.testing.assert_close(result, gradients[0])


@pytest.mark.every_method(but=CoordinateBalancer)
@given(gradients=matrices(), data=st.data())
@relaxed
def test_is_the_combination_its_weights_tell(name: str, gradients: Tensor, data: st.DataObject) -> None:
    values, names = data.draw(losses(len(gradients))), NAMES[: len(gradients)]
    weights = new(name).weights(gradients @ gradients.T, target=0, losses=values, tasks=names)
    result = new(name).merge(gradients, target=0, losses=values, tasks=names)
    size = float((weights.abs() @ gradients.abs()).max())
    torch.testing.assert_close(result, weights @ gradients, rtol=1e-5, atol=1e-6 * size)


@given(gradients=matrices(), c=st.sampled_from([0.1, 0.5, 0.9, 3.0]), data=st.data())
@relaxed
def test_cagrad_stays_in_its_ball(gradients: Tensor, c: float, data: st.DataObject) -> None:
    sizes = st.lists(st.integers(-6, 6), min_size=len(gradients), max_size=len(gradients))
    gradients = gradients * 10.0 ** torch.tensor(data.draw(sizes)).double()[:, None]
    mean = gradients.mean(dim=0)
    distance = float((balance.make("cagrad", c=c).merge(gradients) - mean).norm())
    rounding = 1e-7 * (1 + c) * float(gradients.norm())  # an inner product's, in a length
    assert distance <= c * float(mean.norm()) * (1 + 1e-6) + rounding


@given(gradients=matrices(least=2, most=2))
@relaxed
def test_two_tasks_pcgrad_is_twice_upgrad(gradients: Tensor) -> None:
    torch.testing.assert_close(
        merged("pcgrad", gradients),
        2 * merged("upgrad", gradients),
        rtol=1e-6,
        atol=1e-8 * float(gradients.norm()),
    )


@given(gradients=matrices(least=2))
@relaxed
def test_two_or_more_tasks_of_one_family(gradients: Tensor) -> None:
    """Special cases in which one method is another."""
    target = {"target": 0, "tasks": NAMES[: len(gradients)]}
    size = float(gradients.norm())

    def same(first: Balancer, second: Balancer, factor: float = 1.0) -> None:
        torch.testing.assert_close(
            first.merge(gradients, **target),
            factor * second.merge(gradients, **target),
            rtol=1e-6,
            atol=1e-8 * size,
        )

    same(balance.make("metabalance", relax=0.0), balance.make("equal"))
    same(balance.make("gradvac"), balance.make("pcgrad"))  # in its first step
    same(balance.make("pcgrad_plus", tau=0.0), balance.make("pcgrad", reduction="mean"))
    if len(gradients) == 2:
        same(balance.make("gradcraft", tau=0.0, epsilon=0.0), balance.make("pcgrad", reduction="mean"))
        same(balance.make("mtrec", scale=1.0), balance.make("pcgrad"))
        same(balance.make("mtrec", scale=1.0, project="aux"), balance.make("grad_surgery"))


def test_methods_are_told_apart() -> None:
    """No two methods are the same by mistake: on conflicting gradients of several sizes all differ."""
    gradients = torch.tensor(
        [[2.0, 1.0, 0.1], [-1.0, 0.5, 0.3], [0.4, -0.2, 0.9], [-3.0, 0.1, -0.2]]
    ).double()
    directions = {
        name: torch.nn.functional.normalize(merged(name, gradients), dim=0)
        for name in METHODS
        if name != "mtadam"
    }
    alike = {
        frozenset(other for other in directions if torch.allclose(directions[name], directions[other]))
        for name in directions
    }
    assert {group for group in alike if len(group) > 1} == {
        frozenset({"equal", "uncertainty", "dwa", "gradnorm", "ol_aux"}),  # have not learned anything yet
        frozenset({"famo", "geometric_mean", "stch"}),  # 1 / L, before anything is learned
        frozenset({"pcgrad", "gradvac"}),  # in its first step
        frozenset({"nash_mtl", "fairgrad"}),  # but for the length
    }


@every_method
def test_how_long_the_merged_gradient_is(name: str) -> None:
    tasks, one, balancer = 4, torch.tensor([3.0, -1.0, 2.0]).double(), new(name)
    told = find(name).length
    if told:
        merged = balancer.merge(one.repeat(tasks, 1), target=0, losses=torch.ones(tasks).double())
        known = {"K": tasks, "norm": float(one.norm()), "sqrt": sqrt, **vars(balancer)}
        torch.testing.assert_close(merged, eval(told, known) * one)


def test_lengths_are_told_where_they_are_known() -> None:
    assert {name for name in METHODS if not find(name).length} <= {"fixed", "chain", "mtadam"}
