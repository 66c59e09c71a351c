"""A number for each example, learned on a standardised scale."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


class Regression(nn.Module):
    """Linear regression of standardised values; the loss is the mean squared error.

    Values are brought to mean 0 and variance 1 first, so that a task measured in seconds weighs no more
    than one measured in shares before the gradients are balanced.

    Args:
        size: numbers in an example's vector.
        mean: of the values in training.
        spread: their standard deviation.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, size: int, mean: float = 0.0, spread: float = 1.0) -> None:
        super().__init__()
        self.output = nn.Linear(size, 1)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("spread", torch.tensor(spread if spread > 0 else 1.0))

    def loss(
        self, vectors: Float[Tensor, "examples size"], values: Float[Tensor, " examples"]
    ) -> Float[Tensor, ""]:
        """Return the mean squared error over the examples that have a value (NaN: none); 0 where none has."""
        known = ~values.isnan()
        wanted = torch.where(known, (values - self.mean) / self.spread, 0.0)
        errors = torch.where(known, self.output(vectors).squeeze(-1) - wanted, 0.0)
        return errors.square().sum() / known.sum().clamp(min=1)

    def predict(self, vectors: Float[Tensor, "examples size"]) -> Float[Tensor, " examples"]:
        """Return the value of each example, on the scale it was given in."""
        values: Tensor = self.output(vectors).squeeze(-1) * self.spread + self.mean
        return values


def explained(predicted: Float[np.ndarray, " examples"], values: Float[np.ndarray, " examples"]) -> float:
    """Return R² = 1 - Σ(v - v̂)² / Σ(v - v̄)² over the known values; NaN where they do not differ."""
    known = ~np.isnan(values)
    wanted = values[known].astype(np.float64)
    around = ((wanted - wanted.mean()) ** 2).sum() if len(wanted) else 0.0
    return float(1 - ((wanted - predicted[known]) ** 2).sum() / around) if around > 0 else float("nan")


def absolute_error(
    predicted: Float[np.ndarray, " examples"], values: Float[np.ndarray, " examples"]
) -> float:
    """Return the mean absolute error over the known values; NaN where none is known."""
    known = ~np.isnan(values)
    return float(np.abs(predicted[known] - values[known]).mean()) if known.any() else float("nan")
