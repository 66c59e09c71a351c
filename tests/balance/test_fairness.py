"""Methods that give every task its fair part, against the equations they solve and other code."""

from math import sqrt

import numpy as np
import pytest
import torch
import torchjd.aggregation as oracle
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from counterpoint.balance import AlignedMTL, ConFIG, FairGrad, NashMTL

from .problems import AGAINST, PAIR, independent, merge, normal, relaxed


def test_aligned_mtl_by_hand() -> None:
    # The root of a 2 × 2 matrix is (M + √det I) / √(tr + 2 √det); here det M = 4 and tr M = 6.25.
    root = (PAIR @ PAIR.T + 2 * torch.eye(2)) / sqrt(10.25)
    smallest = (6.25 - sqrt(6.25**2 - 16)) / 2
    expected = sqrt(smallest) * torch.linalg.solve(root, torch.ones(2).double())
    np.testing.assert_allclose(expected, (0.63113, 1.12939), atol=5e-6)
    np.testing.assert_allclose(merge(AlignedMTL(), PAIR), expected @ PAIR, rtol=1e-12)
    np.testing.assert_allclose(merge(AlignedMTL("median"), PAIR), expected @ PAIR, rtol=1e-12)
    factor = sqrt(3.125 / smallest)
    np.testing.assert_allclose(merge(AlignedMTL("rmse"), PAIR), factor * expected @ PAIR, rtol=1e-12)


@given(rows=independent(), alpha=st.sampled_from([0.05, 0.3, 1.0, 2.0, 5.0, 20.0]))
@relaxed
def test_fairgrad_solves_its_equation(rows: Tensor, alpha: float) -> None:
    gramian = rows @ rows.T
    weights = FairGrad(alpha).weights(gramian)
    assert (weights > 0).all()
    differences = gramian @ weights - weights ** (-1 / alpha)
    assert (differences.abs() <= 1e-9 * gramian.abs() @ weights).all()


@given(rows=independent())
@relaxed
def test_nash_mtl_solves_its_equation(rows: Tensor) -> None:
    gramian = rows @ rows.T
    weights = NashMTL(None).weights(gramian)
    torch.testing.assert_close(gramian @ weights, 1 / weights, rtol=1e-8, atol=0.0)
    torch.testing.assert_close(FairGrad(1.0).weights(gramian), weights, rtol=1e-10, atol=0.0)
    assert (weights @ rows).norm() == pytest.approx(sqrt(len(rows)), rel=1e-9)
    clipped = NashMTL(0.5).weights(gramian)
    torch.testing.assert_close(clipped, weights * 0.5 / sqrt(len(rows)), rtol=1e-9, atol=0.0)


def test_nash_mtl_where_all_tasks_conflict() -> None:
    gramian = AGAINST @ AGAINST.T
    assert (gramian.sum(dim=1) < 0).any()  # what the published solver starts from is infeasible
    weights = NashMTL(None).weights(gramian)
    torch.testing.assert_close(gramian @ weights, 1 / weights, rtol=1e-12, atol=0.0)
    assert (weights - 1).abs().max() > 0.1
    found = minimize(
        lambda logs: 0.5 * np.exp(logs) @ gramian.numpy() @ np.exp(logs) - logs.sum(), np.zeros(3), tol=1e-12
    )
    np.testing.assert_allclose(weights, np.exp(found.x), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_how_bargained_weights_scale(alpha: float, factor: float) -> None:
    gramian = AGAINST @ AGAINST.T
    once = FairGrad(alpha).weights(gramian)
    again = FairGrad(alpha).weights(factor**2 * gramian)
    torch.testing.assert_close(again, factor ** (-2 * alpha / (alpha + 1)) * once, rtol=1e-10, atol=0.0)
    alone = FairGrad(alpha).weights(torch.tensor([[factor**2]]).double())
    assert alone.item() == pytest.approx(factor ** (-2 * alpha / (alpha + 1)))


def test_bargaining_with_opposite_and_zero_gradients() -> None:
    for balancer in (NashMTL(None), NashMTL(), FairGrad(0.5), FairGrad(2.0)):
        for length in (1e-20, 1.0, 1e20):
            opposite = torch.stack([PAIR[0], -3 * PAIR[0]]) * length
            weights = balancer.weights(opposite @ opposite.T)
            assert weights.isfinite().all()
            assert (weights @ opposite).norm() <= 1e-3 * (weights[0] * opposite[0]).norm()
        zeros = torch.stack([torch.zeros(2).double(), PAIR[0], PAIR[1]])
        weights = balancer.weights(zeros @ zeros.T)
        assert weights[0] == 0
        torch.testing.assert_close(weights[1:], balancer.weights(PAIR @ PAIR.T), rtol=1e-12, atol=0.0)


def test_fairgrad_from_the_sum_to_equal_gains() -> None:
    rows = torch.nn.functional.normalize(normal(5, 30))
    weights, ones = FairGrad(0.05).weights(rows @ rows.T), torch.ones(5).double()
    torch.testing.assert_close(weights, ones, rtol=0.0, atol=0.05)
    gains = rows @ rows.T @ FairGrad(20.0).weights(rows @ rows.T)
    torch.testing.assert_close(gains, ones, rtol=0.0, atol=0.05)


@pytest.mark.parametrize("mode", ["min", "median", "rmse"])
@pytest.mark.parametrize("shape", [(1, 3), (2, 5), (4, 9), (5, 3)])
def test_aligned_mtl_is_torchjd_s_but_for_the_mean(mode: str, shape: tuple[int, int]) -> None:
    rows = normal(*shape)
    torch.testing.assert_close(
        merge(AlignedMTL(mode), rows), shape[0] * oracle.AlignedMTL(scale_mode=mode)(rows)
    )


@pytest.mark.parametrize("shape", [(1, 3), (2, 5), (4, 9), (5, 3)])
def test_config_is_torchjd_s(shape: tuple[int, int]) -> None:
    rows = normal(*shape) * torch.logspace(-1, 1, shape[0])[:, None]
    torch.testing.assert_close(merge(ConFIG(), rows), oracle.ConFIG()(rows))


@given(rows=independent())
@relaxed
def test_config_has_the_same_cosine_with_every_gradient(rows: Tensor) -> None:
    merged = merge(ConFIG(), rows)
    cosines = rows @ merged / rows.norm(dim=1) / merged.norm()
    torch.testing.assert_close(cosines, cosines[:1].expand_as(cosines), rtol=1e-6, atol=1e-9)
    assert merged.norm() == pytest.approx(float((rows @ merged).sum() / merged.norm()), rel=1e-9)


def test_config_without_a_common_direction() -> None:
    row = normal(1, 4)
    assert merge(ConFIG(), torch.cat([row, -2 * row, row, -row])).tolist() == [0.0] * 4
    torch.testing.assert_close(merge(ConFIG(), torch.cat([row, 2 * row, 0 * row])), 3 * row[0])
