"""Gradients for the methods that solve a small problem on the Gramian, and those methods."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.balance import MGDA, PCD, AlignedMTL, Balancer, CAGrad, ConFIG, FairGrad, NashMTL, UPGrad

PAIR = torch.tensor([[2.0, 1.0], [-1.0, 0.5]]).double()  # squares 5 and 1.25, cosine -0.6, |mean|² 0.8125
# Three gradients in conflict with each other, for which Nash-MTL's published solver returns weights of 1.
AGAINST = torch.tensor([[3.0, -1.0, 0.2], [-1.0, 2.0, -0.3], [-1.0, -0.9, 0.6]]).double()
ALL = (
    *(MGDA(), MGDA("l2"), MGDA("loss"), MGDA("loss+"), CAGrad(), CAGrad(3.0, 1), UPGrad(), UPGrad("sum")),
    *(NashMTL(), NashMTL(None), FairGrad(), FairGrad(0.5), FairGrad(4.0), PCD(), PCD(0.0)),
    *(AlignedMTL(), AlignedMTL("median"), AlignedMTL("rmse"), ConFIG()),
)
SCALING = [each for each in ALL if not isinstance(each, NashMTL | FairGrad)]
relaxed = settings(max_examples=60, deadline=None)


def fresh(balancer: Balancer) -> Balancer:
    return PCD(balancer.tau, balancer.beta) if isinstance(balancer, PCD) else balancer


def merge(balancer: Balancer, gradients: Tensor, order: list[int] | None = None) -> Tensor:
    """What a balancer without a past returns; the first row is the target, whatever the order."""
    order = list(range(len(gradients))) if order is None else order
    losses = torch.linspace(0.5, 2.0, len(gradients), dtype=torch.float64)
    return fresh(balancer).merge(gradients[order], target=order.index(0), losses=losses[order])


def normal(tasks: int, coordinates: int, seed: int = 0) -> Tensor:
    return torch.randn(tasks, coordinates, generator=torch.Generator().manual_seed(seed)).double()


@st.composite
def gradients(draw: st.DrawFn, least: int = 1, spread: float = 3.0) -> Tensor:
    """Gradients of any rank and of norms within some powers of ten."""
    tasks, coordinates = draw(st.integers(least, 16)), draw(st.integers(1, 20))
    rows = normal(tasks, coordinates, draw(st.integers(0, 2**32)))
    rows = rows - draw(st.sampled_from([0.0, 0.5, 1.2])) * rows.mean(dim=0)  # the more, the more conflict
    exponents = draw(st.lists(st.floats(-spread, spread), min_size=tasks, max_size=tasks))
    return rows * 10 ** torch.tensor(exponents, dtype=torch.float64)[:, None]


@st.composite
def independent(draw: st.DrawFn) -> Tensor:
    """Gradients that do not depend on each other."""
    tasks = draw(st.integers(1, 8))
    seed, exponent = draw(st.integers(0, 2**32)), draw(st.floats(-3, 3))
    return normal(tasks, tasks + 3, seed) * 10 ** (exponent * normal(tasks, 1, seed + 1).sigmoid())
