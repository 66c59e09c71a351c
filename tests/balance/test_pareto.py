"""Methods that solve a small problem on the Gramian, against its conditions and other solvers."""

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import torch
import torchjd.aggregation as oracle
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from torch import Tensor

from counterpoint.balance import (
    MGDA,
    PCD,
    AlignedMTL,
    Balancer,
    CAGrad,
    ConFIG,
    FairGrad,
    NashMTL,
    PCGrad,
    Tasks,
    UPGrad,
)
from counterpoint.balance.quadratic import hull_touches_zero, lifted, nonnegative_minimum

from .problems import AGAINST, ALL, PAIR, SCALING, fresh, gradients, independent, merge, normal, relaxed

LOSSES = torch.tensor([2.0, 1.0])


@pytest.mark.parametrize(
    ("balancer", "weights"),
    [
        (MGDA(), (11 / 37, 26 / 37)),
        (MGDA("l2"), (1 / 2, 1 / 2)),
        (MGDA("loss"), (1 / 2, 1 / 2)),  # the gradients divided by 2 and 1 are equally long
        (MGDA("loss+"), (26 / 37, 11 / 37)),
        (UPGrad(), (0.65, 1.1)),
        (UPGrad("sum"), (1.3, 2.2)),
        (CAGrad(0.0), (1 / 2, 1 / 2)),
        (CAGrad(), (1 / 2, 1 / 2 + 0.5 * sqrt(0.8125 / 1.25))),  # the ball ends before the other is the least
        (CAGrad(rescale=1), (0.4, 0.4 + 0.4 * sqrt(0.8125 / 1.25))),
        (CAGrad(rescale=2), (1 / 3, 1 / 3 + 1 / 3 * sqrt(0.8125 / 1.25))),
        (NashMTL(None), (sqrt(1 / 2), sqrt(2))),
        (NashMTL(), (1 / 2, 1.0)),
        (NashMTL(0.2), (0.1, 0.2)),
        (FairGrad(), (sqrt(1 / 2), sqrt(2))),
        (ConFIG(), (0.75, 1.5)),
        (PCD(), (1 / sqrt(0.6404), 1.24 / sqrt(0.6404))),  # d = u_1 + 0.62 u_2
        (PCD(0.0), (1 / sqrt(0.64), 1.2 / sqrt(0.64))),
    ],
    ids=repr,
)
def test_two_tasks_by_hand(balancer: Balancer, weights: tuple[float, float]) -> None:
    told = fresh(balancer).weights(PAIR @ PAIR.T, target=0, losses=LOSSES)
    np.testing.assert_allclose(told, weights, rtol=1e-12)
    merged = fresh(balancer).merge(PAIR, target=0, losses=LOSSES)
    np.testing.assert_allclose(merged, weights @ PAIR.numpy(), rtol=1e-12, atol=1e-14)


@given(rows=gradients(spread=0.0), linear=st.integers(0, 2**32))
@relaxed
def test_nonnegative_minimum_is_the_minimum(rows: Tensor, linear: int) -> None:
    matrix = lifted(np.corrcoef(rows.numpy()) if len(rows) > 1 and rows.shape[1] > 2 else np.eye(len(rows)))
    offsets = normal(5, len(rows), linear).numpy()
    found = nonnegative_minimum(matrix, offsets)
    slope = found @ matrix + offsets
    sizes = 1 + found.sum(axis=1, keepdims=True)
    assert (found >= 0).all()
    assert (slope >= -1e-12 * sizes).all()
    assert (np.abs(found * slope) <= 1e-12 * sizes**2).all()


@pytest.mark.parametrize("seed", range(10))
def test_nonnegative_minimum_is_scipy_s(seed: int) -> None:
    rows = normal(8, 6 + seed, seed).numpy()
    aims = normal(4, 6 + seed, seed + 100).numpy()
    expected = [nnls(rows.T, aim)[0] @ rows for aim in aims]
    found = nonnegative_minimum(lifted(rows @ rows.T), -aims @ rows.T)
    np.testing.assert_allclose(found @ rows, expected, rtol=1e-9, atol=1e-9)


def test_only_rounding_is_lifted() -> None:
    nearly = np.array([[1.0, 1e-8 - 1], [1e-8 - 1, 1.0]])  # eigenvalues 1e-8 and 2
    assert np.array_equal(lifted(nearly), nearly)
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(lifted(opposite), opposite + 2e-14 * np.eye(2), rtol=0, atol=1e-15)
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1e-4]]).double()  # both gain by (1, 1e4) and near it alone
    weights = UPGrad().weights(rows @ rows.T)
    torch.testing.assert_close(
        rows @ (weights @ rows), torch.tensor([0.5e-8, 0.5e-8]).double(), rtol=1e-5, atol=0
    )


def test_whether_a_hull_touches_zero() -> None:
    angles = np.array([0.0, 2.0, 4.0, 4.5])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for rows, touches in ((circle, True), (circle[1:], False), (circle[:1], False), (circle[:0], False)):
        assert hull_touches_zero(lifted(rows @ rows.T)) == touches


@given(rows=gradients())
@relaxed
def test_mgda_is_the_shortest_combination(rows: Tensor) -> None:
    weights = MGDA().weights(rows @ rows.T)
    merged, norms = weights @ rows, rows.norm(dim=1)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(), torch.ones_like(weights.sum()), rtol=1e-12, atol=0.0)
    assert (rows @ merged >= merged @ merged - 1e-12 * norms * (weights @ norms)).all()


def test_mgda_is_exact_where_a_frank_wolfe_search_stops_short() -> None:
    rows = torch.diag(torch.tensor([1.0, 2.0, 3.0])).double()
    exact = torch.tensor([36.0, 9.0, 4.0]).double() / 49  # of orthogonal gradients: 1 / square
    torch.testing.assert_close(MGDA().weights(rows @ rows.T), exact, rtol=1e-13, atol=0.0)
    assert (oracle.MGDA()(rows) - exact @ rows).norm() > 1e-4 * (exact @ rows).norm()
    rows[0] *= 1e-3  # less than the 0.001 that the authors' solver leaves to a task
    assert MGDA().weights(rows[:2] @ rows[:2].T)[1] == pytest.approx(0.25e-6 / (1 + 0.25e-6), rel=1e-9)


def test_mgda_stops_at_a_zero_gradient() -> None:
    for normalization in ("none", "l2", "loss", "loss+"):
        rows = torch.cat([PAIR, torch.zeros(1, 2).double()])
        assert merge(MGDA(normalization), rows).tolist() == [0.0, 0.0]


def test_mgda_by_losses() -> None:
    balancer = MGDA("loss")
    with pytest.raises(ValueError, match="losses="):
        balancer.merge(PAIR)
    assert not MGDA("l2").needs_losses
    gramian = PAIR @ PAIR.T
    negative = balancer.weights(gramian, losses=-LOSSES)
    torch.testing.assert_close(negative, balancer.weights(gramian, losses=LOSSES))
    # A zero loss makes the gradient infinitely long: the other one is the shortest combination.
    assert balancer.weights(gramian, losses=torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]
    zero = balancer.weights(gramian, losses=torch.zeros(2))
    torch.testing.assert_close(zero, MGDA().weights(gramian))


def least_gain(w: np.ndarray, rows: np.ndarray, c: float) -> float:
    """CAGrad's dual: what the best step in the ball gains in a mixture of the tasks."""
    mean = rows.mean(axis=0)
    return float(w @ rows @ mean + c * np.linalg.norm(mean) * np.linalg.norm(w @ rows))


@given(rows=independent(), c=st.sampled_from([0.1, 0.5, 0.9, 3.0]))
@relaxed
def test_cagrad_gains_what_its_dual_allows(rows: Tensor, c: float) -> None:
    matrix = rows.numpy()
    mean = matrix.mean(axis=0)
    weights = CAGrad(c).weights(rows @ rows.T).numpy()
    merged, added = weights @ matrix, weights - 1 / len(matrix)
    radius = c * np.linalg.norm(mean)
    assert np.linalg.norm(merged - mean) == pytest.approx(radius, rel=1e-8)
    assert (added >= 0).all()
    # Weak duality: no step gains the least task more than any mixture's dual value.
    size = np.linalg.norm(matrix, axis=1).max() * (1 + c) * np.linalg.norm(mean)
    assert least_gain(added / added.sum(), matrix, c) - (matrix @ merged).min() <= 1e-9 * size


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("c", [0.4, 2.0])
def test_cagrad_s_mixture_is_scipy_s(seed: int, c: float) -> None:
    rows = normal(2 + seed % 5, 7, seed).numpy()
    tasks = len(rows)
    added = CAGrad(c).weights(torch.from_numpy(rows @ rows.T)).numpy() - 1 / tasks
    found = minimize(
        least_gain,
        np.full(tasks, 1 / tasks),
        args=(rows, c),
        method="SLSQP",
        bounds=[(0, 1)] * tasks,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(added / added.sum(), found.x, atol=1e-5)
    assert least_gain(added / added.sum(), rows, c) <= found.fun + 1e-12


@given(rows=gradients(least=2, spread=1.0), c=st.sampled_from([0.5, 0.9, 2.0]))
@relaxed
def test_cagrad_hurts_no_task_where_none_can_gain(rows: Tensor, c: float) -> None:
    rows = torch.cat([rows, -rows.mean(dim=0, keepdim=True) * 0.7])  # 0 is a mixture now
    mean = rows.mean(dim=0)
    merged = merge(CAGrad(c), rows)
    distance, radius = float((merged - mean).norm()), c * float(mean.norm())
    assert distance <= radius * (1 + 1e-6)
    if distance < radius * (1 - 1e-6):  # then it is the projection onto what hurts no task, one of UPGrad's
        assert (rows @ merged >= -1e-9 * rows.norm(dim=1) * (rows.norm(dim=1).max() + mean.norm())).all()
        nearest = mean.numpy() + nnls(rows.T.numpy(), -mean.numpy(), maxiter=1000)[0] @ rows.numpy()
        assert distance <= np.linalg.norm(nearest - mean.numpy()) + 1e-6 * float(rows.norm())


@pytest.mark.parametrize("seed", [10, 413, 606, 646, 817, 855, 1426, *range(10)])
def test_cagrad_stays_in_its_ball_where_the_level_is_lost_in_rounding(seed: int) -> None:
    # Six to eight gradients in a plane, two of them opposite, of norms from 1e-6 to 1e+6: what the least of
    # them can gain is 1e-24 of the longest's square, and a search for it may end beside the ball.
    draw = torch.Generator().manual_seed(seed)
    tasks = int(torch.randint(3, 9, (1,), generator=draw))
    rows = (
        torch.randn(tasks, 2, generator=draw).double() @ torch.randn(2, 6, generator=draw).double()
    ).clone()
    rows[-1] = -rows[0]
    rows *= 10.0 ** torch.randint(-2, 3, (tasks, 1), generator=draw).double().mul(3)
    mean = rows.mean(dim=0)
    for c in (0.5, 0.9):
        distance = float((merge(CAGrad(c), rows) - mean).norm())
        assert distance <= c * float(mean.norm()) * (1 + 1e-9) + 1e-12 * float(rows.norm())


def test_cagrad_with_a_large_ball_goes_mgda_s_way() -> None:
    rows = normal(4, 9)
    far, shortest = merge(CAGrad(1e7), rows), merge(MGDA(), rows)
    torch.testing.assert_close(far / far.norm(), shortest / shortest.norm(), rtol=1e-5, atol=1e-6)


@given(rows=gradients())
@relaxed
def test_upgrad_conflicts_with_no_task(rows: Tensor) -> None:
    weights = UPGrad().weights(rows @ rows.T)
    norms = rows.norm(dim=1)
    assert (weights >= 1 / len(rows) - 1e-15).all()
    assert (rows @ (weights @ rows) >= -1e-12 * norms * (weights @ norms)).all()


@pytest.mark.parametrize("seed", range(12))
def test_upgrad_projects_onto_the_dual_cone(seed: int) -> None:
    rows = normal(2 + seed % 6, 3 + seed % 4, seed)
    matrix = rows.numpy()
    projected = [row + nnls(matrix.T, -row, maxiter=1000)[0] @ matrix for row in matrix]
    np.testing.assert_allclose(merge(UPGrad("sum"), rows), sum(projected), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(merge(UPGrad(), rows), np.mean(projected, axis=0), rtol=1e-8, atol=1e-9)


@given(rows=gradients())
@relaxed
def test_upgrad_of_two_is_pcgrad(rows: Tensor) -> None:
    pair = rows[:2]
    torch.testing.assert_close(
        merge(UPGrad("sum"), pair), PCGrad().merge(pair), rtol=1e-9, atol=1e-12 * float(pair.norm())
    )


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.6])
def test_pcd_is_torchjd_s_step_after_step(tasks: int, tau: float) -> None:
    balancer, other = PCD(tau, 0.9), oracle.PCD(tau, 0.9, eps=0.0)
    for step in range(12):
        rows = normal(tasks, 9, step) * (1 + step % 3)
        rows[tasks // 2 :] -= rows.mean(dim=0) * (step % 4)
        torch.testing.assert_close(balancer.merge(rows, target=0), other(rows), rtol=1e-8, atol=1e-10)


def test_pcd_guarantees_every_task_its_share() -> None:
    balancer = PCD(0.3)
    rows = AGAINST * torch.tensor([[1.0], [50.0], [0.01]])
    merged = balancer.merge(rows, target=2)
    # In the first step gradients are as long as usual, so that shares are of unit rows; g = ‖g_t‖ d / ‖d‖.
    units = rows / rows.norm(dim=1, keepdim=True)
    found = minimize(
        lambda d: 0.5 * ((d - units[2].numpy()) ** 2).sum(),
        np.ones(3),
        constraints={"type": "ineq", "fun": lambda d: units[:2].numpy() @ d - 0.3},
        method="SLSQP",
        options={"ftol": 1e-15},
    )
    direction = torch.from_numpy(found.x)
    torch.testing.assert_close(merged, rows[2].norm() * direction / direction.norm(), rtol=1e-5, atol=1e-8)
    assert (units[:2] @ direction >= 0.3 - 1e-6).all()


def test_pcd_where_it_cannot_or_need_not_turn() -> None:
    target, other = PAIR
    follows = [
        torch.stack([target, other, -2 * other]),  # no direction is good for both
        torch.stack([target, target, 0 * other]),
        torch.stack([target, 0 * other]),
        target[None],
    ]
    for rows in follows:
        torch.testing.assert_close(merge(PCD(), rows), target, rtol=1e-12, atol=1e-12)
    assert merge(PCD(), torch.stack([0 * target, other])).tolist() == [0.0, 0.0]
    assert merge(PCD(0.0), torch.stack([target, -target])).tolist() == [0.0, 0.0]
    torch.testing.assert_close(
        merge(PCD(), torch.stack([target, -target])), -target
    )  # the share outweighs what is left of the target: d = τ u_2


def test_pcd_keeps_averages_by_name() -> None:
    balancer, twin = PCD(beta=0.5), PCD(beta=0.5)
    first, second = normal(3, 5, 1), normal(3, 5, 2) * 4
    balancer.merge(first, target=0, tasks=("click", "category", "entities"))
    report = balancer.merge(second[[2, 0]], target=1, tasks=("entities", "click"))
    assert balancer.counts == {"click": 2, "category": 1, "entities": 2}
    twin.merge(first[[0, 2]], target=0, tasks=("click", "entities"))
    torch.testing.assert_close(
        report, twin.merge(second[[0, 2]], target=0, tasks=("click", "entities")), rtol=1e-12, atol=0.0
    )
    expected = 0.25 * first[2].square().sum() + 0.5 * second[2].square().sum()
    assert balancer.averages["entities"].tolist() == [pytest.approx(float(expected))]


def test_pcd_without_the_target_is_the_sum() -> None:

    balancer = PCD()
    weights = balancer.weigh((PAIR @ PAIR.T).numpy()[None], Tasks(("category", "entities")))
    assert weights.tolist() == [[1.0, 1.0]]
    assert set(balancer.counts) == {"category", "entities"}


def test_pcd_has_averages_for_every_block() -> None:
    rows = normal(3, 6)
    whole, parts = PCD(), [PCD(), PCD()]
    for _ in range(2):
        merged = whole.merge(rows, target=0, blocks=[(0, 2), (2, 6)])
        first, second = parts[0].merge(rows[:, :2], target=0), parts[1].merge(rows[:, 2:], target=0)
        torch.testing.assert_close(merged, torch.cat([first, second]))
    with pytest.raises(ValueError, match=r"2 blocks of parameters, this step has 1"):
        whole.merge(rows, target=0)


def test_pcd_moves_nothing_when_blocks_do_not_fit() -> None:
    balancer = PCD()
    balancer.merge(normal(2, 6), target=0, blocks=[(0, 2), (2, 6)], tasks=("a", "b"))
    before = balancer.state_dict()
    with pytest.raises(ValueError, match=r"'a' is of 2 blocks of parameters, this step has 1"):
        balancer.merge(normal(3, 6), target=1, tasks=("c", "a", "b"))
    torch.testing.assert_close(balancer.state_dict(), before, rtol=0, atol=0)


def test_pcd_does_not_see_a_constant_factor_of_an_auxiliary_loss() -> None:
    balancer, twin = PCD(0.1), PCD(0.1)
    for step in range(4):
        rows = normal(3, 5, step)
        factors = torch.tensor([[1.0], [1e3], [1e-4]])
        torch.testing.assert_close(balancer.merge(rows, target=0), twin.merge(rows * factors, target=0))


def test_pcd_continues_from_its_state() -> None:
    first, second = PCD(beta=0.9), PCD(beta=0.9)
    for step in range(5):
        first.merge(normal(4, 6, step), target=0)
    second.load_state_dict(first.state_dict())
    for step in range(5, 15):
        rows = normal(4, 6, step)
        assert torch.equal(first.merge(rows, target=0), second.merge(rows, target=0))
    with pytest.raises(ValueError, match="has the state"):
        UPGrad().load_state_dict(first.state_dict())


@pytest.mark.parametrize("balancer", ALL, ids=repr)
def test_hard_gradients_are_defined(balancer: Balancer) -> None:
    rows = normal(6, 4)
    hard = {
        "zero": torch.zeros(3, 4).double(),
        "one": rows[:1],
        "one zero": torch.stack([rows[0], 0 * rows[0], rows[1]]),
        "equal": rows[[0, 0, 0]],
        "opposite": torch.stack([rows[0], -rows[0]]),
        "opposite pairs": torch.cat([rows[:3], -rows[:3]]),
        "dependent": rows,
        "many": normal(16, 5),
        "triangle": torch.stack([rows[0], rows[1], -rows[0] - rows[1]]),
        "uneven": rows * torch.logspace(-6, 6, 6).double()[:, None],
        "nearly opposite": torch.stack([rows[0], -rows[0] + 1e-7 * rows[1], rows[2]]),
    }
    for name, each in hard.items():
        for size in (1e-20, 1e-6, 1.0, 1e20):
            merged = merge(balancer, each * size)
            assert merged.isfinite().all(), (name, size)
            assert torch.equal(merged, merge(balancer, each * size)), (name, size)
        single = merge(balancer, each.float() * 1e-12)
        assert single.isfinite().all(), name


@pytest.mark.parametrize("balancer", SCALING, ids=repr)
@pytest.mark.parametrize("size", [1e-20, 1e-6, 1e6, 1e20])
def test_scales_with_the_gradients(balancer: Balancer, size: float) -> None:
    # From 1e-2 on, thresholds that are not relative would show: torchjd's UPGrad then averages.
    for rows in (PAIR, AGAINST, normal(7, 5), normal(3, 8) * torch.tensor([[1e-3], [1.0], [1e3]])):
        torch.testing.assert_close(
            merge(balancer, rows * size) / size, merge(balancer, rows), rtol=1e-8, atol=1e-9
        )


@pytest.mark.parametrize("balancer", ALL, ids=repr)
def test_the_order_of_the_tasks_does_not_matter(balancer: Balancer) -> None:
    for rows in (AGAINST, normal(6, 4), normal(5, 9), normal(5, 9)[[0, 1, 1, 2, 0]]):
        order = list(range(len(rows)))[::-1]
        torch.testing.assert_close(merge(balancer, rows, order), merge(balancer, rows), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    "balancer",
    [MGDA(), MGDA("l2"), MGDA("loss"), UPGrad(), AlignedMTL(), ConFIG(), PCD(), CAGrad(rescale=2)],
    ids=repr,
)
def test_alone_a_task_keeps_its_gradient(balancer: Balancer) -> None:
    torch.testing.assert_close(merge(balancer, PAIR[:1]), PAIR[0], rtol=1e-12, atol=0.0)


def test_alone_a_task_has_cagrad_s_ball_and_the_bargained_length() -> None:
    torch.testing.assert_close(merge(CAGrad(), PAIR[:1]), 1.5 * PAIR[0])
    torch.testing.assert_close(merge(NashMTL(), PAIR[:1]), PAIR[0] / sqrt(5))


def test_weights_are_held_between_steps() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]).double())
    balancer, weights = NashMTL(every=2), []
    for step in range(4):
        factors = normal(2, 2, step)
        report = balancer.backward(
            {"a": factors[0] @ parameter, "b": factors[1] @ parameter}, shared=[parameter]
        )
        weights.append(report.weights)
    assert [torch.equal(one, other) for one, other in pairwise(weights)] == [True, False, True]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: MGDA("l1"), r"'none', 'l2', 'loss', 'loss\+'"),
        (lambda: CAGrad(-0.1), "finite number from 0 on"),
        (lambda: CAGrad(float("inf")), "finite number from 0 on"),
        (lambda: CAGrad(rescale=3), "0, 1 or 2"),
        (lambda: UPGrad("max"), "'mean', 'sum'"),
        (lambda: NashMTL(0.0), "max_norm must be a positive"),
        (lambda: FairGrad(0.0), "between 0.05 and 20"),
        (lambda: AlignedMTL("max"), "'min', 'median', 'rmse'"),
        (lambda: PCD(1.5), "between 0 and 1"),
        (lambda: PCD(beta=1.0), "from 0 to below 1"),
        (lambda: UPGrad(granularity="layer"), "'whole', 'tensor'"),
        (lambda: MGDA(every=0), "from 1 on"),
    ],
)
def test_wrong_options_name_the_remedy(build, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build()
