"""The whole recommender: an article encoder, a reader encoder, a click predictor, auxiliary heads."""

import math
from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.news.batches import Batch
from counterpoint.news.features import ArticleFeatures
from counterpoint.news.models.articles import ArticleEncoder
from counterpoint.news.models.readers import Known, ReaderEncoder, Readers
from counterpoint.news.models.vocabulary import Vocabulary
from counterpoint.news.tasks import TASKS
from counterpoint.news.tasks.protocol import View


class Recommender(nn.Module):
    """News encoder, reader encoder, click predictor and auxiliary heads (paper 1, Fig. 2).

    Args:
        articles: article features to vectors; what it learns from titles is what the tasks share.
        reader: histories to readers.
        score: the click predictor.
        heads: of the auxiliary tasks, by name.
        weights: of their losses.
        context: what age and recent clicks add to a score.
        vocabulary: the names it was built for; its readers' keys stand among the weights.
    """

    readers_met: Tensor

    def __init__(
        self,
        articles: ArticleEncoder,
        reader: nn.Module,
        score: "Dot | ScaledCosine",
        heads: dict[str, nn.Module] | None = None,
        weights: dict[str, float] | None = None,
        context: "ContextScore | None" = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.articles, self.reader, self.score, self.context = articles, reader, score, context
        self.heads = nn.ModuleDict(heads or {})
        self._weights = dict(weights or {})
        self.vocabulary = vocabulary or Vocabulary({}, {})
        self.register_buffer("readers_met", self.vocabulary.readers.clone())

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that all tasks share.

        Tasks on titles share the title encoder; a task on what was read shares all that makes articles and
        readers.
        """
        if any(TASKS[name].of_histories for name in self.heads):
            both = nn.ModuleList((self.articles, self.reader))
            return (parameter for parameter in both.parameters() if parameter.requires_grad)
        return self.articles.shared_parameters()

    def losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return the loss of every task on a batch; auxiliary tasks see each distinct article once."""
        # The auxiliary tasks read the first pack's own output: were it a slice of all titles', their backward
        # pass would walk through the other pack too, with zeros.
        packs = [self.articles(pack) for pack in batch.packs]
        vectors = self.score.articles(torch.cat([pack.articles for pack in packs]))
        known = self.known(vectors, batch.packs)
        readers = self.read(known, batch.history, batch.readers)
        losses = {"click": nce_loss(self.match(known, readers, batch.candidates, batch.context))}
        view = View(
            packs[0].states,
            packs[0].titles,
            batch.packs[0].title_lengths(),
            vectors,
            readers.vectors,
            batch.history,
        )
        for name, head in self.heads.items():
            losses[name] = self._weights.get(name, 1.0) * TASKS[name].loss(head, view, batch.labels[name])
        return losses

    def known(self, vectors: Float[Tensor, "articles size"], packs: tuple[ArticleFeatures, ...]) -> Known:
        """Return articles as the reader encoder sees them."""
        topics, subtopics = (
            torch.cat(
                [
                    pack.numbers.get(field, torch.zeros(len(pack), dtype=torch.long, device=vectors.device))
                    for pack in packs
                ]
            )
            for field in ("category", "subcategory")
        )
        return self._reader.known(vectors, topics, subtopics)

    def read(
        self,
        articles: Known,
        history: Int[Tensor, "readers places"],
        keys: Int[Tensor, " readers"],
    ) -> Readers:
        """Return the readers of some histories; ``keys`` say who they are."""
        return self._reader(articles, history, self._numbers(keys))

    def match(
        self,
        articles: Known,
        readers: Readers,
        candidates: Int[Tensor, "readers candidates"],
        context: Float[Tensor, "readers candidates features"] | None = None,
    ) -> Float[Tensor, "readers candidates"]:
        """Return the score of each reader's candidates."""
        shape = candidates.shape
        reader = torch.arange(shape[0], device=candidates.device).repeat_interleave(shape[1])
        flat = None if context is None else context.flatten(0, 1)
        return self.match_pairs(articles, readers, reader, candidates.flatten(), flat).view(shape)

    def match_pairs(
        self,
        articles: Known,
        readers: Readers,
        reader: Int[Tensor, " pairs"],
        candidate: Int[Tensor, " pairs"],
        context: Float[Tensor, "pairs features"] | None = None,
    ) -> Float[Tensor, " pairs"]:
        """Return the score of candidates, each for its reader (paper 1, eq. 2)."""
        facing = self.score.readers(self._reader.facing(readers, reader, articles, candidate))
        vectors = nn.functional.embedding(candidate, articles.vectors)
        scores: Tensor = torch.linalg.vecdot(facing, vectors)
        if self.context is not None and context is not None:
            scores = scores + self.context(context)
        return scores

    @property
    def adds_up(self) -> bool:
        """Whether a reader's vector is the sum of the clicks' vectors times their attention."""
        return self._reader.adds_up

    @property
    def _reader(self) -> ReaderEncoder:
        return cast(ReaderEncoder, self.reader)

    def _numbers(self, keys: Int[Tensor, " readers"]) -> Int[Tensor, " readers"]:
        """Return the number of each reader, 0 for one that has no embedding."""
        if not len(self.readers_met):
            return torch.zeros_like(keys)
        place = torch.searchsorted(self.readers_met, keys).clamp(max=len(self.readers_met) - 1)
        return torch.where(self.readers_met[place] == keys, place + 1, 0)


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


def nce_loss(scores: Float[Tensor, "clicks candidates"]) -> Float[Tensor, ""]:
    """Return the mean of ``-log(exp s⁺ / (exp s⁺ + Σ exp s⁻))`` (paper 1, eq. 3).

    Args:
        scores: one row a click; the click stands first, its non-clicks behind it.
    """
    targets = scores.new_zeros(len(scores)).long()
    return nn.functional.cross_entropy(scores.float(), targets)
