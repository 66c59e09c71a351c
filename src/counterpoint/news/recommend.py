"""Ranking articles for one reader, with the clicks that speak for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from counterpoint.encoders.tokens import Texts, Tokenizer
from counterpoint.errors import UsageError, nearest
from counterpoint.news.data.store import Store
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.recipe import NewsRecipe

_REASONS = 3


@dataclass(frozen=True)
class Reason:
    """A click that speaks for a recommendation.

    Attributes:
        article: the clicked article.
        title: its title.
        attention: the weight it has in the reader's vector; all clicks' weights sum to one.
        contribution: its part of the score; all clicks' parts sum to the score.
    """

    article: str
    title: str
    attention: float
    contribution: float


@dataclass(frozen=True)
class Recommendation:
    """A ranked article.

    Attributes:
        article: its id.
        title: its title.
        score: the click predictor's.
        because: the clicks with most attention; empty for a reader without any.
    """

    article: str
    title: str
    score: float
    because: tuple[Reason, ...]


class NewsRecommender:
    """A trained recommender with the articles of a store.

    Args:
        model: the recommender.
        recipe: it was trained with.
        store: where article ids are looked up.
        tokenizer: the model's own.
    """

    def __init__(self, model: Recommender, recipe: NewsRecipe, store: Store, tokenizer: Tokenizer) -> None:
        self._model, self._recipe, self._store, self._tokenizer = model, recipe, store, tokenizer

    def recommend(
        self,
        history: Sequence[str] = (),
        candidates: Sequence[str] | None = None,
        *,
        articles: Mapping[str, str] | None = None,
        top: int = 10,
    ) -> list[Recommendation]:
        """Return the ``top`` candidates for a reader, best first.

        Args:
            history: ids of the articles clicked, oldest first; the most recent ones count. Empty for a reader
                who has not clicked yet.
            candidates: ids to rank; by default the articles shown on the data's last day, and ``articles``,
                without those in the history.
            articles: titles of articles that the store does not have, by id.
            top: how many to return.

        Raises:
            UsageError: an id that neither the store nor ``articles`` has, or nothing to rank.
        """
        extra = dict(articles or {})
        read, history = set(history), list(history)[-self._recipe.data.max_history :]
        if candidates is None:
            candidates = [article for article in (*self._live(), *extra) if article not in read]
        candidates = list(dict.fromkeys(candidates))
        if not candidates or top < 1:
            raise UsageError("there is nothing to rank; give --candidates and a --top of at least 1.")
        titles = [self._title(article, extra) for article in (*history, *candidates)]
        with torch.inference_mode():
            vectors = self._model.score.articles(self._encode(titles))
            clicked = torch.arange(len(history), device=vectors.device)[None]
            reader, attention = self._model.reader(vectors, clicked)
            reader = self._model.score.readers(reader)
            scores = vectors[len(history) :] @ reader[0]
            parts = self._contributions(
                vectors[: len(history)], attention[0], vectors[len(history) :], scores
            )
        best = torch.argsort(scores, descending=True, stable=True)[:top].tolist()
        order = torch.argsort(attention[0], descending=True, stable=True)[:_REASONS].tolist()
        return [
            Recommendation(
                candidates[place],
                titles[len(history) + place],
                float(scores[place]),
                tuple(
                    Reason(
                        history[click], titles[click], float(attention[0, click]), float(parts[place, click])
                    )
                    for click in order
                ),
            )
            for place in best
        ]

    def _contributions(
        self, clicked: torch.Tensor, attention: torch.Tensor, candidates: torch.Tensor, scores: torch.Tensor
    ) -> torch.Tensor:
        """Return each click's part of each candidate's score; the reader's vector is a sum over clicks."""
        parts = (candidates @ clicked.T) * attention
        total = parts.sum(1, keepdim=True)
        return torch.where(total != 0, parts / total * scores[:, None], torch.zeros_like(parts))

    def _title(self, article: str, extra: Mapping[str, str]) -> str:
        """Return a title by article id."""
        if article in extra:
            return extra[article]
        row = self._store.article_rows.get(article)
        if row is None:
            raise UsageError(
                f"no article {article!r} in {self._store.path}{nearest(article, self._store.article_rows)}; "
                "check the id, or give its title with --article ID=TITLE."
            )
        title: str = self._store.articles["title"][row]
        return title

    def _live(self) -> list[str]:
        """Return the articles shown on the last day that the store knows."""
        rows = self._store.shown_on_last_day()
        ids: list[str] = self._store.articles["article"][rows].to_list()
        return ids

    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the pooled vectors of titles, in their order."""
        device = next(self._model.parameters()).device
        encoded = self._tokenizer.encode(texts, self._recipe.data.max_title_tokens)
        order = sorted(range(len(texts)), key=lambda place: len(encoded[place].ids))
        pooled = []
        for start in range(0, len(order), 256):
            block = [encoded[place].ids for place in order[start : start + 256]]
            tokens = torch.tensor([token for ids in block for token in ids], device=device)
            pooled.append(self._model.encoder(Texts(tokens, tuple(map(len, block))))[1])
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(pooled)[back.to(device)]
