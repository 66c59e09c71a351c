"""Gradients of many coordinates in single precision that nearly depend on each other.

Numbers of single precision are exact numbers, and have an exact Gramian. What a method decides follows from
small differences of its entries here, which products summed up in single precision do not have.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from counterpoint import balance
from counterpoint.balance import Balancer

COORDINATES = 200_000
METHODS = ("upgrad", "nash_mtl", "fairgrad", "config", "aligned_mtl", "cagrad", "pcd", "mgda")
every_method = pytest.mark.parametrize("name", METHODS)


def units(tasks: int, seed: int) -> Tensor:
    """Orthogonal directions of length 1."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, COORDINATES, generator=draw, dtype=torch.float64)
    return torch.linalg.qr(rows.T).Q.T


def nearly_alike(seed: int) -> Tensor:
    """Two gradients with a cosine of 1 - 5e-5."""
    one, other = units(2, seed)
    return torch.stack([one, 3 * (one + 1e-2 * other)])


def nearly_opposite(seed: int) -> Tensor:
    """Two gradients with a cosine of -1 + 5e-5."""
    one, other = units(2, seed)
    return torch.stack([one, -2 * (one + 1e-2 * other)])


def among_others(seed: int) -> Tensor:
    """Two gradients with a cosine of -1 + 2e-5 beside two that hardly conflict with either."""
    one, other, third, fourth = units(4, seed)
    return torch.stack([one, third - 0.3 * other, -0.7 * (one + 6e-3 * other), 2 * fourth + third])


def nearly_cancelling(seed: int) -> Tensor:
    """Three gradients in all directions of a plane, but for a hundredth: Pareto-stationary but for that."""
    one, other, third = units(3, seed)
    return torch.stack([one, -0.5 * one + other, -0.8 * one - other]) + 1e-2 * third


def cancelling(seed: int) -> Tensor:
    """Three gradients of which a positive combination is zero, but for the rounding of single precision."""
    one, other, _ = units(3, seed)
    return torch.stack([one, -0.5 * one + other, -0.25 * one - 0.5 * other])


KINDS: tuple[Callable[[int], Tensor], ...] = (nearly_alike, nearly_opposite, among_others, nearly_cancelling)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def exactly(name: str, gradients: Tensor, noise: float = 0.0) -> Tensor:
    """What follows from the exact inner products, or from such that are wrong by some part."""
    products = gradients @ gradients.T
    errors = np.random.default_rng(0).uniform(-1, 1, products.shape)
    products = products * (1 + noise * torch.from_numpy(errors + errors.T) / 2)
    return new(name).weights(products, target=0) @ gradients


def new(name: str) -> Balancer:
    return balance.make(name)


@pytest.mark.parametrize("seed", range(2))
@every_kind
@every_method
def test_merges_as_from_exact_inner_products(name: str, kind: Callable[[int], Tensor], seed: int) -> None:
    gradients = kind(seed).float()
    exact = gradients.double()
    expected = exactly(name, exact)
    assert (exactly(name, exact, noise=1e-11) - expected).norm() < 1e-5 * expected.norm()  # well conditioned
    merged = new(name).merge(gradients, target=0)
    assert merged.dtype == torch.float32
    assert (merged - expected).norm() <= 1e-4 * expected.norm()


@every_kind
@pytest.mark.parametrize("name", ["upgrad", "mgda", "nash_mtl", "fairgrad", "config"])
def test_agrees_with_nearly_dependent_gradients(name: str, kind: Callable[[int], Tensor]) -> None:
    gradients = kind(7).float()
    merged, exact = new(name).merge(gradients, target=0).double(), gradients.double()
    assert merged.norm() > 1e-4 * exact.norm()
    assert (exact @ merged >= -1e-5 * exact.norm(dim=1) * merged.norm()).all()


@pytest.mark.parametrize("kind", [*KINDS, cancelling], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("c", [0.5, 3.0])
def test_cagrad_stays_in_its_ball(c: float, kind: Callable[[int], Tensor]) -> None:
    gradients = kind(3).float()
    mean = gradients.double().mean(dim=0)
    distance = float((balance.make("cagrad", c=c).merge(gradients) - mean).norm())
    assert distance <= c * float(mean.norm()) * (1 + 1e-5)


@every_method
def test_is_defined_where_gradients_cancel_but_for_rounding(name: str) -> None:
    for size in (1e-10, 1.0, 1e10):
        gradients = cancelling(5).float() * size
        merged = new(name).merge(gradients, target=0).double()
        assert merged.isfinite().all()
        if name in ("upgrad", "mgda"):  # there is nowhere to go
            assert merged.norm() < 1e-5 * gradients.norm()
