"""From the articles a reader clicked to one vector for the reader."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.encoders.attention import AdditiveAttention


class AttentiveReader(nn.Module):
    """Additive attention over the history (paper 1, eq. 1); a learned vector where there is none.

    Args:
        size: numbers in an article vector.
        query_size: numbers in the attention's query.
    """

    def __init__(self, size: int, query_size: int) -> None:
        super().__init__()
        self.attention = AdditiveAttention(size, query_size)
        self.cold = nn.Parameter(torch.zeros(size))

    def forward(
        self,
        articles: Float[Tensor, "articles size"],
        history: Int[Tensor, "readers places"],
        logits: Float[Tensor, " articles"] | None = None,
    ) -> tuple[Float[Tensor, "readers size"], Float[Tensor, "readers places"]]:
        """Return one vector a reader and the attention each place of the history got.

        Args:
            articles: article vectors.
            history: rows of ``articles``; -1 is padding, which gets no attention.
            logits: the articles' attention logits, where they are known already.
        """
        real = history >= 0
        if history.shape[1] == 0:
            return self.cold.expand(len(history), -1), articles.new_zeros(history.shape)
        places = history.clamp(min=0)
        logits = self.attention.logits(articles) if logits is None else logits
        # Lookups by embedding: their backward pass adds up in a fixed order, which indexing does not promise.
        of_places = nn.functional.embedding(places, logits[:, None]).squeeze(-1)
        weights = self.attention.weights(of_places, real)
        readers = nn.functional.embedding_bag(places, articles, per_sample_weights=weights, mode="sum")
        return torch.where(real.any(1, keepdim=True), readers, self.cold), weights
