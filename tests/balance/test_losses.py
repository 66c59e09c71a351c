"""Methods that look at losses alone: their formulas, their states, what they learn."""

import json
from collections.abc import Callable
from math import e, log, sqrt

import numpy as np
import pytest
import torch
import torchjd.scalarization as oracle
from torch import Tensor

from counterpoint.balance import (
    DWA,
    FAMO,
    IMTL,
    STCH,
    Balancer,
    GeometricMean,
    RandomLossWeighting,
    Uncertainty,
)
from counterpoint.balance.learned import Learned, descend, values

New = Callable[[], Balancer]
METHODS: list[New] = [
    RandomLossWeighting,
    lambda: FAMO(decay=0.01),
    Uncertainty,
    lambda: DWA(window=3),
    lambda: STCH(0.3, warmup=7),
    GeometricMean,
    lambda: IMTL("loss"),
]


def label(new: New) -> str:
    return repr(new())


every_method = pytest.mark.parametrize("new", METHODS, ids=label)


def weights(balancer: Balancer, losses: list[float], tasks: str | None = None) -> Tensor:
    """The weights of tasks with orthogonal gradients."""
    values = torch.tensor(losses, dtype=torch.float64)
    return balancer.weights(torch.eye(len(losses)), losses=values, tasks=tasks)


def random_losses(steps: int, tasks: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(steps, tasks, generator=generator, dtype=torch.float64) * 3 + 0.1


def of_losses(objective: Callable[[Tensor], Tensor], losses: Tensor) -> Tensor:
    """The derivatives of a scalar objective by the losses."""
    losses = losses.clone().requires_grad_()
    return torch.autograd.grad(objective(losses), losses)[0]


@pytest.mark.parametrize(
    ("balancer", "losses", "expected"),
    [
        (Uncertainty(), [2.0, 5.0], [0.5, 0.5]),
        (IMTL("loss"), [2.0, 5.0], [1.0, 1.0]),
        (DWA(), [2.0, 5.0], [1.0, 1.0]),
        (FAMO(), [1.0, 3.0], [0.75, 0.25]),  # z = ½: 1/L over its sum
        (STCH(), [2.0, 5.0], [0.5, 0.2]),
        (GeometricMean(), [1.0, 4.0], [1.0, 0.25]),  # the mean is 2
        (GeometricMean(), [1.0, 8.0, 27.0], [2.0, 0.25, 2 / 27]),  # the mean is 6
    ],
    ids=repr,
)
def test_first_step_by_hand(balancer: Balancer, losses: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(weights(balancer, losses), expected, rtol=1e-14)


def test_second_steps_by_hand() -> None:
    # Adam's first step is ± lr: s rises for L > 1 and falls for L < 1.
    uncertainty, imtl, famo = Uncertainty(lr=0.5), IMTL("loss", lr=0.5), FAMO(lr=0.5, decay=0.0)
    for balancer in (uncertainty, imtl, famo):
        weights(balancer, [2.0, 0.5])
    np.testing.assert_allclose(weights(uncertainty, [9.0, 9.0]), [e**-0.5 / 2, e**0.5 / 2], rtol=1e-6)
    np.testing.assert_allclose(weights(imtl, [9.0, 9.0]), [e**-0.5, e**0.5], rtol=1e-6)
    # The first loss has fallen by log 2, the second not: ξ = (-½, ½), z ∝ (1, e), and the losses are equal.
    np.testing.assert_allclose(weights(famo, [1.0, 0.5]), np.array([1.0, 2 * e]) / (1 + 2 * e), rtol=1e-6)


def test_dynamic_weight_average_by_hand() -> None:
    balancer = DWA(window=2)
    for losses in ([1.0, 4.0], [3.0, 4.0], [1.0, 1.0], [1.0, 3.0]):  # means (2, 4), then (1, 2)
        np.testing.assert_allclose(weights(balancer, losses), [1.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(weights(balancer, [3.0, 0.5]), [1.0, 1.0], rtol=1e-15)  # both halved
    weights(balancer, [5.0, 1.5])  # means (4, 1): ratios 4 and ½
    shares = np.exp([2.0, 0.25])
    np.testing.assert_allclose(weights(balancer, [9.0, 9.0]), 2 * shares / shares.sum(), rtol=1e-14)


@pytest.mark.parametrize(("temperature", "window"), [(2.0, 1), (0.5, 4)])
def test_dynamic_weight_average_is_torchjd_s(temperature: float, window: int) -> None:
    balancer, scalarizer = DWA(temperature, window), oracle.DWA(temperature)
    for step, losses in enumerate(random_losses(6 * window, 3)):
        torch.testing.assert_close(
            weights(balancer, losses.tolist()), of_losses(scalarizer, losses), rtol=1e-12, atol=0
        )
        if step % window == window - 1:
            scalarizer.step()


def test_a_rarer_task_has_windows_of_its_own() -> None:
    balancer = DWA(window=2)
    for step, loss in enumerate([8.0, 8.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0]):  # "b" comes every other time
        if step % 2:
            weights(balancer, [loss, 5.0], "ab")
        else:
            weights(balancer, [loss], "a")
    assert balancer.means == {"a": [2.0, 1.0], "b": [5.0, 5.0]}
    shares = np.exp([0.25, 0.5])
    np.testing.assert_allclose(weights(balancer, [1.0, 5.0], "ab"), 2 * shares / shares.sum(), rtol=1e-14)
    np.testing.assert_allclose(weights(balancer, [7.0, 5.0], "cb"), [1.0, 1.0], rtol=1e-15)


def test_a_task_whose_loss_was_zero_counts_as_unchanged() -> None:
    balancer = DWA(window=1)
    for losses in ([0.0, 1.0], [5.0, 1.0]):
        weights(balancer, losses)
    np.testing.assert_allclose(weights(balancer, [5.0, 1.0]), [1.0, 1.0], rtol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_geometric_mean_is_torchjd_s_and_its_own_derivative(seed: int) -> None:
    losses = torch.rand(seed + 1, generator=torch.Generator().manual_seed(seed)).double() * 9 + 0.01
    expected = of_losses(lambda each: each.prod() ** (1 / len(each)), losses)
    torch.testing.assert_close(weights(GeometricMean(), losses.tolist()), expected, rtol=1e-12, atol=0)
    expected = of_losses(oracle.GeometricMean(), losses)
    torch.testing.assert_close(weights(GeometricMean(), losses.tolist()), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("balancer", "scalarizer", "start"),
    [
        (Uncertainty(lr=0.1), oracle.UW(3).double(), "log_var"),
        (IMTL("loss", lr=0.1), oracle.IMTLL(3).double(), "log_scale"),
    ],
    ids=repr,
)
def test_learned_weights_are_torchjd_s_with_torch_s_adam(
    balancer: Balancer, scalarizer: oracle.Scalarizer, start: str
) -> None:
    assert not getattr(scalarizer, start).any()
    optimizer = torch.optim.Adam(scalarizer.parameters(), lr=0.1)
    for losses in random_losses(30, 3):
        leaf = losses.clone().requires_grad_()
        optimizer.zero_grad()
        scalarizer(leaf).backward()
        torch.testing.assert_close(weights(balancer, losses.tolist()), leaf.grad, rtol=1e-9, atol=0)
        optimizer.step()


def test_famo_is_torchjd_s_with_the_losses_after_the_step() -> None:
    balancer, scalarizer = FAMO(lr=0.1, decay=0.01), oracle.FAMO(3, lr=0.1, weight_decay=0.01).double()
    for losses, after in zip(random_losses(30, 3), random_losses(31, 3)[1:] ** 2, strict=True):
        expected = of_losses(scalarizer, losses)  # with losses 1e-8 larger
        torch.testing.assert_close(weights(balancer, losses.tolist()), expected, rtol=1e-5, atol=0)
        balancer.observe({str(task): loss for task, loss in enumerate(after)})
        scalarizer.update(after)


def test_famo_s_next_batch_stands_in_for_losses_not_observed() -> None:
    balancer, scalarizer = FAMO(), oracle.FAMO(3).double()
    of_losses(scalarizer, (rows := random_losses(20, 3))[0])
    weights(balancer, rows[0].tolist())
    for losses in rows[1:]:
        scalarizer.update(losses)
        expected = of_losses(scalarizer, losses)
        torch.testing.assert_close(weights(balancer, losses.tolist()), expected, rtol=1e-5, atol=0)


def test_what_famo_compares() -> None:
    balancer = FAMO()
    balancer.observe({"a": 1.0})  # no step to compare with
    weights(balancer, [2.0, 3.0], "ab")
    balancer.observe({"a": torch.tensor(torch.nan), "b": torch.tensor(3.0)})
    assert balancer.state_dict() == {"logits": {}, "before": {}}
    weights(balancer, [2.0, 3.0], "ab")
    with pytest.raises(ValueError, match="had no task 'c'"):
        balancer.observe({"a": 1.0, "c": 1.0})
    assert balancer.before  # so that the call can be put right
    balancer.observe({"a": torch.tensor(1.0), "b": None})  # one task alone has nothing to compare with
    assert balancer.logits == {}
    weights(balancer, [2.0, 3.0], "ab")
    weights(balancer, [1.0, 3.0], "bc")  # only "b" is in both
    assert balancer.logits == {}
    weights(balancer, [9.0, 2.0, 1.0], "dcb")  # "c" has fallen, "b" has not
    assert balancer.logits.keys() == {"b", "c"}
    assert balancer.logits["c"]["value"] < 0 < balancer.logits["b"]["value"]
    with pytest.raises(ValueError, match=r"no task 'click'.*same tasks"):
        balancer.observe({"click": 1.0})
    weights(balancer, [1.0, 1.0], "ab")
    with pytest.raises(ValueError, match="'b' is -1"):
        balancer.observe({"a": 1.0, "b": -1.0})


@pytest.mark.parametrize("mu", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("warmup", [1, 5, 9])
def test_smooth_tchebycheff_is_the_derivative_of_its_objective(mu: float, warmup: int) -> None:
    balancer, rows = STCH(mu, warmup), random_losses(warmup + 4, 3)
    for losses in rows[:warmup]:
        expected = of_losses(lambda each: each.log().sum(), losses)
        torch.testing.assert_close(weights(balancer, losses.tolist()), expected)
    nadir = rows[warmup - {1: 1, 5: 1, 9: 2}[warmup] : warmup].mean(dim=0)
    scalarizer = oracle.STCH(mu, weights=torch.ones(3, dtype=torch.float64))
    for losses in rows[warmup:]:
        found = weights(balancer, losses.tolist())
        expected = of_losses(lambda each: 3 * mu * ((each / nadir).log() / mu).exp().sum().log(), losses)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
        torch.testing.assert_close(
            found, of_losses(lambda each: 3 * scalarizer((each / nadir).log()), losses), rtol=1e-10, atol=0
        )


def test_smooth_tchebycheff_by_hand() -> None:
    balancer = STCH(mu=0.5, warmup=1)
    weights(balancer, [2.0, 4.0])
    # Ratios (1, ½) to the power of 1/μ = 2 are (1, ¼), shares (0.8, 0.2), twice that over the losses.
    np.testing.assert_allclose(weights(balancer, [2.0, 2.0]), [0.8, 0.2], rtol=1e-14)
    # A task that joins warms up by itself: shares as before, its own weight 1/L.
    np.testing.assert_allclose(weights(balancer, [2.0, 8.0, 2.0], "0c1"), [0.8, 0.125, 0.2], rtol=1e-14)
    np.testing.assert_allclose(weights(balancer, [4.0]), [0.25], rtol=1e-14)


def test_random_weights() -> None:
    balancer, again, other = RandomLossWeighting(), RandomLossWeighting(), RandomLossWeighting(seed=1)
    drawn = torch.stack([balancer.weights(torch.eye(3)) for _ in range(4000)])
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(4000).double())
    logs = drawn.log()
    differences = logs[:, 0] - logs[:, 1]  # of two standard normals
    assert abs(float(differences.mean())) < 0.1
    assert float(differences.std()) == pytest.approx(sqrt(2), rel=0.05)
    assert torch.equal(drawn[0], again.weights(torch.eye(3)))
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], other.weights(torch.eye(3)))


@every_method
def test_one_pass_and_plain_gradients_for_the_heads(new: New) -> None:
    trunk, heads = torch.tensor([1.0, -2.0], requires_grad=True), torch.ones(3, requires_grad=True)
    balancer, passes = new(), 0

    def count(gradient: Tensor) -> None:
        nonlocal passes
        passes += 1

    for _ in range(9):
        trunk.grad = heads.grad = None
        shared = trunk * 1.0
        shared.register_hook(count)
        losses = {"a": (shared * heads[0]).square().sum(), "b": shared.exp().sum() * heads[1]}
        losses["c"] = (heads[2] - shared[0] * shared[1]).square()
        rows = [torch.autograd.grad(each, (trunk, heads), retain_graph=True) for each in losses.values()]
        passes = 0
        report = balancer.backward(losses, shared=[trunk])
        assert passes == 1
        merged = report.weights.float() @ torch.stack([of_trunk for of_trunk, _ in rows])
        torch.testing.assert_close(trunk.grad, merged)
        torch.testing.assert_close(heads.grad, sum(of_heads for _, of_heads in rows))


@every_method
@pytest.mark.parametrize("size", [1e-20, 1e-6, 1.0, 1e6, 1e20])
@pytest.mark.parametrize("tasks", [1, 3, 16])
def test_losses_of_any_size_give_finite_positive_weights(new: New, size: float, tasks: int) -> None:
    balancer = new()
    for losses in random_losses(30, tasks) * size:
        found = weights(balancer, losses.tolist())
        assert found.isfinite().all()
        assert (found >= 0).all()


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize(
    ("new", "power"),
    [
        (RandomLossWeighting, 0),
        (lambda: DWA(window=2), 0),
        (FAMO, 0),
        (GeometricMean, 0),
        (lambda: STCH(warmup=2), -1),
    ],
)
def test_what_a_factor_on_all_losses_does_to_the_weights(new: New, power: int, factor: float) -> None:
    balancer, scaled = new(), new()
    for losses in random_losses(12, 3):
        expected = weights(balancer, losses.tolist()) * factor**power
        torch.testing.assert_close(weights(scaled, (losses * factor).tolist()), expected, rtol=1e-9, atol=0)


def test_what_a_factor_on_one_loss_does() -> None:
    factors = torch.tensor([1.0, 1e3, 1e-2]).double()
    for new, sizes in ((FAMO, None), (GeometricMean, 10 ** (1 / 3)), (lambda: STCH(warmup=2), 1.0)):
        balancer, scaled = new(), new()
        for losses in random_losses(8, 3):
            directions = weights(scaled, (losses * factors).tolist()) * factors
            ratios = directions / weights(balancer, losses.tolist())
            torch.testing.assert_close(ratios, ratios[:1].expand(3), rtol=1e-9, atol=0)
            if sizes is not None:
                assert float(ratios[0]) == pytest.approx(sizes)


@pytest.mark.parametrize("new", METHODS[1:], ids=label)  # random weights are drawn in the order of tasks
def test_the_order_of_tasks_does_not_matter(new: New) -> None:
    balancer, turned = new(), new()
    for losses in random_losses(12, 3):
        expected = weights(balancer, losses.tolist(), "abc")
        found = weights(turned, losses.flip(0).tolist(), "cba")
        torch.testing.assert_close(found, expected.flip(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("new", METHODS[2:], ids=label)  # FAMO compares tasks that come together
def test_a_task_that_is_absent_keeps_its_state(new: New) -> None:
    balancer, twin = new(), new()
    for step, losses in enumerate(random_losses(24, 2).tolist()):
        weights(balancer, losses, "ab")
        weights(twin, losses, "ab")
        if step % 3 == 0:
            weights(twin, [losses[1]], "c")
    state, of_both = balancer.state_dict(), twin.state_dict()
    for name, by_task in state.items():
        assert {task: value for task, value in of_both[name].items() if task != "c"} == by_task


@every_method
def test_a_step_that_is_not_finite_leaves_the_state(new: New) -> None:
    balancer = new()
    gradients, losses = torch.eye(2), torch.tensor([1.0, 2.0])
    for _ in range(3):
        balancer.merge(gradients, losses=losses)
    before = balancer.state_dict()
    balancer.merge(gradients * torch.tensor([1.0, torch.inf]), losses=losses)
    merged = balancer.merge(gradients, losses=torch.tensor([torch.nan, -1.0]))
    assert torch.equal(merged, torch.ones(2))
    assert balancer.state_dict() == before


@every_method
def test_saved_in_the_middle_the_next_ten_steps_are_identical(new: New) -> None:
    first, second = new(), new()
    losses = random_losses(26, 4).tolist()
    for each in losses[:16]:
        weights(first, each)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for each in losses[16:]:
        assert torch.equal(weights(first, each), weights(second, each))
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize(
    ("balancer", "logs"),
    [
        (Uncertainty(lr=0.05), lambda method: values(method.log_variances, "ab")),
        (IMTL("loss", lr=0.05), lambda method: -values(method.log_scales, "ab")),
    ],
)
def test_uncertainty_and_imtl_learn_the_logarithms_of_losses(
    balancer: Balancer, logs: Callable[[Balancer], np.ndarray]
) -> None:
    # The optimum over s leaves Σ log L_k. With L_a = 1 + x² and L_b = 9 + 9 (x - 1)², that is least where
    # x / (1 + x²) = (1 - x) / (1 + (1 - x)²): at x = ½, not at the sum's 0.9.
    x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        x.grad = None
        balancer.backward({"a": 1 + x.square(), "b": 9 + 9 * (x - 1).square()}, shared=[x])
        x.data -= 0.05 * x.grad
    assert float(x.detach()) == pytest.approx(0.5, abs=0.002)
    np.testing.assert_allclose(logs(balancer), [log(1.25), log(11.25)], atol=0.005)


@pytest.mark.parametrize("exact", [True, False])
def test_famo_lets_losses_fall_by_the_same_factor(exact: bool) -> None:
    # log L_k = a_k x_k has the constant gradient a_k: the shortest Σ z_k ∇log L_k has z ∝ 1 / a².
    steepness = torch.tensor([1.0, 2.0]).double()
    balancer = FAMO(decay=0.0)
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    falls = []
    for _ in range(200):
        x.grad = None
        losses = dict(zip("ab", (steepness * x).exp(), strict=True))
        report = balancer.backward(losses, shared=[x])
        c = report.weights @ torch.stack(list(losses.values())).detach()  # as w L = c z
        before = x.detach().clone()
        x.data -= 0.01 * x.grad / c
        falls.append(steepness * (before - x.detach()))
        if exact:
            balancer.observe(dict(zip("ab", (steepness * x).exp(), strict=True)))
    shares = report.weights * torch.stack(list(losses.values())).detach() / c
    torch.testing.assert_close(shares.detach(), torch.tensor([0.8, 0.2]).double(), rtol=0, atol=0.02)
    assert float(falls[0][1] / falls[0][0]) == pytest.approx(4)
    assert float(falls[-1][1] / falls[-1][0]) == pytest.approx(1, abs=0.1)


def test_a_loss_of_zero_stays_defined_for_long() -> None:
    for balancer in (Uncertainty(lr=1.0), IMTL("loss", lr=1.0)):
        for _ in range(200):
            found = weights(balancer, [0.0, 1.0]).float()
        assert found.isfinite().all()
        assert found[0] > 1e30


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_numbers_are_learned_as_torch_s_adam_does(size: float) -> None:
    learned: Learned = {}
    parameter = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    for slopes in (random_losses(40, 2) - 1.5) * size:
        parameter.grad = slopes
        optimizer.step()
        descend(learned, "ab", slopes.numpy(), 0.1)
        np.testing.assert_allclose(values(learned, "ab"), parameter.detach(), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(values(learned, "ca", start=7.0), [7.0, learned["a"]["value"]])


def test_slopes_without_a_scale() -> None:
    plain: Learned = {}
    for size in (1e-200, 1e200):
        learned: Learned = {}
        for slopes in random_losses(10, 2).numpy() - 1:
            descend(learned, "ab", slopes * size, 0.1, eps=0.0)
            if size < 1:
                descend(plain, "ab", slopes, 0.1, eps=0.0)
        np.testing.assert_allclose(values(learned, "ab"), values(plain, "ab"), rtol=1e-9)
    descend(still := {}, "a", np.zeros(1), 0.1, eps=0.0)
    assert values(still, "a") == 0


@pytest.mark.parametrize(
    ("balancer", "losses", "says"),
    [
        (GeometricMean(), [1.0, 0.0], r"GeometricMean\(\).*'click' is 0.*add a constant"),
        (GeometricMean(), [1.0, -2.0], "'click' is -2"),
        (FAMO(), [1.0, 0.0], "FAMO.*'click' is 0"),
        (STCH(), [1.0, 0.0], "STCH.*'click' is 0"),
        (DWA(), [1.0, -0.5], r"DWA.*'click' is -0\.5"),
        (Uncertainty(), [1.0, -0.5], r"Uncertainty.*'click' is -0\.5"),
        (IMTL("loss"), [1.0, -0.5], r"IMTL.*'click' is -0\.5"),
    ],
    ids=repr,
)
def test_losses_a_method_cannot_use(balancer: Balancer, losses: list[float], says: str) -> None:
    before = balancer.state_dict()
    with pytest.raises(ValueError, match=says):
        balancer.merge(torch.eye(2), losses=torch.tensor(losses), tasks=("view", "click"))
    assert balancer.state_dict() == before


@pytest.mark.parametrize("new", METHODS[1:], ids=label)
def test_losses_are_asked_for_where_they_are_needed(new: New) -> None:
    with pytest.raises(ValueError, match="losses=…"):
        new().merge(torch.eye(2))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Uncertainty(lr=0.0), "lr must be a positive"),
        (lambda: DWA(temperature=0.0), "temperature must be a positive"),
        (lambda: DWA(window=0), "window must be a whole number from 1"),
        (lambda: FAMO(lr=-1.0), "lr must be a positive"),
        (lambda: FAMO(decay=-1e-3), "decay must be a finite number from 0"),
        (lambda: STCH(mu=0.0), "mu must be a positive"),
        (lambda: STCH(warmup=2.5), "warmup must be a whole number from 1"),
    ],
)
def test_wrong_options_name_the_remedy(make: New, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
