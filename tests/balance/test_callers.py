"""What callers get wrong is said in one sentence, before anything has changed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from counterpoint import balance
from counterpoint.balance import Balancer, BlockBalancer, Equal, Fixed, MTRec, PCGrad, Step, Tasks

from .conftest import Network

Build = Callable[[int], Network]
WEIGHT = nn.Parameter(torch.ones(2, 2))


class Short(BlockBalancer):
    """Forgets how many rows there are."""

    def solve(self, step: Step) -> Any:
        return torch.ones(3).numpy()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"losses": [torch.ones(())]}, TypeError, "loss by its name, .*, not a list"),
        ({"losses": {0: torch.ones(())}}, TypeError, "name must be a string, not 0"),
        ({"target": 0}, TypeError, "name of a task, not 0"),
        ({"scaler": 2.0}, TypeError, r"torch.amp.GradScaler, not 2.0"),
        ({"shared": nn.Linear(1, 1)}, TypeError, r"trunk.parameters\(\) gives them, not a Linear"),
        ({"shared": nn.Linear(1, 1).named_parameters()}, TypeError, "not a tuple"),
        ({"shared": WEIGHT}, TypeError, "not a Parameter"),
        ({"shared": []}, ValueError, "no parameters; was it a generator that is used up"),
        ({"shared": [WEIGHT * 2]}, ValueError, r"shape \(2, 2\) is computed"),
        ({"shared": [nn.Parameter(torch.ones(2) * 1j)]}, TypeError, "is complex"),
        ({"shared": [nn.Parameter(torch.ones(2, device="meta"))]}, ValueError, "on the meta device"),
        ({"representation": []}, ValueError, "is an empty list"),
        ({"representation": [None]}, TypeError, r"a list of tensors, not \[None\]"),
        ({"representation": {"a": WEIGHT * 2}}, TypeError, "must be a tensor or a list of tensors"),
    ],
    ids=lambda value: None if isinstance(value, str | type) else "-".join(value),
)
def test_arguments_of_a_wrong_kind(
    changes: dict[str, Any], error: type[Exception], says: str, network: Build, features: Tensor
) -> None:
    model = network(2)
    given: dict[str, Any] = {"losses": model.losses(features), "shared": model.trunk.parameters()} | changes
    balancer = PCGrad(passes="representation") if "representation" in given else PCGrad()
    with pytest.raises(error, match=says):
        balancer.backward(given.pop("losses"), **given)
    assert balancer.draws == 0
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("of", ["another model", "constants"])
@pytest.mark.parametrize(
    "method", [Equal(), PCGrad(), MTRec(), balance.make("grad_surgery"), balance.make("graddrop")], ids=repr
)
def test_shared_parameters_that_no_loss_reaches(
    of: str, method: Balancer, network: Build, features: Tensor
) -> None:
    """It may be meant, in one batch of many, and so is not an error."""
    model, other = network(4), network(4)
    losses = model.losses(features) if of != "constants" else dict.fromkeys("abcd", torch.ones(()))
    with pytest.warns(UserWarning, match="No loss reaches any of the shared parameters; are they"):
        report = method.backward(losses, shared=other.trunk.parameters(), target="a")
    assert report.finite
    assert not report.norms.any()
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("metabalance", {}),
        ("gradvac", {"granularity": "tensor"}),
        ("db_mtl", {}),
        ("mtadam", {}),
        ("chain", {"first": {"method": "metabalance"}, "second": {"method": "pcgrad"}}),
    ],
)
def test_state_by_parameter_needs_an_order(
    name: str, options: dict[str, Any], network: Build, features: Tensor
) -> None:
    """The order in which graphs are walked follows that of the losses."""
    model, balancer = network(2), balance.make(name, **options)
    losses = model.losses(features) if name != "db_mtl" else {"a": model.losses(features)["a"]}
    with pytest.raises(ValueError, match="keeps state by parameter: give shared=…, in the same order"):
        balancer.backward(losses, target="a")
    balancer.backward(losses, target="a", shared=model.trunk.parameters())
    balance.make("pcgrad", granularity="tensor").backward(model.losses(features))
    balance.make("metabalance", granularity="whole").backward(model.losses(features), target="a")


def test_a_hook_that_would_see_every_task_apart(network: Build, features: Tensor) -> None:
    model = network(2)
    handle = next(model.trunk.parameters()).register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(ValueError, match="post-accumulate-grad hook"):
        Equal().backward(model.losses(features))
    handle.remove()
    Equal().backward(model.losses(features))


def test_what_tasks_share_cannot_be_told_without_them(network: Build, features: Tensor) -> None:
    model = network(2)
    losses = model.losses(features) | {"b": None}
    with pytest.raises(ValueError, match=r"lacks 'b'.*give shared"):
        Equal().backward(losses)
    Equal().backward(losses, shared=model.trunk.parameters())


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Equal().merge([[1.0]]), TypeError, "must be a tensor, not a list"),
        (lambda: MTRec().merge(torch.ones(2, 2), target="a"), TypeError, "number of its row, not 'a'"),
        (lambda: MTRec().merge(torch.ones(2, 2), target=True), TypeError, "number of its row, not True"),
        (lambda: Equal().weights([[1.0]]), TypeError, "must be a tensor, not a list"),
        (lambda: Equal().merge(torch.ones(2, 2), losses=[1.0, 2.0]), TypeError, "number per row, not a list"),
        (lambda: balance.make("gradcraft", tau="0.1"), TypeError, "tau must be a number, not '0.1'"),
        (lambda: balance.make("NashMTL"), ValueError, "did you mean 'nash_mtl'"),
        (lambda: balance.make("PCGrad"), ValueError, "did you mean 'pcgrad'"),
        (
            lambda: Short().merge(torch.ones(2, 2)),
            ValueError,
            r"each of the 2 rows, not an array of shape \(3",
        ),
        (lambda: PCGrad(granularity=[WEIGHT]), ValueError, r"\[\[…\], \[…\]\], not of parameters"),
        (lambda: PCGrad(granularity=[iter([WEIGHT]), [WEIGHT]]), ValueError, "in two groups"),
    ],
)
def test_other_calls(call: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def test_groups_may_be_generators_and_are_of_this_model(network: Build, features: Tensor) -> None:
    model, other = network(2), network(2)
    balancer = PCGrad(granularity=[layer.parameters() for layer in model.trunk if list(layer.parameters())])
    for _ in range(2):
        report = balancer.backward(model.losses(features), shared=model.trunk.parameters())
        assert report.weights.shape == (2, 2)
    with pytest.raises(ValueError, match="None of the parameters in group 0"):
        balancer.backward(other.losses(features), shared=other.trunk.parameters())


class Refusing(BlockBalancer):
    """Counts its steps and refuses some of them."""

    stateful = ("steps",)

    def __init__(self) -> None:
        super().__init__(every=3)
        self.steps = 0
        self.refuse = False

    def solve(self, step: Step) -> Any:
        self.steps += 1
        if self.refuse:
            raise RuntimeError("refused")
        return super().solve(step)


def test_a_step_that_raises_has_not_happened(network: Build, features: Tensor) -> None:
    model, balancer = network(2), Refusing()
    balancer.refuse = True
    with pytest.raises(RuntimeError, match="refused"):
        balancer.backward(model.losses(features), shared=model.trunk.parameters())
    assert balancer.state_dict() == {"steps": 0, "held": {}, "age": 0}
    with pytest.raises(RuntimeError, match="refused"):
        balancer.merge(torch.ones(2, 2))
    for task in model.heads:
        loss = model.losses(features)[task]
        balancer.accumulate({task: loss}, shared=model.trunk.parameters())
    with pytest.raises(RuntimeError, match="refused"):
        balancer.merge()
    assert balancer.state_dict() == {"steps": 0, "held": {}, "age": 0}
    balancer.refuse = False
    assert balancer.merge().tasks == ("a", "b")  # what was accumulated is still there
    torch.testing.assert_close(model.merged(), model.matrix(features).sum(dim=0))
    with pytest.raises(ValueError, match="nothing to merge"):
        balancer.merge()


class Overlapping(Balancer):
    """Differentiates the sum of all tasks, and the first by itself, and takes the former."""

    def rows(self, tasks: Tasks) -> Any:
        return [[1] * len(tasks.names), [1] + [0] * (len(tasks.names) - 1)]

    def solve(self, step: Step) -> Any:
        return torch.tensor([1.0, 0.0]).numpy()


@pytest.mark.parametrize(
    "balancer", [Overlapping(), Fixed({"a": 3, "b": -1}), Equal("mean"), MTRec(), PCGrad()], ids=repr
)
def test_heads_are_differentiated_once(balancer: Balancer, network: Build, features: Tensor) -> None:
    model, calls = network(2), []
    expected = model.plain(features)
    for head in model.heads.values():
        head.weight.register_hook(lambda gradient: calls.append(1))
    balancer.backward(model.losses(features), shared=model.trunk.parameters(), target="a")
    assert len(calls) == 2
    for name, head in model.heads.items():
        torch.testing.assert_close(head.weight.grad, expected[name][f"heads.{name}.weight"])
    if isinstance(balancer, Overlapping):
        torch.testing.assert_close(model.merged(), model.matrix(features).sum(dim=0))


def test_a_function_that_keeps_something_called_variable(network: Build, features: Tensor) -> None:
    class Keeping(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, given: Tensor) -> Tensor:
            ctx.variable = given.detach().clone()
            return given * 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 2

    model = network(2)
    shared = model.trunk(Keeping.apply(features.clone().requires_grad_()))
    losses = {name: head(shared).mean() for name, head in model.heads.items()}
    report = Fixed({"a": 1.0, "b": 2.0}).backward(losses)
    assert report.finite
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_scaler_that_is_off_is_a_scaler(network: Build, features: Tensor) -> None:
    model = network(2)
    Equal().backward(model.losses(features), scaler=GradScaler("cpu", enabled=False))
    torch.testing.assert_close(model.merged(), model.matrix(features).sum(dim=0))


def test_what_was_accumulated_can_be_dropped(network: Build, features: Tensor) -> None:
    model, balancer = network(2), PCGrad()
    for _ in range(2):
        balancer.accumulate({"a": model.losses(features)["a"] * torch.nan}, shared=model.trunk.parameters())
        balancer.discard()
    with pytest.raises(ValueError, match="nothing to merge"):
        balancer.merge()
