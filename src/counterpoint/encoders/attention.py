"""Additive attention over a ragged set of vectors."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from counterpoint.encoders.tokens import Texts


class AdditiveAttention(nn.Module):
    """One weight a vector: softmax over the real entries of ``q · tanh(W r)`` (paper 1, eq. 1).

    The logit depends on the vector alone, so it can be computed once for each article.

    Args:
        size: numbers in a vector.
        query_size: numbers in the query.
    """

    def __init__(self, size: int, query_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, query_size, bias=False)
        self.query = nn.Parameter(torch.empty(query_size))
        nn.init.normal_(self.query, std=query_size**-0.5)

    def logits(self, vectors: Float[Tensor, "*set size"]) -> Float[Tensor, "*set"]:
        """Return the logit of each vector."""
        logits: Tensor = torch.tanh(self.project(vectors)) @ self.query
        return logits

    def weights(
        self, logits: Float[Tensor, "rows entries"], real: Bool[Tensor, "rows entries"]
    ) -> Float[Tensor, "rows entries"]:
        """Return weights that sum to one over each row's real entries, all zero where a row has none."""
        lowest = torch.finfo(logits.dtype).min
        weights = torch.softmax(logits.masked_fill(~real, lowest), dim=-1)
        return weights.masked_fill(~real, 0.0)

    def pool(self, states: Float[Tensor, "tokens size"], texts: Texts) -> Float[Tensor, "texts size"]:
        """Return the weighted sum of the states of each packed text."""
        logits = blocks(self.logits(states)[:, None], texts)
        return torch.cat(
            [
                (torch.softmax(logit, dim=1) * block).sum(1)
                for logit, block in zip(logits, blocks(states, texts), strict=True)
            ]
        )


def blocks(
    states: Float[Tensor, "tokens size"], texts: Texts
) -> Iterator[Float[Tensor, "texts length size"]]:
    """Yield the states of packed texts, those of equally long texts together."""
    for start, length, number in texts.runs():
        yield states[start : start + number * length].view(number, length, states.shape[1])
