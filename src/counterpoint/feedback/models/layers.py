"""Layers and their first weights."""

from collections.abc import Callable

from torch import Tensor, nn

Fill = Callable[[Tensor], object]
"""Gives a matrix of weights its first values."""


def linear(inputs: int, outputs: int, fill: Fill) -> nn.Linear:
    """Return a linear layer that begins without a bias."""
    layer = nn.Linear(inputs, outputs)
    fill(layer.weight.detach())
    nn.init.zeros_(layer.bias)
    return layer
