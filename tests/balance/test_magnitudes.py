"""IMTL and GradNorm: equal projections, equal norms, what they learn and what they keep."""

import json
from collections.abc import Callable
from math import exp, log

import numpy as np
import pytest
import torch
import torchjd.aggregation as oracle
from torch import Tensor, nn

from counterpoint.balance import IMTL, Balancer, GradNorm

New = Callable[[], Balancer]
METHODS: list[New] = [
    IMTL,
    lambda: IMTL("gradient"),
    lambda: IMTL("loss"),
    GradNorm,
    lambda: GradNorm(alpha=0.0, lr=0.1),
]


def label(new: New) -> str:
    return repr(new())


every_method = pytest.mark.parametrize("new", METHODS, ids=label)


def gradients(seed: int, tasks: int, coordinates: int = 20) -> Tensor:
    """Random gradients of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randn(tasks, 1, generator=generator).double().exp()
    return torch.randn(tasks, coordinates, generator=generator).double() * sizes


def losses(seed: int, tasks: int) -> Tensor:
    return torch.rand(tasks, generator=torch.Generator().manual_seed(100 + seed)).double() * 3 + 0.1


def units(matrix: Tensor) -> Tensor:
    return matrix / matrix.norm(dim=1, keepdim=True)


def impartial(matrix: Tensor) -> Tensor:
    return IMTL("gradient").weights(matrix @ matrix.T)


def published(matrix: Tensor) -> Tensor:
    """IMTL-G as its authors write it, equation 2."""
    first, unit = matrix[0], units(matrix)
    between, of_units = first - matrix[1:], unit[0] - unit[1:]  # D, U
    others = torch.linalg.solve((between @ of_units.T).T, of_units @ first)
    return torch.cat([1 - others.sum()[None], others])


@pytest.mark.parametrize(
    ("matrix", "weights"),
    [
        ([[2.0, 1.0], [-1.0, 0.5]], [1 / 3, 2 / 3]),  # norms √5 and √5 / 2
        ([[3.0, 0.0], [0.0, 1.0]], [0.25, 0.75]),
        ([[3.0, 0.0], [3.0, 0.0]], [0.5, 0.5]),
        ([[3.0, 0.0], [1.0, 0.0]], [0.25, 0.75]),
        ([[3.0, 0.0], [-1.0, 0.0]], [0.25, 0.75]),  # nothing is left
        ([[3.0, 0.0], [0.0, 0.0], [0.0, 1.0]], [0.25, 0.0, 0.75]),
        ([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.25, 0.25, 0.5]),
        ([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]),
        ([[0.0, 2.0]], [1.0]),
        ([[0.0, 0.0]], [1.0]),
    ],
)
def test_equal_projections_by_hand(matrix: list[list[float]], weights: list[float]) -> None:
    np.testing.assert_allclose(impartial(torch.tensor(matrix)), weights, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("tasks", [2, 3, 5, 16])
@pytest.mark.parametrize("seed", range(3))
def test_equal_projections_are_the_paper_s_and_torchjd_s(tasks: int, seed: int) -> None:
    matrix = gradients(seed, tasks, 60)
    found = impartial(matrix)
    torch.testing.assert_close(found, published(matrix), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(found @ matrix, oracle.IMTLG()(matrix), rtol=1e-6, atol=1e-9)
    projections = units(matrix) @ (found @ matrix)
    torch.testing.assert_close(projections, projections[:1].expand(tasks), rtol=1e-9, atol=0)
    assert float(found.sum()) == pytest.approx(1)


def test_parallel_gradients_are_the_limit_of_nearly_parallel_ones() -> None:
    parallel = torch.tensor([[1.0, 0.0], [2.0, 0.0]]).double()
    for angle in (1e-2, 1e-4, 1e-7, 1e-9, 1e-12, 0.0):
        matrix = parallel + torch.tensor([[0.0, angle], [0.0, 0.0]])
        torch.testing.assert_close(
            impartial(matrix), torch.tensor([2 / 3, 1 / 3]).double(), rtol=0, atol=1e-4
        )
    # A pseudo-inverse jumps from there.
    torch.testing.assert_close(
        oracle.IMTLG()(parallel + 1e-2), torch.tensor([4 / 3, 0.01]).double(), rtol=0, atol=0.02
    )
    torch.testing.assert_close(oracle.IMTLG()(parallel), torch.tensor([5 / 3, 0.0]).double())


def test_a_sum_of_weights_below_zero_turns_against_no_task() -> None:
    # (√6 + √10 - 5, √10 - 3, 1) has the projection 1 onto all rows; the weights of its rows add up to < 0.
    matrix = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 3.0], [1.0, -1.0, 2.0]]).double()
    balanced = torch.tensor([6**0.5 + 10**0.5 - 5, 10**0.5 - 3, 1.0]).double()
    weights = torch.linalg.solve(matrix.T, balanced)
    assert weights.sum() < 0
    merged = IMTL("gradient").merge(matrix)
    torch.testing.assert_close(merged, balanced / abs(weights.sum()))
    torch.testing.assert_close(oracle.IMTLG()(matrix), -merged)


def test_weights_that_add_up_to_nothing_stay_bounded() -> None:
    matrix = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 3.0], [1.0, -1.0, 2.0]]).double()
    # The direction does not depend on the rows' lengths: choose them so that the positive weights just fail.
    weights = impartial(matrix)
    short = weights.clamp(min=0).sum() / -weights.clamp(max=0).sum()
    matrix[weights > 0] *= float(short)
    found = impartial(matrix)
    assert abs(float(found.sum())) < 1e-9
    assert float(found.abs().sum()) == pytest.approx(100)
    projections = units(matrix) @ (found @ matrix)
    torch.testing.assert_close(projections, projections[:1].expand(3))
    assert projections[0] > 0


@pytest.mark.parametrize("tasks", [3, 7, 16])
def test_more_tasks_than_coordinates(tasks: int) -> None:
    matrix = gradients(1, tasks, 2)
    found = impartial(matrix)
    assert found.isfinite().all()
    # Unit vectors of a plane have no other point with equal inner products than zero.
    torch.testing.assert_close(found @ matrix, torch.zeros(2).double(), rtol=0, atol=1e-9)


def test_factors_on_gradients_change_no_direction() -> None:
    matrix = gradients(2, 4)
    merged = IMTL("gradient").merge(matrix)
    turned = IMTL("gradient").merge(matrix * torch.tensor([[1e-3], [1.0], [10.0], [1e4]]).double())
    torch.testing.assert_close(turned / turned.norm(), merged / merged.norm())


def test_both_is_equal_projections_of_scaled_losses() -> None:
    balancer, scales = IMTL(lr=0.5), IMTL("loss", lr=0.5)
    for step in range(5):
        matrix, values = gradients(step, 3), losses(step, 3)
        factors = scales.weights(matrix @ matrix.T, losses=values)
        expected = factors * published(factors[:, None] * matrix)
        torch.testing.assert_close(
            balancer.weights(matrix @ matrix.T, losses=values), expected, rtol=1e-9, atol=0
        )
    np.testing.assert_allclose(IMTL("loss", lr=0.5).weights(torch.eye(1), losses=torch.ones(1) * 3), [1.0])
    alone = IMTL(lr=0.5)
    alone.weights(torch.eye(1), losses=torch.ones(1) * 3)
    np.testing.assert_allclose(alone.weights(torch.eye(1), losses=torch.ones(1)), [exp(-0.5)], rtol=1e-6)


def test_imtl_counts_its_passes() -> None:
    for variant, expected in (("loss", 1), ("gradient", 3), ("both", 3)):
        trunk, passes = torch.ones(4, requires_grad=True), 0

        def count(gradient: Tensor) -> None:
            nonlocal passes
            passes += 1

        shared = trunk * 1.0
        shared.register_hook(count)
        terms = {task: (shared[index:] - index).square().sum() for index, task in enumerate("abc")}
        IMTL(variant).backward(terms, shared=[trunk])
        assert passes == expected


def written(alpha: float, lr: float, steps: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The weights GradNorm uses in every step, as its authors write algorithm 1."""
    tasks = len(steps[0][1])
    w = torch.ones(tasks, dtype=torch.float64, requires_grad=True)
    optimizer, used = torch.optim.Adam([w], lr=lr, eps=1e-100), []
    for matrix, values in steps:
        used.append(w.detach().clone())
        of_tasks = w * matrix.norm(dim=1)
        ratios = values / steps[0][1]
        target = (of_tasks.mean() * (ratios / ratios.mean()) ** alpha).detach()
        optimizer.zero_grad()
        (of_tasks - target).abs().sum().backward()
        optimizer.step()
        w.data *= tasks / w.data.sum()
    return used


@pytest.mark.parametrize(("alpha", "lr"), [(1.5, 0.025), (0.12, 0.01), (0.0, 0.025)])
@pytest.mark.parametrize("tasks", [2, 5])
def test_gradnorm_is_its_algorithm(alpha: float, lr: float, tasks: int) -> None:
    steps = [(gradients(step, tasks), losses(step, tasks)) for step in range(25)]
    balancer = GradNorm(alpha, lr)
    for (matrix, values), expected in zip(steps, written(alpha, lr, steps), strict=True):
        found = balancer.weights(matrix @ matrix.T, losses=values)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_gradnorm_by_hand() -> None:
    balancer, matrix = GradNorm(alpha=0.0, lr=0.25), torch.diag(torch.tensor([3.0, 1.0]))
    assert balancer.weights(matrix @ matrix).tolist() == [1.0, 1.0]
    np.testing.assert_allclose(balancer.weights(matrix @ matrix), [0.75, 1.25], rtol=1e-14)  # ∓ lr
    # Same norms, but the second has half of its loss left: its norm is to be half the other's.
    balancer = GradNorm(alpha=1.0, lr=0.25)
    balancer.first = {"0": 4.0, "1": 4.0}
    assert balancer.weights(torch.eye(2), losses=torch.tensor([2.0, 1.0])).tolist() == [1.0, 1.0]
    found = balancer.weights(torch.eye(2), losses=torch.tensor([2.0, 1.0]))
    np.testing.assert_allclose(found, [1.25, 0.75], rtol=1e-14)


def test_gradnorm_brings_norms_together() -> None:
    balancer, matrix = GradNorm(alpha=0.0), torch.diag(torch.tensor([1.0, 10.0]).double())
    for _ in range(200):
        found = balancer.weights(matrix @ matrix)
    np.testing.assert_allclose(found, [20 / 11, 2 / 11], atol=0.03)
    balancer = GradNorm(alpha=1.0)
    balancer.weights(torch.eye(2), losses=torch.tensor([1.0, 1.0]))
    for _ in range(200):
        found = balancer.weights(torch.eye(2), losses=torch.tensor([0.9, 0.3]))
    np.testing.assert_allclose(found, [1.5, 0.5], atol=0.03)


def test_gradnorm_s_weights_stay_positive() -> None:
    balancer, matrix = GradNorm(alpha=0.0), torch.diag(torch.tensor([1.0, 1e6, 1e-6]).double())
    for _ in range(300):
        found = balancer.weights(matrix @ matrix)
        assert (found > 0).all()
        assert float(found.sum()) == pytest.approx(3)
    assert found[1] < 0.01
    balancer = GradNorm(alpha=1.5, lr=5.0)  # the target of a loss of 0 is a norm of 0
    for _ in range(1500):
        found = balancer.weights(torch.eye(2), losses=torch.tensor([0.0, 1.0]))
        assert (found > 0).all()
        assert found.isfinite().all()


def test_gradnorm_does_not_move_by_rounding() -> None:
    balancer, matrix = GradNorm(), torch.eye(3).double() * 0.1  # whose mean norm is not 0.1
    for loss in (0.1, 0.3, 0.7):
        weights = balancer.weights(matrix @ matrix, losses=torch.full((3,), loss).double())
        assert weights.tolist() == [1.0, 1.0, 1.0]


def test_gradnorm_without_a_first_loss() -> None:
    balancer = GradNorm()
    balancer.weights(torch.eye(2), losses=torch.zeros(2))
    assert balancer.first == {}
    balancer.weights(torch.eye(2), losses=torch.tensor([0.0, 4.0]))
    balancer.weights(torch.eye(2), losses=torch.tensor([3.0, 2.0]))
    assert balancer.first == {"1": 4.0, "0": 3.0}


def test_gradnorm_in_blocks_is_one_for_each() -> None:
    balancer, parts = GradNorm(granularity="tensor"), [GradNorm(), GradNorm()]
    for step in range(6):
        matrix, values = gradients(step, 3), losses(step, 3)
        merged = balancer.merge(matrix, losses=values, blocks=[(0, 5), (5, 20)])
        expected = [
            part.merge(piece, losses=values)
            for part, piece in zip(parts, (matrix[:, :5], matrix[:, 5:]), strict=True)
        ]
        torch.testing.assert_close(merged, torch.cat(expected))


@every_method
def test_an_absent_task_keeps_its_state(new: New) -> None:
    balancer = new()
    for step in range(4):
        matrix = gradients(step, 3)
        balancer.weights(matrix @ matrix.T, losses=losses(step, 3), tasks="abc")
    before = balancer.state_dict()
    for step in range(4):
        matrix = gradients(step, 2)
        found = balancer.weights(matrix @ matrix.T, losses=losses(step, 2), tasks="ca")
        if isinstance(balancer, GradNorm):
            assert float(found.sum()) == pytest.approx(2)
    assert of_task(balancer.state_dict(), "b") == of_task(before, "b")
    if balancer.needs_losses or isinstance(balancer, GradNorm):
        assert of_task(balancer.state_dict(), "a") != of_task(before, "a")


def of_task(state: object, task: str) -> list[object]:
    """What a state says of a task, wherever it does."""
    if not isinstance(state, dict):
        return []
    inside = [part for value in state.values() for part in of_task(value, task)]
    return [state[task], *inside] if task in state else inside


@every_method
@pytest.mark.parametrize("size", [1e-20, 1e-6, 1e6, 1e20])
def test_results_scale_with_the_gradients(new: New, size: float) -> None:
    balancer, scaled = new(), new()
    for step in range(8):
        matrix, values = gradients(step, 4), losses(step, 4)
        if step == 5:
            matrix[1] = matrix[0]
        if step == 6:
            matrix[2] = 0.0
        expected = balancer.merge(matrix, losses=values)
        torch.testing.assert_close(
            scaled.merge(matrix * size, losses=values) / size, expected, rtol=1e-7, atol=1e-9
        )


@every_method
def test_the_order_of_tasks_does_not_matter(new: New) -> None:
    balancer, turned = new(), new()
    for step in range(8):
        matrix, values = gradients(step, 4), losses(step, 4)
        expected = balancer.merge(matrix, losses=values, tasks="abcd")
        found = turned.merge(matrix.flip(0), losses=values.flip(0), tasks="dcba")
        torch.testing.assert_close(found, expected)


@every_method
@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(3, 4),
        torch.eye(3)[:, :1] @ torch.ones(1, 4),
        torch.ones(16, 4),
        torch.tensor([[1.0, 2.0], [-1.0, -2.0], [3.0, 6.0]]),
        torch.tensor([[1e-20, 0.0], [0.0, 1e18]]),
        torch.ones(1, 4),
    ],
    ids=["zero", "one alone not zero", "equal", "in one line", "of two sizes", "alone"],
)
def test_degenerate_gradients_are_defined(new: New, matrix: Tensor) -> None:
    balancer = new()
    for size in (0.0, 1.0, 1e-20, 1e20):
        merged = balancer.merge(matrix, losses=torch.full((len(matrix),), size))
        assert merged.isfinite().all()
    if len(matrix) == 1 and not (isinstance(balancer, IMTL) and balancer.needs_losses):
        assert torch.equal(merged, matrix[0])


@every_method
def test_a_step_that_is_not_finite_leaves_the_state(new: New) -> None:
    balancer, matrix = new(), gradients(0, 2)
    balancer.merge(matrix, losses=torch.tensor([1.0, 2.0]))
    before = balancer.state_dict()
    balancer.merge(matrix * torch.tensor([[1.0], [torch.inf]]), losses=torch.tensor([2.0, 2.0]))
    merged = balancer.merge(matrix, losses=torch.tensor([torch.inf, -1.0]))
    torch.testing.assert_close(merged, matrix.sum(0))
    assert balancer.state_dict() == before


@every_method
def test_saved_in_the_middle_the_next_ten_steps_are_identical(new: New) -> None:
    first, second = new(), new()
    for step in range(7):
        first.merge(gradients(step, 3), losses=losses(step, 3))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step in range(10):
        matrix, values = gradients(step, 3), losses(step, 3)
        assert torch.equal(first.merge(matrix, losses=values), second.merge(matrix, losses=values))
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize("diagnose", [False, True])
@pytest.mark.parametrize("method", [IMTL, GradNorm])
def test_at_the_representation(method: Callable[..., Balancer], diagnose: bool) -> None:
    torch.manual_seed(0)
    trunk = nn.Linear(3, 4).double()
    words = torch.randn(5, 3).double()
    balancer, twin = method(passes="representation"), method()
    for _ in range(4):
        trunk.zero_grad()
        shared = trunk(words)
        terms = {
            task: (shared @ torch.full((4,), 1.0 + index).double() - 3).square().mean()
            + shared[:, index].square().mean()
            for index, task in enumerate("abc")
        }
        cut = torch.stack(
            [torch.autograd.grad(each, shared, retain_graph=True)[0].flatten() for each in terms.values()]
        )
        values = torch.stack(list(terms.values())).detach()
        expected = twin.weights(cut @ cut.T, losses=values, tasks="abc")
        report = balancer.backward(terms, representation=shared, diagnose=diagnose)
        torch.testing.assert_close(report.weights, expected)
        trunk.weight.data -= 0.01 * trunk.weight.grad


def test_losses_are_needed_only_where_they_are_used() -> None:
    gramian = torch.eye(2)
    assert IMTL("gradient").weights(gramian).tolist() == [0.5, 0.5]
    assert GradNorm(alpha=0.0).weights(gramian).tolist() == [1.0, 1.0]
    for balancer in (IMTL(), IMTL("loss"), GradNorm()):
        with pytest.raises(ValueError, match="losses=…"):
            balancer.weights(gramian)
        with pytest.raises(ValueError, match="'1' is -2"):
            balancer.weights(gramian, losses=torch.tensor([1.0, -2.0]))
    assert GradNorm(alpha=0.0).weights(gramian, losses=torch.tensor([1.0, -2.0])).tolist() == [1.0, 1.0]


def test_imtl_brings_losses_to_one() -> None:
    balancer = IMTL(lr=0.05)
    for _ in range(400):
        balancer.weights(torch.eye(2), losses=torch.tensor([0.2, 6.0]))
    learned = [balancer.log_scales[task]["value"] for task in "01"]
    np.testing.assert_allclose(learned, [log(5), -log(6)], atol=0.01)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: IMTL("gradients"), "'both', 'gradient', 'loss'"),
        (lambda: IMTL(lr=0.0), "lr must be a positive"),
        (lambda: IMTL(granularity="layer"), "'whole', 'tensor'"),
        (lambda: GradNorm(alpha=-1.0), "alpha must be a finite number from 0"),
        (lambda: GradNorm(alpha=float("inf")), "alpha must be a finite number from 0"),
        (lambda: GradNorm(lr=float("nan")), "lr must be a positive"),
    ],
)
def test_wrong_options_name_the_remedy(make: New, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
