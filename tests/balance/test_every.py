"""What the engine does with every method."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from counterpoint.balance import Balancer, CoordinateBalancer
from counterpoint.training.checkpoint import load_checkpoint, save_checkpoint
from methods import EVERY, TARGET, TASKS, Ladder, batches, label, new

Method = tuple[str, dict[str, Any]]
every_method = pytest.mark.parametrize("method", EVERY, ids=label)


@every_method
@pytest.mark.parametrize("tasks", [2, 4])
def test_backward_is_merge_step_after_step(method: Method, tasks: int) -> None:
    model = Ladder(tasks)
    balancer, twin = new(method), new(method)
    conflicts = 0
    for words in batches(4):
        expected, plain = model.merge(twin, words), own_gradients(model, words)
        report = model.step(balancer, words)
        torch.testing.assert_close(model.merged(), expected)
        torch.testing.assert_close(own(model), plain)
        matrix = model.matrix(words)
        conflicts += int((matrix @ matrix.T < 0).any())
        assert report.finite
        assert report.weights.isfinite().all()
        assert report.tasks == tuple(TASKS[:tasks])
    assert conflicts or tasks == 2


def own(model: Ladder) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in model.heads.named_parameters()}


def own_gradients(model: Ladder, words: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.autograd.backward(list(model.losses(words).values()))
    return own(model)


@every_method
@pytest.mark.parametrize("other", ["diagnose", "accumulate", "sparse"])
def test_other_ways_to_take_the_same_step(method: Method, other: str) -> None:
    model, twin = Ladder(5), Ladder(5, sparse=other == "sparse")
    balancer, again = new(method), new(method)
    for words in batches(3):
        model.step(balancer, words)
        if other == "accumulate":
            twin.zero_grad()
            for task in twin.heads:
                again.accumulate({task: twin.losses(words)[task]}, shared=twin.shared())
            again.merge(target=TARGET)
        else:
            twin.step(again, words, diagnose=other == "diagnose")
        torch.testing.assert_close(twin.merged(), model.merged())


@every_method
@pytest.mark.parametrize("sparse", [False, True])
def test_diagnosed_the_norms_are_known_in_every_parameter(method: Method, sparse: bool) -> None:
    model = Ladder(4, sparse=sparse)
    balancer = new(method)
    for number, words in enumerate(batches(3)):
        matrix = model.matrix(words)
        diagnosed = number != 1
        report = model.step(balancer, words, diagnose=diagnosed)
        if not diagnosed:
            assert (report.parameter_norms, report.merged_norms) == (None, None)
            continue
        norms = torch.stack([matrix[:, start:stop].norm(dim=1) for start, stop in model.blocks()])
        assert report.rows == tuple(model.heads)
        torch.testing.assert_close(report.parameter_norms, norms)
        torch.testing.assert_close(report.parameter_norms.square().sum(dim=0), report.norms.square())
        if isinstance(balancer, CoordinateBalancer):
            assert report.merged_norms is None
        else:
            torch.testing.assert_close(report.merged_norms, report.weights.abs() * norms)


@every_method
@pytest.mark.parametrize("by", ["a checkpoint", "torch.save"])
def test_saved_in_the_middle_the_next_ten_steps_are_identical(
    method: Method, by: str, tmp_path: Path
) -> None:
    model = Ladder(4)
    first, second = new(method), new(method)
    words = list(batches(16))
    for each in words[:6]:
        model.step(first, each)
    optimizer = torch.optim.SGD(model.parameters())
    if by == "torch.save":
        torch.save(first.state_dict(), tmp_path / "state.pt")
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    else:
        save_checkpoint(tmp_path, model, optimizer, first.state_dict(), {"step": 6})
        restored = load_checkpoint(tmp_path, model, optimizer)
        assert restored is not None
        second.load_state_dict(restored[1])
    for each in words[6:]:
        report = model.step(first, each)
        merged = model.merged()
        again = model.step(second, each)
        assert torch.equal(model.merged(), merged)
        assert torch.equal(report.weights, again.weights)


@every_method
@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_step_that_is_not_finite_leaves_no_trace(method: Method, broken: str) -> None:
    model = Ladder(4)
    tried, untried = new(method), new(method)
    for index, words in enumerate(batches(5)):
        if index == 2:
            losses = model.losses(words)
            if broken == "loss":
                losses["c"] = losses["c"] * torch.inf
            else:
                losses["c"].register_hook(lambda gradient: gradient * torch.nan)
            model.zero_grad()
            report = tried.backward(losses, shared=model.shared(), target=TARGET)
            if broken == "loss" or report.rows != (TARGET,):  # `single` never sees the others' gradients
                assert not report.finite
            json.dumps(report.as_dict(), allow_nan=False)
            if report.finite:
                model.step(untried, words)
            continue
        model.step(tried, words)
        merged = model.merged()
        model.step(untried, words)
        assert torch.equal(model.merged(), merged)


@every_method
def test_batches_may_lack_any_task(method: Method) -> None:
    model = Ladder(4)
    balancer = new(method)
    for words, present in zip(
        batches(9), ["abcd", "abd", "b", "acd", "cd", "ab", "a", "bd", "abcd"], strict=True
    ):
        model.zero_grad()
        losses = model.losses(words)
        given = {task: losses[task] if task in present else None for task in losses}
        report = balancer.backward(given, shared=model.shared(), target=TARGET)
        assert report.tasks == tuple(present)
        assert report.finite
        assert report.weights.isfinite().all()
        for parameter in model.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()


@every_method
def test_constants_zero_gradients_and_losses_off_the_trunk(method: Method) -> None:
    model = Ladder(3)
    other = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    balancer = new(method)
    for words in batches(3):
        model.zero_grad()
        losses = model.losses(words)
        given = {
            **losses,
            "d": torch.tensor(1.0, dtype=torch.float64),
            "e": other.square(),
            "f": losses["a"] * 0 + 2.0,
        }
        report = balancer.backward(given, shared=model.shared(), target=TARGET)
        assert report.finite
        assert report.weights.isfinite().all()
        assert model.merged().isfinite().all()
    assert other.grad.item() == pytest.approx(18.0)


@every_method
def test_a_single_task_alone(method: Method) -> None:
    model = Ladder(2)
    balancer = new(method)
    for words in batches(3):
        model.zero_grad()
        loss = model.losses(words)[TARGET]
        report = balancer.backward({TARGET: loss}, shared=model.shared(), target=TARGET)
        assert report.weights.isfinite().all()
        assert model.merged().isfinite().all()


def test_state_of_another_method_is_refused() -> None:
    states: dict[frozenset[str], Balancer] = {}
    for method in EVERY:
        balancer = new(method)
        states.setdefault(frozenset(balancer.state_dict()), balancer)
    for keys, balancer in states.items():
        for others, other in states.items():
            if keys != others:
                with pytest.raises(ValueError, match="has the state"):
                    balancer.load_state_dict(other.state_dict())
