"""Texts to vectors by a convolution over word vectors, as in NAML and LSTUR."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.encoders.attention import AdditiveAttention, blocks
from counterpoint.encoders.tokens import Texts


class ConvolutionEncoder(nn.Module):
    """Each word with its neighbours, then additive attention over the words.

    ``cₜ = ReLU(F · w₍ₜ₋ₖ:ₜ₊ₖ₎ + b)``, with zeros beyond both ends of a text (NAML: Wu et al. 2019a, eq. 1;
    LSTUR: An et al. 2019, eq. 1). Dropout follows the word vectors and the convolution.

    Args:
        words: the word vectors, trained along.
        size: filters, the numbers in a text's vector.
        window: words a filter sees, odd.
        query_size: numbers in the attention's query.
        dropout: share of the numbers left out while training.
    """

    def __init__(
        self,
        words: nn.Embedding,
        size: int = 400,
        window: int = 3,
        query_size: int = 200,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.size = size
        self.words = words
        self.convolution = nn.Conv1d(words.embedding_dim, size, window, padding="same")
        self.attention = AdditiveAttention(size, query_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, texts: Texts) -> tuple[Float[Tensor, "tokens size"], Float[Tensor, "texts size"]]:
        """Return the convolved words and the vector of each text."""
        words = self.dropout(self.words(texts.tokens))
        # One convolution for each length; measured no slower than one over everything, whose ends need masks.
        convolved = torch.cat(
            [
                self.convolution(block.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
                for block in blocks(words, texts)
            ]
        )
        states: Tensor = self.dropout(torch.relu(convolved))
        return states, self.attention.pool(states, texts)
