"""The table in docs/methods.md, held against the code: what methods need, cost, keep and promise."""

from dataclasses import fields
from itertools import combinations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint import balance
from counterpoint.balance import Balancer
from methods import NEEDED, Ladder, batches

from .matrices import NAMES, losses, matrices
from .promises import promising, table

METHODS = balance.available()
every_method = pytest.mark.parametrize("name", METHODS)
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def new(name: str) -> Balancer:
    return balance.make(name, **NEEDED.get(name, {}))


def merged(
    name: str, gradients: Tensor, values: Tensor | None = None, order: list[int] | None = None
) -> Tensor:
    """A fresh balancer's merge, the tasks given in some order; the target is always the same task."""
    order = list(range(len(gradients))) if order is None else order
    values = torch.linspace(0.5, 2, len(gradients)).double() if values is None else values
    return new(name).merge(
        gradients[order], target=order.index(0), losses=values[order], tasks=[NAMES[each] for each in order]
    )


def test_the_table_has_every_method() -> None:
    assert tuple(sorted(table())) == METHODS


@every_method
def test_options_and_their_defaults(name: str) -> None:
    balancer = new(name)
    inherited = {"granularity": "whole", "passes": "exact", "every": 1}  # told once, above the table
    expected = set()
    for each in fields(balancer):
        value = getattr(balancer, each.name)
        if each.init and not (each.name in inherited and value == inherited[each.name]):
            expected.add(f"{each.name}={value}")
    if name == "fixed":
        expected = {"weights"}
    assert table()[name].options == expected


@every_method
def test_needs(name: str) -> None:
    balancer = new(name)
    needs = {"target"} if balancer.needs_target else set()
    needs |= {"losses"} if balancer.needs_losses else set()
    needs |= {"coordinates"} if isinstance(balancer, balance.CoordinateBalancer) else set()
    assert table()[name].needs == needs


@every_method
def test_state(name: str) -> None:
    assert table()[name].state == set(new(name).state_dict())


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
    assert counts == {"1": [1, 1], "2": [2, 2], "K": [3, 5]}[table()[name].passes]


@every_method
def test_sources(name: str) -> None:
    assert len(table()[name].source) > 10 or name in ("equal", "fixed", "single")


@every_method
@given(gradients=matrices(), data=st.data())
@relaxed
def test_is_finite_and_deterministic(name: str, gradients: Tensor, data: st.DataObject) -> None:
    values = data.draw(losses(len(gradients)))
    result = merged(name, gradients, values)
    assert result.isfinite().all()
    assert torch.equal(result, merged(name, gradients, values))


@every_method
@given(gradients=matrices(), exponent=st.sampled_from([-25, -20, 20, 25]))
@settings(max_examples=15, deadline=None)
def test_is_finite_at_any_size(name: str, gradients: Tensor, exponent: int) -> None:
    assert merged(name, gradients * 10.0**exponent).isfinite().all()


@pytest.mark.parametrize("name", promising("scales"))
@given(gradients=matrices(), exponent=st.integers(-6, 6))
@relaxed
def test_scales(name: str, gradients: Tensor, exponent: int) -> None:
    factor = 10.0**exponent
    once = merged(name, gradients)
    largest = max(float(gradients.norm()), float(once.norm()))
    torch.testing.assert_close(
        merged(name, gradients * factor) / factor, once, rtol=1e-6, atol=1e-6 * largest
    )


@pytest.mark.parametrize("name", promising("symmetric"))
@given(gradients=matrices(), data=st.data())
@relaxed
def test_symmetric(name: str, gradients: Tensor, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(gradients))))
    once = merged(name, gradients)
    largest = max(float(gradients.norm()), float(once.norm()))
    torch.testing.assert_close(merged(name, gradients, order=order), once, rtol=1e-6, atol=1e-6 * largest)


@pytest.mark.parametrize("name", promising("agrees"))
@given(gradients=matrices())
@relaxed
def test_agrees_with_every_task(name: str, gradients: Tensor) -> None:
    result = merged(name, gradients)
    sizes = gradients.norm(dim=1) * max(float(result.norm()), 1e-6 * float(gradients.norm()))
    assert (gradients @ result >= -1e-6 * sizes).all()


@pytest.mark.parametrize("name", promising("agrees with the target"))
@given(gradients=matrices())
@relaxed
def test_agrees_with_the_target(name: str, gradients: Tensor) -> None:
    result = merged(name, gradients)
    size = float(gradients[0].norm()) * max(float(result.norm()), float(gradients.norm()))
    assert float(gradients[0] @ result) >= -1e-9 * size


@pytest.mark.parametrize("name", promising("sum without conflict"))
@given(gradients=matrices())
@relaxed
def test_is_the_sum_without_conflict(name: str, gradients: Tensor) -> None:
    gradients = gradients.abs()
    torch.testing.assert_close(merged(name, gradients), gradients.sum(dim=0))


@pytest.mark.parametrize("name", promising("alone"))
@given(gradients=matrices(most=1), data=st.data())
@settings(max_examples=20, deadline=None)
def test_alone_a_task_keeps_its_gradient(name: str, gradients: Tensor, data: st.DataObject) -> None:
    torch.testing.assert_close(merged(name, gradients, data.draw(losses(1))), gradients[0])


@every_method
@given(gradients=matrices(), data=st.data())
@relaxed
def test_is_the_combination_its_weights_tell(name: str, gradients: Tensor, data: st.DataObject) -> None:
    assume("coordinates" not in table()[name].needs)
    values, names = data.draw(losses(len(gradients))), NAMES[: len(gradients)]
    weights = new(name).weights(gradients @ gradients.T, target=0, losses=values, tasks=names)
    result = new(name).merge(gradients, target=0, losses=values, tasks=names)
    size = float((weights.abs() @ gradients.abs()).max())
    torch.testing.assert_close(result, weights @ gradients, rtol=1e-5, atol=1e-6 * size)


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
    results = {name: merged(name, gradients) for name in METHODS if name != "mtadam"}
    same = [
        pair
        for pair in combinations(results, 2)
        if torch.allclose(
            torch.nn.functional.normalize(results[pair[0]], dim=0),
            torch.nn.functional.normalize(results[pair[1]], dim=0),
        )
    ]
    # In the first step these have not yet learned anything, so their weights are all equal.
    assert {name for pair in same for name in pair} <= {
        "equal", "uncertainty", "dwa", "famo", "gradnorm", "ol_aux", "gradvac", "pcgrad",
    }  # fmt: skip
