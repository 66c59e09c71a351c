"""A reader as interests in subtopics, topics and the whole, as in HieRec."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from counterpoint.news.models.readers import Interests, Known, OneVector, Readers


class HierarchicalReader(OneVector):
    """Interests in subtopics, of which interests in topics are made, of which the overall interest is made.

    A candidate of subtopic s and topic t is met with ``(1 - λₛ - λₜ) u + λₜ wₜ uₜ + λₛ wₛ uₛ``, w being the
    share of the clicks (HieRec, Qi et al. 2021, section 3). Interests that the reader does not have are left
    out. An article without a topic counts for none of them, but for the length of the history.

    Args:
        size: numbers in an article vector.
        topics: how many topics there are.
        subtopics: how many subtopics there are.
        topic_weight: λₜ.
        subtopic_weight: λₛ.
    """

    _MOST_CLICKS, _COUNT_SIZE = 50, 128

    def __init__(
        self, size: int, topics: int, subtopics: int, *, topic_weight: float, subtopic_weight: float
    ) -> None:
        super().__init__(size)
        self.topic_weight, self.subtopic_weight = topic_weight, subtopic_weight
        self.topic = nn.Embedding(topics + 1, size, padding_idx=0)
        self.subtopic = nn.Embedding(subtopics + 1, size, padding_idx=0)
        nn.init.zeros_(self.topic.weight)
        nn.init.zeros_(self.subtopic.weight)
        self.of_click, self.of_subtopic, self.of_topic = (nn.Linear(size, 1, bias=False) for _ in range(3))
        self.count = nn.Embedding(self._MOST_CLICKS + 1, self._COUNT_SIZE)
        self.of_count = nn.Linear(self._COUNT_SIZE, 1)

    def forward(
        self, articles: Known, history: Int[Tensor, "readers places"], numbers: Int[Tensor, " readers"]
    ) -> Readers:
        """Return the overall interest of each reader and the interests it is made of."""
        real, places = history >= 0, history.clamp(min=0)
        clicked = nn.functional.embedding(places, articles.vectors)
        topics, subtopics = (
            torch.where(real, names[places], 0) for names in (articles.topics, articles.subtopics)
        )
        length = real.sum(1, keepdim=True).clamp(min=1)
        subtopic_of, subtopic_count, first = _groups(subtopics)
        weights = _softmax(self.of_click(clicked).transpose(1, 2), subtopic_of)
        subtopic_vectors = weights @ clicked + self.subtopic(subtopics)
        logits = self._logits(self.of_subtopic, subtopic_vectors, subtopic_count)
        topic_of, topic_count, first_of_topic = _groups(topics)
        among = _softmax(logits[:, None], topic_of & first[:, None])
        topic_vectors = among @ subtopic_vectors + self.topic(topics)
        logits = self._logits(self.of_topic, topic_vectors, topic_count)
        shares = _softmax(logits, first_of_topic)
        overall = torch.einsum("rp,rps->rs", shares, topic_vectors)
        attention = torch.einsum("rt,rts,rsp->rp", shares, among, weights)
        return Readers(
            self.or_cold(overall, first_of_topic),
            attention,
            Interests(
                topics * first_of_topic,
                topic_vectors,
                topic_count / length,
                subtopics * first,
                subtopic_vectors,
                subtopic_count / length,
            ),
        )

    def facing(
        self,
        readers: Readers,
        reader: Int[Tensor, " pairs"],
        articles: Known,
        candidate: Int[Tensor, " pairs"],
    ) -> Float[Tensor, "pairs size"]:
        """Return the three interests that a candidate meets, weighted."""
        assert readers.interests is not None
        own = readers.interests
        overall = nn.functional.embedding(reader, readers.vectors)
        topic = _meeting(own.topics, own.topic_vectors, own.topic_shares, reader, articles.topics[candidate])
        subtopic = _meeting(
            own.subtopics,
            own.subtopic_vectors,
            own.subtopic_shares,
            reader,
            articles.subtopics[candidate],
        )
        rest = 1 - self.topic_weight - self.subtopic_weight
        return rest * overall + self.topic_weight * topic + self.subtopic_weight * subtopic

    def _logits(
        self,
        layer: nn.Linear,
        vectors: Float[Tensor, "readers places size"],
        clicks: Int[Tensor, "readers places"],
    ) -> Float[Tensor, "readers places"]:
        """Return how much each interest counts: by what it is, and by how many clicks show it."""
        counted = self.of_count(self.count(clicks.clamp(max=self._MOST_CLICKS)))
        total: Tensor = (layer(vectors) + counted).squeeze(-1)
        return total


def _groups(
    names: Int[Tensor, "readers places"],
) -> tuple[
    Bool[Tensor, "readers places places"], Int[Tensor, "readers places"], Bool[Tensor, "readers places"]
]:
    """Return which places share a name (0 is none), how many share it, and which stand first for it."""
    same = (names[:, :, None] == names[:, None, :]) & (names > 0)[:, :, None]
    earlier = same & torch.ones_like(same).tril(-1)
    return same, same.sum(-1), (names > 0) & ~earlier.any(-1)


def _softmax(
    logits: Float[Tensor, "readers *rows places"], chosen: Bool[Tensor, "readers *rows places"]
) -> Float[Tensor, "readers *rows places"]:
    """Return softmax weights over the chosen places, zeros where none is chosen."""
    lowest = torch.finfo(logits.dtype).min
    return torch.softmax(logits.masked_fill(~chosen, lowest), dim=-1).masked_fill(~chosen, 0.0)


def _meeting(
    names: Int[Tensor, "readers places"],
    vectors: Float[Tensor, "readers places size"],
    shares: Float[Tensor, "readers places"],
    reader: Int[Tensor, " pairs"],
    wanted: Int[Tensor, " pairs"],
) -> Float[Tensor, "pairs size"]:
    """Return each reader's interest of the wanted name times its share, zeros where he has none."""
    if not names.shape[1]:
        return vectors.new_zeros(len(reader), vectors.shape[2])
    found = (names[reader] == wanted[:, None]) & (wanted > 0)[:, None]
    place = found.int().argmax(1)
    row = reader * names.shape[1] + place
    kept = nn.functional.embedding(row, (vectors * shares[:, :, None]).flatten(0, 1))
    return kept * found.any(1, keepdim=True)
