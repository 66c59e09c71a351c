"""Attention over ragged sets of vectors: additive, which makes one of many, and among themselves."""

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


class MultiHeadSelfAttention(nn.Module):
    """Every entry of a set as a mixture of the set's real entries, once for each head.

    ``hᵢ = V Σⱼ αᵢⱼ eⱼ`` with ``αᵢ = softmaxⱼ(eᵢᵀ Qᵀ K eⱼ / √head_size)`` (NRMS: Wu et al. 2019d, eqs. 1, 2).
    The equations have one matrix for QᵀK and no root; the authors' code factors it and divides, as here. Like
    both, this has no bias, no residual connection, no normalisation and no projection of the joined heads.

    Args:
        size_in: numbers in an entry.
        heads: number of mixtures.
        head_size: numbers in the output of one head.
    """

    def __init__(self, size_in: int, heads: int, head_size: int) -> None:
        super().__init__()
        self.size, self.heads = heads * head_size, heads
        self.query = nn.Linear(size_in, self.size, bias=False)
        self.key = nn.Linear(size_in, self.size, bias=False)
        self.value = nn.Linear(size_in, self.size, bias=False)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self,
        vectors: Float[Tensor, "rows entries size_in"],
        real: Bool[Tensor, "rows entries"],
        over: tuple[Float[Tensor, "rows others size_in"], Bool[Tensor, "rows others"]] | None = None,
    ) -> Float[Tensor, "rows entries size"]:
        """Return each real entry after attention; zeros for padding and where there is nothing to attend to.

        Args:
            vectors: the sets, padded with anything finite.
            real: which entries are no padding.
            over: other sets to attend to instead, and which of their entries are no padding.
        """
        others, there = (vectors, real) if over is None else over
        attended = nn.functional.scaled_dot_product_attention(
            self._by_head(self.query(vectors)),
            self._by_head(self.key(others)),
            self._by_head(self.value(others)),
            # A softmax over nothing is no number: a set without entries attends to its padding, zeroed below.
            attn_mask=(there | ~there.any(1, keepdim=True))[:, None, None, :],
        )
        kept = real & there.any(1, keepdim=True)
        joined: Tensor = attended.transpose(1, 2).flatten(2)
        return joined.masked_fill(~kept[:, :, None], 0.0)

    def _by_head(self, vectors: Float[Tensor, "rows entries size"]) -> Float[Tensor, "rows heads entries _"]:
        """Return the part of each head as a set of its own."""
        return vectors.view(*vectors.shape[:2], self.heads, self.size // self.heads).transpose(1, 2)


def blocks(
    states: Float[Tensor, "tokens size"], texts: Texts
) -> Iterator[Float[Tensor, "texts length size"]]:
    """Yield the states of packed texts, those of equally long texts together."""
    for start, length, number in texts.runs():
        yield states[start : start + number * length].view(number, length, states.shape[1])
