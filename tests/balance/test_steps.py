"""Other ways to take a step: tasks one after the other, at the representation, every few steps, scaled."""

import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.utils.checkpoint import checkpoint

from counterpoint.balance import Balancer, Fixed, MetaBalance, MTRec, PCGrad, Report, UPGrad
from counterpoint.balance.passes import take_rows
from counterpoint.balance.rows import Row

from .conftest import Network

Build = Callable[[int], Network]
Methods = Callable[[], Iterator[Balancer]]


def test_tasks_accumulated_one_by_one_merge_like_one_batch(
    network: Build, features: Tensor, methods: Methods
) -> None:
    model = network(4)
    for balancer, twin in zip(methods(), methods(), strict=True):
        model.zero_grad()
        expected = balancer.backward(
            model.losses(features), shared=model.trunk.parameters(), target="b", diagnose=True
        )
        gradients = model.gradients()
        model.zero_grad()
        for task in model.heads:
            twin.accumulate({task: model.losses(features)[task]}, shared=model.trunk.parameters())
            assert all(parameter.grad is None for parameter in model.trunk.parameters())
        report = twin.merge(target="b")
        torch.testing.assert_close(model.gradients(), gradients, msg=repr(twin))
        torch.testing.assert_close(report.weights, expected.weights)
        torch.testing.assert_close(report.cosines, expected.cosines)
        torch.testing.assert_close(report.losses, expected.losses)


def test_a_task_accumulated_twice_is_added_up(network: Build, features: Tensor) -> None:
    model = network(2)
    balancer, shared = MTRec(), list(model.trunk.parameters())
    first, second = model.matrix(features), model.matrix(1 - features)
    values = [model.losses(each)["b"].item() for each in (features, 1 - features)]
    model.zero_grad()
    for batch, tasks in ((features, "ab"), (1 - features, "b")):
        losses = model.losses(batch)
        balancer.accumulate({task: losses[task] for task in tasks}, shared=shared)
    report = balancer.merge(target="a")
    rows = torch.stack([first[0], first[1] + second[1]])
    torch.testing.assert_close(model.merged(), MTRec().merge(rows, target=0))
    assert report.losses[1].item() == pytest.approx(sum(values))
    with pytest.raises(ValueError, match="nothing to merge"):
        balancer.merge(target="a")


@pytest.mark.parametrize("sparse", [False, True])
def test_tables_of_tasks_on_batches_of_their_own(sparse: bool) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(40, 3, sparse=sparse)
    words = {"a": torch.tensor([5, 1, 1]), "b": torch.tensor([1, 39]), "c": torch.tensor([0, 5, 7])}

    def loss(task: str) -> Tensor:
        return (table(words[task]).sum(dim=1) - ord(task) % 3).square().sum() * (-1) ** (task == "b")

    rows = [torch.autograd.grad(loss(task), table.weight)[0].to_dense().flatten() for task in words]
    balancer = PCGrad()
    for task in words:
        balancer.accumulate({task: loss(task)}, shared=table.parameters())
    balancer.merge()
    assert table.weight.grad.is_sparse == sparse
    torch.testing.assert_close(table.weight.grad.to_dense().flatten(), PCGrad().merge(torch.stack(rows)))


def test_accumulated_tasks_share_one_list_of_parameters(network: Build, features: Tensor) -> None:
    model = network(2)
    parameters = list(model.trunk.parameters())
    balancer = PCGrad()
    balancer.accumulate({"a": model.losses(features)["a"]}, shared=parameters)
    with pytest.raises(ValueError, match="same parameters"):
        balancer.accumulate({"b": model.losses(features)["b"]}, shared=parameters[1:])
    balancer = MTRec()
    balancer.accumulate({"click": model.losses(features)["a"]}, shared=parameters)
    with pytest.raises(ValueError, match="did you mean 'click'"):
        balancer.merge(target="clik")
    balancer.merge(target="click")


def represent(
    model: Network, features: Tensor, balancer: Balancer, *, diagnose: bool = False, target: str = "b"
) -> Report:
    shared = model.trunk(features)
    model.trunk[0].weight.register_hook(model._count)
    losses = {
        name: (head(shared) - 1 - 3 * index).square().mean() * (-1) ** index
        for index, (name, head) in enumerate(model.heads.items())
    }
    return balancer.backward(losses, representation=shared, target=target, diagnose=diagnose)


def at_representation(model: Network, features: Tensor) -> Tensor:
    shared = model.trunk(features)
    losses = [
        (head(shared) - 1 - 3 * index).square().mean() * (-1) ** index
        for index, head in enumerate(model.heads.values())
    ]
    return torch.stack([torch.autograd.grad(loss, shared, retain_graph=True)[0].flatten() for loss in losses])


@pytest.mark.parametrize("method", [PCGrad, MTRec])
@pytest.mark.parametrize("diagnose", [False, True])
def test_the_gramian_at_the_representation(
    network: Build, features: Tensor, method: Callable[..., Balancer], diagnose: bool
) -> None:
    model = network(3)
    matrix, plain, cut = model.matrix(features), model.plain(features), at_representation(model, features)
    weights = method().weights(cut @ cut.T, target=1)
    report = represent(model, features, method(passes="representation"), diagnose=diagnose)
    torch.testing.assert_close(report.weights, weights)
    torch.testing.assert_close(report.norms, cut.norm(dim=1))
    torch.testing.assert_close(model.merged(), weights @ matrix)
    for task, head in model.heads.items():
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(parameter.grad, plain[task][f"heads.{task}.{name}"])
    if not diagnose:
        assert model.passes == 1
        assert report.exact_weights is None
        assert report.distance is None
        return
    exact = method().weights(matrix @ matrix.T, target=1)
    torch.testing.assert_close(report.exact_weights, exact)
    assert report.distance == pytest.approx(float((weights - exact).norm() / exact.norm()))
    assert (report.distance > 0) == (method is PCGrad)  # MTRec sees no conflict in either


def test_one_linear_layer_s_representation_misses_conflicts() -> None:
    # Two examples with opposite inputs, one per task: the outputs' gradients never meet, the weights' do.
    layer = nn.Linear(2, 1, bias=False)
    inputs = torch.tensor([[1.0, 0.5], [-1.0, 0.5]])

    def step(balancer: Balancer, *, cut: bool) -> Report:
        outputs = layer(inputs)
        losses = {"a": outputs[0].sum(), "b": outputs[1].sum()}
        return balancer.backward(
            losses, **({"representation": outputs} if cut else {"shared": layer.parameters()})
        )

    assert step(PCGrad(), cut=False).conflicts[0, 1]
    assert not step(PCGrad(passes="representation"), cut=True).conflicts[0, 1]


def test_representations_that_are_none(network: Build, features: Tensor) -> None:
    model = network(2)
    balancer = PCGrad(passes="representation")
    with pytest.raises(ValueError, match="give representation="):
        balancer.backward(model.losses(features))
    with pytest.raises(ValueError, match="passes='representation'"):
        PCGrad().backward(model.losses(features), representation=model.trunk(features))
    with pytest.raises(ValueError, match="what the trunk computed"):
        balancer.backward(model.losses(features), representation=features)
    shared = model.trunk(features)
    past = {"a": shared.sum(), "b": shared.square().sum() + model.trunk(features).sum()}
    with pytest.raises(ValueError, match="past the representation"):
        balancer.backward(past, representation=shared)
    with pytest.raises(ValueError, match="granularity='whole'"):
        PCGrad(passes="representation", granularity="tensor")


def test_weights_are_held_between_refreshes(network: Build, features: Tensor) -> None:
    model = network(3)
    balancer, fresh = PCGrad(every=3), PCGrad()
    matrices = [model.matrix(features + shift) for shift in range(7)]
    weights = [fresh.weights(matrices[step] @ matrices[step].T) for step in (0, 3, 6)]
    for step in range(7):
        model.zero_grad()
        model.passes = 0
        report = balancer.backward(model.losses(features + step), shared=model.trunk.parameters())
        assert model.passes == (3 if step % 3 == 0 else 1)
        torch.testing.assert_close(report.weights, weights[step // 3])
        torch.testing.assert_close(model.merged(), weights[step // 3] @ matrices[step])


def test_a_task_without_a_held_weight_makes_new_ones(network: Build, features: Tensor) -> None:
    model = network(3)
    balancer = PCGrad(every=10)
    shared = list(model.trunk.parameters())
    balancer.backward(model.losses(features) | {"c": None}, shared=shared)
    model.passes = 0
    balancer.backward(model.losses(features) | {"a": None, "c": None}, shared=shared)
    assert model.passes == 1
    model.passes = 0
    balancer.backward(model.losses(features), shared=shared)
    assert model.passes == 3
    restored = PCGrad(every=10)
    restored.load_state_dict(balancer.state_dict())
    model.passes = 0
    restored.backward(model.losses(features), shared=shared)
    assert model.passes == 1


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 1.5}, {"every": True}])
def test_refreshing_is_counted_in_steps(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="every must be a whole number from 1 on"):
        PCGrad(**options)


def scaler() -> GradScaler:
    return GradScaler("cpu", init_scale=2.0**10)


def test_a_gradient_scaler_scales_grad_and_nothing_else(
    network: Build, features: Tensor, methods: Methods
) -> None:
    model = network(4)
    for balancer, twin in zip(methods(), methods(), strict=True):
        model.zero_grad()
        plain = balancer.backward(model.losses(features), target="a")
        expected = model.gradients()
        model.zero_grad()
        scaled = twin.backward(model.losses(features), target="a", scaler=scaler())
        for name, gradient in model.gradients().items():
            torch.testing.assert_close(gradient / 2**10, expected[name], msg=repr(twin))
        for field in ("losses", "norms", "weights", "effects"):
            torch.testing.assert_close(
                getattr(scaled, field), getattr(plain, field), msg=field, equal_nan=True
            )


def test_a_step_with_a_scaler_is_an_unscaled_step(network: Build, features: Tensor) -> None:
    stepped = []
    for given in (None, scaler()):
        model = network(3).float()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        balancer = MTRec()
        for _ in range(3):
            optimizer.zero_grad()
            balancer.backward(model.losses(features.float()), target="a", scaler=given)
            if given is None:
                optimizer.step()
            else:
                given.step(optimizer)
                given.update()
        stepped.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*stepped)


def test_an_overflow_is_skipped_by_the_scaler_and_changes_no_state(network: Build, features: Tensor) -> None:
    model = network(2).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    given = GradScaler("cpu", init_scale=2.0**127)
    balancer = PCGrad()
    report = balancer.backward(model.losses(features.float()), scaler=given)
    assert not report.finite
    assert report.as_dict()["finite"] is False
    assert balancer.draws == 0
    given.step(optimizer)
    given.update()
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))
    assert given.get_scale() < 2.0**127


def test_shares_add_up_to_one(network: Build, features: Tensor) -> None:
    model = network(3)
    matrix = model.matrix(features)
    report = PCGrad().backward(model.losses(features))
    merged = model.merged()
    expected = report.weights * (matrix @ merged) / merged.square().sum()
    torch.testing.assert_close(report.shares, expected)
    assert float(report.shares.sum()) == pytest.approx(1)
    named = report.as_dict()["shares"]
    assert named["a"] == pytest.approx(expected[0].item())
    nothing = Fixed({"a": 0.0, "b": 0.0, "c": 0.0}).backward(model.losses(features), diagnose=True)
    assert nothing.shares.tolist() == [0, 0, 0]


@pytest.mark.parametrize("diagnose", [False, True])
def test_streaming_holds_three_copies_of_the_gradients(
    network: Build, features: Tensor, monkeypatch: pytest.MonkeyPatch, diagnose: bool
) -> None:
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watched(*args: Any, **options: Any) -> Generator[Row, None, None]:
        for row in take_rows(*args, **options):
            made.extend(weakref.ref(gradient) for gradient in row)
            alive.append(sum(each() is not None for each in made))
            yield row
            del row

    monkeypatch.setattr("counterpoint.balance.target_first.take_rows", watched)
    monkeypatch.setattr("counterpoint.balance.engine.take_rows", watched)
    model = network(6)
    tensors = len(list(model.trunk.parameters()))
    MetaBalance().backward(
        model.losses(features), shared=model.trunk.parameters(), target="d", diagnose=diagnose
    )
    assert max(alive) == tensors * (6 if diagnose else 3)


def test_a_frozen_base_with_adapters(network: Build, features: Tensor) -> None:
    model = network(3)
    base = model.trunk[0]
    base.requires_grad_(False)
    down, up = nn.Linear(4, 2, bias=False).double(), nn.Linear(2, 6, bias=False).double()
    adapted = nn.Sequential()
    plain, model.trunk = model.trunk, adapted
    adapted.forward = lambda x: plain[2](plain[1](base(x) + up(down(x))))  # type: ignore[method-assign]
    shared = [*down.parameters(), *up.parameters(), *plain[2].parameters()]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
        for loss in model.losses(features).values()
    ]
    for given in (None, [*plain.parameters(), *shared]):
        for parameter in shared:
            parameter.grad = None
        PCGrad().backward(model.losses(features), shared=given)
        assert all(parameter.grad is None for parameter in base.parameters())
        merged = torch.cat([parameter.grad.flatten() for parameter in shared])
        torch.testing.assert_close(merged, PCGrad().merge(torch.stack(rows)))


def two_parts(model: Network, features: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A representation of two parts; the loss "sum" hands both the very same gradient."""
    first, second = model.trunk(features), model.trunk(features.flip(1)).sin()
    losses = {
        "sum": (first + second).square().mean(),
        "first": -first.square().mean(),
        "second": second.mean(),
    }
    return first, second, losses


@pytest.mark.parametrize("method", [PCGrad, MTRec, UPGrad])
def test_parts_of_a_representation(method: Callable[..., Balancer], network: Build, features: Tensor) -> None:
    model = network(1)
    first, second, losses = two_parts(model, features)
    rows = [
        torch.autograd.grad(loss, (first, second), retain_graph=True, materialize_grads=True)
        for loss in losses.values()
    ]
    flat = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    weights = method().weights(flat @ flat.T, target=0)
    balancer = method(passes="representation")
    report = balancer.backward(losses, representation=[first, second, first], target="sum")
    torch.testing.assert_close(report.weights, weights)
    merged = model.merged()
    model.zero_grad()
    *_, losses = two_parts(model, features)
    torch.autograd.backward(list(losses.values()), list(weights))
    torch.testing.assert_close(merged, model.merged())


def test_a_part_computed_from_another(network: Build, features: Tensor) -> None:
    model = network(1)
    first = model.trunk(features)
    second = first.tanh()
    losses = {"a": first.mean(), "b": second.mean()}
    with pytest.raises(ValueError, match="computed from another"):
        PCGrad(passes="representation").backward(losses, representation=[first, second])


def test_a_representation_out_of_a_reentrant_checkpoint(network: Build, features: Tensor) -> None:
    """The graph hides the trunk, so the trunk is given."""
    model, twin = network(2), network(2)
    given = {"shared": model.trunk.parameters()}
    inside = checkpoint(model.trunk, features.clone().requires_grad_(), use_reentrant=True)
    for net, shared, options in ((model, inside, given), (twin, twin.trunk(features), {})):
        losses = {name: (head(shared) - 1).square().mean() for name, head in net.heads.items()}
        PCGrad(passes="representation").backward(losses, representation=shared, **options)
    torch.testing.assert_close(model.gradients(), twin.gradients())


def test_a_trunk_whose_gradient_is_not_finite(network: Build, features: Tensor) -> None:
    model, balancer = network(2), PCGrad(passes="representation")
    model.trunk[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    shared = model.trunk(features)
    losses = {name: (head(shared) - 1).square().mean() for name, head in model.heads.items()}
    report = balancer.backward(losses, representation=shared)
    assert not report.finite
    assert balancer.draws == 0


def test_heads_that_are_added_up_at_the_representation(network: Build, features: Tensor) -> None:
    """Their gradients are one tensor, or views of a single number."""
    model = network(2)
    extra = nn.ParameterList([torch.randn(5), torch.randn(5)]).double()

    def losses(shared: Tensor) -> dict[str, Tensor]:
        return {
            name: (head(shared + (extra[0] + extra[1])).square().mean() + extra[0].sum())
            for name, head in model.heads.items()
        }

    losses_here = losses(model.trunk(features))
    expected = torch.autograd.grad(sum(losses_here.values()), list(extra))
    shared = model.trunk(features)
    PCGrad(passes="representation").backward(losses(shared), representation=shared)
    for parameter, gradient in zip(extra, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
        assert parameter.grad.is_contiguous()
    assert extra[0].grad.data_ptr() != extra[1].grad.data_ptr()


def test_another_output_of_what_computed_the_representation(network: Build, features: Tensor) -> None:
    model = network(1)
    first, second = model.trunk(features).split((2, 3), dim=1)
    losses = {"a": first.square().mean(), "b": second.square().mean()}
    balancer = PCGrad(passes="representation")
    for each in (losses, {"a": losses["a"], "b": second[0, 0]}):
        with pytest.raises(ValueError, match="depends on another output"):
            balancer.backward(each, representation=first)
    balancer.backward(losses, representation=[first, second])
    torch.testing.assert_close(model.merged(), gradient_of(model, features))


def gradient_of(model: Network, features: Tensor) -> Tensor:
    first, second = model.trunk(features).split((2, 3), dim=1)
    gradients = torch.autograd.grad(
        first.square().mean() + second.square().mean(), list(model.trunk.parameters())
    )
    return torch.cat([each.flatten() for each in gradients])


def test_exact_weights_beside_held_ones(network: Build, features: Tensor) -> None:
    model, balancer = network(3), UPGrad(passes="representation", every=3)
    for step in range(3):
        batch = features + step
        exact = UPGrad().weights(model.matrix(batch) @ model.matrix(batch).T)
        report = represent(model, batch, balancer, target=None, diagnose=True)
        torch.testing.assert_close(report.exact_weights, exact)
    assert report.distance > 0
