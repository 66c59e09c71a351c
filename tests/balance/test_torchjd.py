"""torchjd as an oracle where it has the method, and what differs where it is not right."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchjd.aggregation as oracle
from torch import Tensor

from counterpoint import balance

PAIR = torch.tensor([[2.0, 1.0], [-1.0, 0.5]], dtype=torch.float64)


def gradients(seed: int, tasks: int = 3) -> Tensor:
    return torch.randn(tasks, 6, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        (balance.Equal(), oracle.Sum(), 1e-12),
        (balance.Equal("mean"), oracle.Mean(), 1e-12),
        (balance.UPGrad(), oracle.UPGrad(), 1e-3),
        (balance.CAGrad(c=0.4), oracle.CAGrad(c=0.4), 2e-4),
        (balance.MGDA(), oracle.MGDA(epsilon=1e-9, max_iters=20_000), 1e-3),
        (balance.ConFIG(), oracle.ConFIG(), 1e-6),
        (balance.IMTL("gradient"), oracle.IMTLG(), 1e-6),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, float) else "",
)
def test_the_merge_is_torchjd_s(
    seed: int, ours: balance.Balancer, theirs: Callable[[Tensor], Tensor], tolerance: float
) -> None:
    matrix = gradients(seed)
    expected = theirs(matrix)
    torch.testing.assert_close(
        ours.merge(matrix), expected, rtol=tolerance, atol=tolerance * float(matrix.norm())
    )


@pytest.mark.parametrize("seed", range(5))
def test_aligned_mtl_is_torchjd_s_but_for_the_sum(seed: int) -> None:
    matrix = gradients(seed)
    torch.testing.assert_close(balance.AlignedMTL().merge(matrix), 3 * oracle.AlignedMTL()(matrix))


def test_small_gradients_are_balanced_like_large_ones() -> None:
    # Below a Frobenius norm of 0.01 torchjd takes the Gramian for zero: UPGrad is then the plain mean, which
    # leaves the conflict as it is, and CAGrad does not move at all.
    small = 1e-3 * PAIR
    torch.testing.assert_close(oracle.UPGrad()(small), small.mean(dim=0), rtol=1e-6, atol=0)
    torch.testing.assert_close(balance.UPGrad().merge(small), torch.tensor([0.2e-3, 1.2e-3]).double())
    assert not oracle.CAGrad(c=0.5)(small).any()
    assert (balance.CAGrad(c=0.5).merge(small) @ small.T > 0).any()
    torch.testing.assert_close(
        balance.CAGrad(c=0.5).merge(small) * 1e3, oracle.CAGrad(c=0.5)(PAIR), rtol=1e-3, atol=1e-4
    )


def test_bargaining_is_solved_where_a_solver_gives_up() -> None:
    theirs = oracle.NashMTL(n_tasks=2, max_norm=0.0)
    ours = balance.NashMTL(max_norm=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Where a row of the Gramian adds up to less than 0 theirs returns ones without a word: the plain sum.
        given_up = theirs(PAIR)
        theirs.reset()
        solved = theirs(PAIR * torch.tensor([[1.0], [3.0]]).double())
    torch.testing.assert_close(given_up, PAIR.sum(dim=0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.weights(PAIR @ PAIR.T), torch.tensor([0.5, 2.0]).double().sqrt())
    torch.testing.assert_close(
        ours.merge(PAIR * torch.tensor([[1.0], [3.0]]).double()), solved, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("seed", range(5))
def test_fairgrad_solves_the_equation_that_torchjd_approximates(seed: int) -> None:
    matrix = gradients(seed)
    options: dict[str, Any] = {"alpha": 2.0}
    weights = balance.FairGrad(**options).weights(matrix @ matrix.T)
    torch.testing.assert_close(matrix @ matrix.T @ weights, weights ** (-1 / 2))
    torch.testing.assert_close(weights @ matrix, oracle.FairGrad(**options)(matrix), rtol=1e-4, atol=1e-4)
