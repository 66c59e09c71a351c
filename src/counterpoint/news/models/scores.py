"""The click predictor: both scores are a dot product of what they make of articles and readers."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Dot(nn.Module):
    """``s = r_candidate · r_reader`` (paper 1, eq. 2)."""

    def articles(self, vectors: Float[Tensor, "articles size"]) -> Float[Tensor, "articles size"]:
        """Return the vectors that histories and candidates are made of."""
        return vectors

    def readers(self, vectors: Float[Tensor, "readers size"]) -> Float[Tensor, "readers size"]:
        """Return the vectors that are multiplied with the candidates'."""
        return vectors


class ScaledCosine(nn.Module):
    """``s = scale · Σᵢ aᵢ cos(r_candidate, r_i)``: the attention's mean cosine to the clicks, learned scale.

    The length of a pretrained encoder's vectors says nothing about clicks, yet a dot product spends most of
    its spread on it; the cosine leaves the direction and learns the temperature. The reader's vector is not
    brought to length one, so scattered interests give milder scores.
    """

    def __init__(self, scale: float = 15.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def articles(self, vectors: Float[Tensor, "articles size"]) -> Float[Tensor, "articles size"]:
        """Return the vectors at length one."""
        return nn.functional.normalize(vectors, dim=-1)

    def readers(self, vectors: Float[Tensor, "readers size"]) -> Float[Tensor, "readers size"]:
        """Return the vectors times the learned scale."""
        return vectors * self.log_scale.exp()


class ContextScore(nn.Module):
    """What a candidate's age and recent clicks add to its score: a small network that starts at zero.

    Args:
        features: how many numbers describe a candidate's context.
        hidden: units of the layer between.
    """

    def __init__(self, features: int, hidden: int = 16) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(features, hidden), nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, context: Float[Tensor, "pairs features"]) -> Float[Tensor, " pairs"]:
        """Return what each context adds."""
        added: Tensor = self.output(torch.relu(self.hidden(context))).squeeze(-1)
        return added
