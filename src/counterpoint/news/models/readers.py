"""From the articles a reader clicked to the vectors that face candidates."""

from typing import ClassVar, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from counterpoint.encoders.attention import AdditiveAttention, MultiHeadSelfAttention


class Known(NamedTuple):
    """Articles as reader encoders see them.

    Attributes:
        vectors: one each.
        topics: number of the category, 0 where unknown or not asked for.
        subtopics: number of the subcategory, likewise.
        logits: attention logits, for encoders that weigh an article by itself alone.
    """

    vectors: Float[Tensor, "articles size"]
    topics: Int[Tensor, " articles"]
    subtopics: Int[Tensor, " articles"]
    logits: Float[Tensor, " articles"] | None


class Interests(NamedTuple):
    """Interests in topics and subtopics, each standing at the first click that shows it.

    Attributes:
        topics: topic of each place; 0 where another place already stands for it, or it is unknown.
        topic_vectors: the interests.
        topic_shares: share of the clicks.
        subtopics: likewise.
        subtopic_vectors: likewise.
        subtopic_shares: likewise.
    """

    topics: Int[Tensor, "readers places"]
    topic_vectors: Float[Tensor, "readers places size"]
    topic_shares: Float[Tensor, "readers places"]
    subtopics: Int[Tensor, "readers places"]
    subtopic_vectors: Float[Tensor, "readers places size"]
    subtopic_shares: Float[Tensor, "readers places"]


class Readers(NamedTuple):
    """Some readers.

    Attributes:
        vectors: the overall interest of each.
        attention: what share each place of the history has in it.
        interests: what an encoder of several interests keeps beside it.
    """

    vectors: Float[Tensor, "readers size"]
    attention: Float[Tensor, "readers places"]
    interests: Interests | None = None


class ReaderEncoder(Protocol):
    """What every reader encoder offers.

    ``history`` holds rows of the articles, oldest first; -1 is padding, which gets no attention. A reader
    without any click gets a learned vector. ``numbers`` are the readers' own, 0 for one never met.

    Attributes:
        adds_up: whether a reader is the sum of the clicks' vectors times their attention.
    """

    adds_up: ClassVar[bool]

    def known(
        self,
        vectors: Float[Tensor, "articles size"],
        topics: Int[Tensor, " articles"],
        subtopics: Int[Tensor, " articles"],
    ) -> Known:
        """Return articles with what can be computed once for each of them."""
        ...

    def __call__(
        self, articles: Known, history: Int[Tensor, "readers places"], numbers: Int[Tensor, " readers"]
    ) -> Readers:
        """Return the readers of these histories."""
        ...

    def facing(
        self,
        readers: Readers,
        reader: Int[Tensor, " pairs"],
        articles: Known,
        candidate: Int[Tensor, " pairs"],
    ) -> Float[Tensor, "pairs size"]:
        """Return the vector with which each reader faces a candidate."""
        ...


class OneVector(nn.Module):
    """A reader encoder that gives one vector, the same before every candidate."""

    adds_up: ClassVar[bool] = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.cold = nn.Parameter(torch.zeros(size))

    def known(
        self,
        vectors: Float[Tensor, "articles size"],
        topics: Int[Tensor, " articles"],
        subtopics: Int[Tensor, " articles"],
    ) -> Known:
        """Return the articles as they are."""
        return Known(vectors, topics, subtopics, None)

    def facing(
        self,
        readers: Readers,
        reader: Int[Tensor, " pairs"],
        articles: Known,
        candidate: Int[Tensor, " pairs"],
    ) -> Float[Tensor, "pairs size"]:
        """Return each reader's one vector."""
        return nn.functional.embedding(reader, readers.vectors)

    def or_cold(
        self, vectors: Float[Tensor, "readers size"], real: Bool[Tensor, "readers places"]
    ) -> Float[Tensor, "readers size"]:
        """Return the learned vector where nothing was clicked."""
        return torch.where(real.any(1, keepdim=True), vectors, self.cold)


class AttentiveReader(OneVector):
    """Additive attention over the history (paper 1, eq. 1); a learned vector where there is none.

    Args:
        size: numbers in an article vector.
        query_size: numbers in the attention's query.
    """

    adds_up = True

    def __init__(self, size: int, query_size: int) -> None:
        super().__init__(size)
        self.attention = AdditiveAttention(size, query_size)

    def known(
        self,
        vectors: Float[Tensor, "articles size"],
        topics: Int[Tensor, " articles"],
        subtopics: Int[Tensor, " articles"],
    ) -> Known:
        """Return the articles with their attention logits, which depend on nothing else."""
        return Known(vectors, topics, subtopics, self.attention.logits(vectors))

    def forward(
        self, articles: Known, history: Int[Tensor, "readers places"], numbers: Int[Tensor, " readers"]
    ) -> Readers:
        """Return one vector a reader and the attention each place of the history got."""
        vectors, real = articles.vectors, history >= 0
        if history.shape[1] == 0:
            return Readers(self.cold.expand(len(history), -1), vectors.new_zeros(history.shape))
        assert articles.logits is not None
        places = history.clamp(min=0)
        # Lookups by embedding: their backward pass adds up in a fixed order, which indexing does not promise.
        of_places = nn.functional.embedding(places, articles.logits[:, None]).squeeze(-1)
        weights = self.attention.weights(of_places, real)
        readers = nn.functional.embedding_bag(places, vectors, per_sample_weights=weights, mode="sum")
        return Readers(self.or_cold(readers, real), weights)


class SelfAttentiveReader(OneVector):
    """Multi-head self-attention among the clicks, then additive attention (NRMS, Wu et al. 2019d).

    The result is as long as an article's vector, whose size the heads must divide.

    Args:
        size: numbers in an article vector.
        heads: of the self-attention.
        query_size: of the additive attention.
    """

    def __init__(self, size: int, heads: int, query_size: int) -> None:
        super().__init__(size)
        self.attend = MultiHeadSelfAttention(size, heads, size // heads)
        self.attention = AdditiveAttention(size, query_size)

    def forward(
        self, articles: Known, history: Int[Tensor, "readers places"], numbers: Int[Tensor, " readers"]
    ) -> Readers:
        """Return one vector a reader and the attention each place of the history got."""
        real = history >= 0
        clicked = self.attend(nn.functional.embedding(history.clamp(min=0), articles.vectors), real)
        weights = self.attention.weights(self.attention.logits(clicked), real)
        return Readers(self.or_cold(torch.einsum("rp,rps->rs", weights, clicked), real), weights)


class RecurrentReader(OneVector):
    """A GRU over the clicks and an embedding of the reader (LSTUR, An et al. 2019).

    ``initial``: the embedding is the GRU's first state. ``concatenated``: it stands beside the GRU's last
    state, each with half of the numbers. In training a share of the embeddings is left out, so that readers
    never met, whose embedding is zero, are nothing new.

    Args:
        size: numbers in an article vector.
        readers: how many readers have an embedding.
        concatenated: which of the two forms.
        dropout: share of embeddings left out.

    Raises:
        ValueError: ``concatenated`` with an odd size.
    """

    def __init__(self, size: int, readers: int, *, concatenated: bool, dropout: float) -> None:
        super().__init__(size)
        if concatenated and size % 2:
            raise ValueError(f"a concatenated reader embedding needs an even size, not {size}")
        half = size // 2 if concatenated else size
        self.concatenated, self.dropout = concatenated, dropout
        self.gru = nn.GRU(size, half, batch_first=True)
        self.embedding = nn.Embedding(readers + 1, half, padding_idx=0)
        nn.init.normal_(self.embedding.weight[1:], std=0.1)

    def forward(
        self, articles: Known, history: Int[Tensor, "readers places"], numbers: Int[Tensor, " readers"]
    ) -> Readers:
        """Return one vector a reader; the attention is even, since a GRU tells of none."""
        real = history >= 0
        lengths = real.sum(1)
        if self.training:
            numbers = numbers * (torch.rand(len(numbers), device=numbers.device) >= self.dropout)
        own = self.embedding(numbers)
        first = torch.zeros_like(own) if self.concatenated else own
        last = first
        if history.shape[1]:
            clicked = nn.functional.embedding(history.clamp(min=0), articles.vectors)
            states, _ = self.gru(clicked, first[None].contiguous())
            at_end = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
            last = torch.where(real.any(1, keepdim=True), states.gather(1, at_end).squeeze(1), first)
        vectors = torch.cat((last, own), dim=1) if self.concatenated else last
        # Without clicks LSTUR still knows a reader it has met; the cold vector adds what strangers like.
        vectors = torch.where(real.any(1, keepdim=True), vectors, vectors + self.cold)
        return Readers(vectors, real.to(vectors.dtype) / lengths.clamp(min=1)[:, None])


class Everyone(OneVector):
    """One learned vector for all readers: ranking by what is popular with everyone."""

    def forward(
        self, articles: Known, history: Int[Tensor, "readers places"], numbers: Int[Tensor, " readers"]
    ) -> Readers:
        """Return the same vector for each reader."""
        vectors = self.cold.expand(len(history), -1)
        return Readers(vectors, articles.vectors.new_zeros(history.shape))
