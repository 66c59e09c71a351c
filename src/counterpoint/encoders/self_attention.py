"""Multi-head self-attention over ragged sets, and texts to vectors by it, as in NRMS."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from counterpoint.encoders.attention import AdditiveAttention, blocks
from counterpoint.encoders.tokens import Texts


class SelfAttentionEncoder(nn.Module):
    """Words attend to each other, then additive attention over the words.

    This is the news encoder of NRMS (Wu et al. 2019d, eqs. 1 to 5). Dropout follows the word vectors and the
    self-attention.

    Args:
        words: the word vectors, trained along.
        heads: of the self-attention.
        head_size: numbers in the output of one head; a text's vector has ``heads · head_size``.
        query_size: numbers in the additive attention's query.
        dropout: share of the numbers left out while training.
    """

    def __init__(
        self,
        words: nn.Embedding,
        heads: int = 20,
        head_size: int = 20,
        query_size: int = 200,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.size = heads * head_size
        self.words = words
        self.attend = MultiHeadSelfAttention(words.embedding_dim, heads, head_size)
        self.attention = AdditiveAttention(self.size, query_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, texts: Texts) -> tuple[Float[Tensor, "tokens size"], Float[Tensor, "texts size"]]:
        """Return the words after self-attention and the vector of each text."""
        words = self.dropout(self.words(texts.tokens))
        # One call for each length: measured faster, by more than a third, than one padded call with a mask.
        attended = [
            self.attend(block, block.new_ones(block.shape[:2], dtype=torch.bool)).flatten(0, 1)
            for block in blocks(words, texts)
        ]
        states: Tensor = self.dropout(torch.cat(attended))
        return states, self.attention.pool(states, texts)


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
