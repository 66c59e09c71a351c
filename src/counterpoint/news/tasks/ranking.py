"""Ranking one click above the non-clicks beside it."""

from jaxtyping import Float
from torch import Tensor, nn


def nce_loss(scores: Float[Tensor, "clicks candidates"]) -> Float[Tensor, ""]:
    """Return the mean of ``-log(exp s⁺ / (exp s⁺ + Σ exp s⁻))`` (paper 1, eq. 3).

    Args:
        scores: one row a click; the click stands first, its non-clicks behind it.
    """
    targets = scores.new_zeros(len(scores)).long()
    return nn.functional.cross_entropy(scores.float(), targets)
