"""The backward pass: `.grad` is what `merge` says for the shared parameters, and plain everywhere else."""

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from counterpoint.balance import Balancer, Equal, Fixed, MTRec, PCGrad, Single

from .conftest import Network

Build = Callable[[int], Network]
Methods = Callable[[], Iterator[Balancer]]


@pytest.mark.parametrize("found", [False, True], ids=["shared given", "shared found"])
@pytest.mark.parametrize("diagnose", [False, True])
@pytest.mark.parametrize("tasks", [2, 4])
def test_every_method_is_its_merge_and_heads_stay_plain(
    network: Build, features: Tensor, methods: Methods, tasks: int, diagnose: bool, found: bool
) -> None:
    model = network(tasks)
    matrix, plain = model.matrix(features), model.plain(features)
    names = tuple(plain)
    assert (matrix @ matrix.T < 0).any()
    for balancer, twin in zip(methods(), methods(), strict=True):
        model.zero_grad()
        shared = None if found else model.trunk.parameters()
        report = balancer.backward(model.losses(features), shared=shared, target="b", diagnose=diagnose)
        expected = twin.merge(matrix, target=1, tasks=names)
        torch.testing.assert_close(model.merged(), expected, msg=repr(balancer))
        torch.testing.assert_close(report.weights @ matrix, expected, msg=repr(balancer))
        for task, head in model.heads.items():
            for name, parameter in head.named_parameters():
                torch.testing.assert_close(parameter.grad, plain[task][f"heads.{task}.{name}"])


@pytest.mark.parametrize("method", [MTRec, PCGrad])
def test_granularity_is_blocks_of_the_merge(
    network: Build, features: Tensor, method: Callable[..., Balancer]
) -> None:
    model = network(3)
    first_weight, first_bias, second_weight, second_bias = model.trunk.parameters()
    matrix = model.matrix(features)
    ends = torch.tensor([0, 24, 30, 60, 65])
    tensors = list(zip(ends.tolist(), ends[1:].tolist(), strict=False))

    model.zero_grad()
    shared = model.trunk.parameters()
    report = method(granularity="tensor").backward(model.losses(features), shared=shared, target="a")
    torch.testing.assert_close(model.merged(), method().merge(matrix, target=0, blocks=tensors))
    assert report.weights.shape == (4, 3)
    assert len(report.as_dict()["weights"]["b"]) == 4

    model.zero_grad()
    balancer = method(granularity=[[first_weight, first_bias]])
    balancer.backward(model.losses(features), shared=model.trunk.parameters(), target="a")
    torch.testing.assert_close(model.merged(), method().merge(matrix, target=0, blocks=[(0, 30), (30, 65)]))
    assert "weight" not in repr(balancer)
    assert len(repr(balancer)) < 100
    with pytest.raises(ValueError, match="two groups"):
        method(granularity=[[second_weight, second_bias], [second_bias]])


@pytest.mark.parametrize("tasks", [2, 3, 4, 5, 6])
def test_passes_through_the_trunk(network: Build, features: Tensor, methods: Methods, tasks: int) -> None:
    model = network(tasks)
    expected = {"Equal": 1, "Fixed": 1, "Single": 1, "MTRec": 2, "PCGrad": tasks}
    for balancer in methods():
        model.passes = 0
        balancer.backward(model.losses(features), shared=model.trunk.parameters(), target="a")
        assert model.passes == expected[type(balancer).__name__], balancer


def test_gradients_accumulate(network: Build, features: Tensor, methods: Methods) -> None:
    model = network(3)
    for balancer, twin in zip(methods(), methods(), strict=True):
        single_steps = []
        for batch in (features, 1 - features):
            model.zero_grad()
            balancer.backward(model.losses(batch), target="a")
            single_steps.append(model.gradients())
        model.zero_grad()
        for batch in (features, 1 - features):
            twin.backward(model.losses(batch), target="a")
        for name, gradient in model.gradients().items():
            torch.testing.assert_close(gradient, single_steps[0][name] + single_steps[1][name])


def test_existing_grad_is_added_to_in_place(network: Build, features: Tensor) -> None:
    model = network(2)
    before = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = before[name]
    MTRec().backward(model.losses(features), target="a")
    assert all(parameter.grad is before[name] for name, parameter in model.named_parameters())


def test_grad_is_restored_when_a_pass_fails(network: Build, features: Tensor) -> None:
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            raise RuntimeError("on purpose")

    model = network(2)
    before = [torch.ones_like(p) for p in model.trunk.parameters()]
    for parameter, grad in zip(model.trunk.parameters(), before, strict=True):
        parameter.grad = grad
    losses = model.losses(features)
    with pytest.raises(RuntimeError, match="on purpose"):
        PCGrad().backward(losses | {"b": Fails.apply(losses["b"])})
    for parameter, grad in zip(model.trunk.parameters(), before, strict=True):
        assert parameter.grad is grad
        assert (grad == 1).all()


def test_shared_parameters_are_those_two_losses_reach() -> None:
    alone, of_two, of_all, frozen = (nn.Parameter(torch.tensor(2.0)) for _ in range(4))
    frozen.requires_grad_(False)
    losses = {"a": of_all * of_two * frozen, "b": -of_two * of_all, "c": of_all * alone}
    report = Equal("mean").backward(losses, diagnose=True)
    assert of_all.grad.item() == pytest.approx((4 - 2 + 2) / 3)
    assert of_two.grad.item() == pytest.approx((4 - 2) / 3)
    assert alone.grad.item() == 2.0  # its own, so not divided
    assert frozen.grad is None
    torch.testing.assert_close(report.norms, torch.tensor([32.0, 8.0, 4.0]).double().sqrt())


def test_shared_may_repeat_and_freeze_but_not_compute(network: Build, features: Tensor) -> None:
    model = network(3)
    matrix = model.matrix(features)
    parameters = list(model.trunk.parameters())
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    shared = (each for each in [*parameters, frozen, *parameters])
    PCGrad().backward(model.losses(features), shared=shared)
    torch.testing.assert_close(model.merged(), PCGrad().merge(matrix))
    with pytest.raises(ValueError, match="leaves"):
        PCGrad().backward(model.losses(features), shared=[parameters[0] * 2])


def test_absent_tasks(network: Build, features: Tensor) -> None:
    model = network(3)
    matrix = model.matrix(features)
    of_a, of_b, of_c = matrix

    def merged(balancer: Balancer, losses: dict[str, Tensor | None]) -> Tensor:
        model.zero_grad()
        balancer.backward(losses, shared=model.trunk.parameters(), target="a")
        return model.merged()

    losses = model.losses(features)
    torch.testing.assert_close(merged(Equal("mean"), losses | {"b": None}), (of_a + of_c) / 2)
    torch.testing.assert_close(merged(MTRec(), {"a": model.losses(features)["a"]}), of_a)
    for without in ({"a": None}, {}):
        losses = model.losses(features)
        losses.pop("a")
        torch.testing.assert_close(merged(MTRec(), losses | without), 0.3 * (of_b + of_c))


def test_single_without_its_target_leaves_the_shared_parameters_alone(
    network: Build, features: Tensor
) -> None:
    model = network(2)
    plain = model.plain(features)["b"]
    losses = model.losses(features) | {"a": None}
    report = Single().backward(losses, shared=model.trunk.parameters(), target="a")
    assert all(parameter.grad is None for parameter in model.trunk.parameters())
    torch.testing.assert_close(model.gradients(), {name: plain[name] for name in model.gradients()})
    assert set(model.gradients()) == {"heads.b.weight", "heads.b.bias"}
    assert (report.rows, report.weights.tolist()) == ((), [0.0])
    json.dumps(report.as_dict(), allow_nan=False)


def test_constants_and_losses_off_the_trunk_are_zero_rows(
    network: Build, features: Tensor, methods: Methods
) -> None:
    model = network(2)
    of_a = model.matrix(features)[0]
    rows = torch.stack([of_a, torch.zeros_like(of_a), torch.zeros_like(of_a)])
    other = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    for balancer, twin in zip(methods(), methods(), strict=True):
        model.zero_grad()
        other.grad = None
        losses = {"a": model.losses(features)["a"], "b": torch.tensor(1.0), "c": other.square()}
        report = balancer.backward(losses, shared=model.trunk.parameters(), target="a", diagnose=True)
        torch.testing.assert_close(model.merged(), twin.merge(rows, target=0, tasks="abc"))
        assert other.grad.item() == 6.0
        assert report.norms[1:].tolist() == [0.0, 0.0]
        assert torch.equal(report.cosines, torch.eye(3).double())
    report = MTRec().backward({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, target="a")
    assert report.losses.tolist() == [1.0, 2.0]


def test_unused_parameters_keep_no_grad(network: Build, features: Tensor, methods: Methods) -> None:
    model = network(2)
    unused, of_one = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    for balancer in methods():
        model.zero_grad()
        of_one.grad = None
        losses = model.losses(features)
        losses["b"] = losses["b"] + of_one.sum()
        shared = [unused, of_one, *model.trunk.parameters()]
        report = balancer.backward(losses, shared=shared, target="a", diagnose=True)
        assert unused.grad is None
        torch.testing.assert_close(of_one.grad, report.weights[1].expand(2))


def test_a_parameter_of_several_heads_gets_its_plain_gradient_too(
    network: Build, features: Tensor, methods: Methods
) -> None:
    model = network(3)
    common = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    for balancer in methods():
        model.zero_grad()
        common.grad = None
        losses = {task: loss * common for task, loss in model.losses(features).items()}
        expected = sum(loss.item() for loss in losses.values()) / 2
        balancer.backward(losses, shared=model.trunk.parameters(), target="a")
        assert common.grad.item() == pytest.approx(expected)


def test_report(network: Build, features: Tensor) -> None:
    model = network(3)
    matrix = model.matrix(features)
    rows = torch.stack([matrix[0], matrix[1] + matrix[2]])
    losses = model.losses(features)
    values = torch.stack(list(losses.values())).detach()
    report = MTRec().backward(losses, target="a")
    assert report.tasks == ("a", "b", "c")
    assert report.rows == ("a", "b+c")
    assert report.finite
    cosine = torch.cosine_similarity(rows[0], rows[1], dim=0)
    torch.testing.assert_close(report.losses, values)
    torch.testing.assert_close(report.norms, rows.norm(dim=1))
    torch.testing.assert_close(report.cosines[0, 1], cosine)
    assert report.conflicts.tolist() == [[False, bool(cosine < 0)], [bool(cosine < 0), False]]
    torch.testing.assert_close(report.effects, rows @ model.merged())
    named = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert named["cosines"] == {"a|b+c": pytest.approx(cosine.item())}
    assert named["weights"].keys() == named["losses"].keys() == {"a", "b", "c"}
    assert named["conflict_rate"] == float(cosine < 0)
    assert named["distance"] is None
    assert Equal().backward(model.losses(features)).as_dict()["conflict_rate"] is None


def test_conflicts_of_equal_show_when_asked(network: Build, features: Tensor) -> None:
    model = network(3)
    matrix = model.matrix(features)
    report = Equal().backward(model.losses(features), diagnose=True)
    assert torch.equal(report.conflicts, matrix @ matrix.T < 0)
    assert report.as_dict()["conflict_rate"] == pytest.approx((matrix @ matrix.T < 0).sum().item() / 6)
    assert Equal().backward(model.losses(features)).rows == ("a+b+c",)


def test_norms_by_parameter_follow_the_order_of_shared_and_its_groups(
    network: Build, features: Tensor
) -> None:
    model = network(2)
    plain = model.plain(features)
    names = ["2.bias", "0.weight", "2.weight", "0.bias"]
    parameters = dict(model.trunk.named_parameters())
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    shared = [parameters[names[0]], frozen, *(parameters[name] for name in names), parameters[names[1]]]
    groups = [[parameters["2.weight"], parameters["0.weight"]]]
    balancer = MTRec(0.5, granularity=groups)
    report = balancer.backward(model.losses(features), shared=shared, target="b", diagnose=True)
    expected = [[plain[task][f"trunk.{name}"].norm() for task in "ab"] for name in names]
    torch.testing.assert_close(report.parameter_norms, torch.tensor(expected).double())
    # The group comes first, the biases are the rest.
    weights = report.weights.abs()[[1, 0, 0, 1]]
    torch.testing.assert_close(report.merged_norms, weights * torch.tensor(expected).double())
    assert (report.weights[0] != report.weights[1]).any()
    assert "parameter_norms" not in report.as_dict()


def test_norms_by_parameter_are_those_of_unscaled_losses(network: Build, features: Tensor) -> None:
    model = network(3)
    plain = Equal().backward(model.losses(features), shared=model.trunk.parameters(), diagnose=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = Equal().backward(
        model.losses(features), shared=model.trunk.parameters(), diagnose=True, scaler=scaler
    )
    torch.testing.assert_close(scaled.parameter_norms, plain.parameter_norms)
    torch.testing.assert_close(plain.merged_norms, plain.parameter_norms)


def test_norms_by_parameter_of_a_parameter_that_a_task_does_not_reach_are_zero() -> None:
    first, second = (nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(2))
    losses = {"a": (first * first).sum() / 2, "b": (first * second).sum(), "c": torch.tensor(1.0)}
    report = Equal().backward(losses, shared=[first, second], diagnose=True)
    assert report.parameter_norms.tolist() == [[5.0, 5.0, 0.0], [0.0, 5.0, 0.0]]


def test_norms_by_parameter_of_a_step_that_is_not_finite(network: Build, features: Tensor) -> None:
    model = network(2)
    losses = model.losses(features)
    losses["b"] = losses["b"] * torch.inf
    report = PCGrad().backward(losses, shared=model.trunk.parameters(), diagnose=True)
    assert report.parameter_norms[:, 0].isfinite().all()
    assert not report.parameter_norms[:, 1].isfinite().any()


def test_a_step_that_is_not_finite_is_plain_and_changes_no_state(network: Build, features: Tensor) -> None:
    model = network(3)
    losses = model.losses(features)
    balancer = PCGrad()
    report = balancer.backward(losses | {"b": losses["b"] * torch.inf}, shared=model.trunk.parameters())
    assert not report.finite
    assert not model.merged().isfinite().any()
    assert balancer.state_dict() == {"draws": 0}
    assert report.cosines.isfinite().all()
    named = report.as_dict()
    assert named["norms"]["b"] is None
    json.dumps(named, allow_nan=False)


def test_scaled_losses_give_scaled_gradients(network: Build, features: Tensor, methods: Methods) -> None:
    model = network(3)
    for balancer, twin in zip(methods(), methods(), strict=True):
        model.zero_grad()
        balancer.backward(model.losses(features), target="a")
        plain = model.merged()
        model.zero_grad()
        scaled = {task: loss * 2.0**16 for task, loss in model.losses(features).items()}
        twin.backward(scaled, target="a")
        torch.testing.assert_close(model.merged(), plain * 2.0**16)


def test_wrong_losses_and_targets(network: Build, features: Tensor) -> None:
    losses = {"click": network(1).losses(features)["a"], "category": torch.tensor(1.0)}
    with pytest.raises(ValueError, match="no loss"):
        Equal().backward({"click": None})
    with pytest.raises(ValueError, match=r"'click' must be a scalar.*\(2,\)"):
        Equal().backward({"click": torch.ones(2, requires_grad=True)})
    with pytest.raises(TypeError, match="'click' must be a tensor, not float"):
        Equal().backward({"click": 1.0})
    with pytest.raises(ValueError, match="did you mean 'click'"):
        MTRec().backward(losses, target="clik")
    for balancer in (MTRec(), Single()):
        with pytest.raises(ValueError, match="target="):
            balancer.backward(losses)
    with pytest.raises(ValueError, match="'category' has no weight"):
        Fixed({"click": 1.0}).backward(losses)
