"""Matrices of task gradients that methods find hard."""

import torch
from hypothesis import strategies as st
from torch import Tensor

NAMES = "abcdefgh"


@st.composite
def matrices(draw: st.DrawFn, least: int = 1, most: int = 6) -> Tensor:
    """Gradients of a given rank, some zero, repeated, opposite or nearly so, of very different sizes."""
    tasks = draw(st.integers(least, most))
    coordinates = draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    rank = draw(st.integers(1, min(tasks, coordinates)))
    left = torch.randn(tasks, rank, generator=generator, dtype=torch.float64)
    gradients = left @ torch.randn(rank, coordinates, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["plain", "plain", "repeated", "opposite", "nearly collinear", "stationary"]))
    if tasks > 1 and kind == "repeated":
        gradients[-1] = gradients[0]
    elif tasks > 1 and kind == "opposite":
        gradients[-1] = -gradients[0]
    elif tasks > 1 and kind == "nearly collinear":
        noise = torch.randn(tasks, coordinates, generator=generator, dtype=torch.float64)
        gradients = gradients[:1] * left[:, :1] + 1e-7 * noise
    elif tasks > 1 and kind == "stationary":  # a positive combination of the gradients is zero
        shares = torch.rand(tasks, generator=generator, dtype=torch.float64) + 0.1
        gradients[-1] = -(shares[:-1] @ gradients[:-1]) / shares[-1]
    factors = draw(st.lists(st.sampled_from([1.0, 1.0, 0.0, 1e-3, 1e3]), min_size=tasks, max_size=tasks))
    return gradients * torch.tensor(factors, dtype=torch.float64)[:, None]


@st.composite
def losses(draw: st.DrawFn, tasks: int) -> Tensor:
    """Positive losses of different sizes."""
    values = draw(st.lists(st.floats(0.01, 50.0), min_size=tasks, max_size=tasks))
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def rotations(draw: st.DrawFn, coordinates: int) -> Tensor:
    """Orthogonal matrices."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    square = torch.randn(coordinates, coordinates, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(square).Q
