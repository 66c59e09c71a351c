"""Ranking articles for one reader, with the clicks that speak for each, or for all readers in the data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from counterpoint.capabilities import Question
from counterpoint.encoders.tokens import Tokenizer
from counterpoint.errors import ArgumentError, UsageError, nearest
from counterpoint.news.data.store import UNKNOWN, Impressions, Store
from counterpoint.news.features import ArticleFeatures
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.scoring import context_of, encode_articles, features_of, score_impressions
from counterpoint.progress import Progress, silent

_REASONS = 3
_ARTICLES = 256  # encoded at once
_CELLS = 1 << 22  # readers × articles scored at once


@dataclass(frozen=True)
class Reason:
    """A click that speaks for a recommendation.

    Attributes:
        article: the clicked article.
        title: its title.
        attention: the weight it has in the reader's vector; all clicks' weights sum to one.
        contribution: its part of the score; all clicks' parts sum to the score, but for what the context
            adds. Nothing where the reader is no sum over clicks.
    """

    article: str
    title: str
    attention: float
    contribution: float | None

    def __str__(self) -> str:
        return f"{self.attention:4.0%} of the attention: {self.article}  {self.title}"


@dataclass(frozen=True)
class Recommendation:
    """A ranked article.

    Attributes:
        article: its id.
        title: its title.
        score: the click predictor's.
        because: the clicks with most attention; empty where none has any.
    """

    article: str
    title: str
    score: float
    because: tuple[Reason, ...]

    def __str__(self) -> str:
        reasons = [f"       {reason}" for reason in self.because]
        return "\n".join([f"{self.article}  {self.title}  ({self.score:.3f})", *reasons])


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
        self._reader = features_of(model, recipe, store)
        self._last = _last_labelled(store)
        self._context = context_of(recipe, store, self._last)
        self._end = int(store.impressions(store.split(self._last)).time.max()) + 1

    def recommend(
        self,
        history: Sequence[str] = (),
        candidates: Sequence[str] | None = None,
        *,
        articles: Mapping[str, str] | None = None,
        top: int = 10,
        progress: Progress = silent,
    ) -> list[Recommendation]:
        """Return the ``top`` candidates for a reader, best first.

        Args:
            history: ids of the articles clicked, oldest first; the most recent ones count. Empty for a reader
                who has not clicked yet.
            candidates: ids to rank; by default the articles shown on the data's last day, and ``articles``,
                without those in the history.
            articles: titles of articles that the store does not have, by id.
            top: how many to return.
            progress: told how many articles are encoded.

        Raises:
            UsageError: an id that neither the store nor ``articles`` has, or nothing to rank.
        """
        _require_some(top)
        extra = dict(articles or {})
        read, history = set(history), list(history)[-self._recipe.data.max_history :]
        if candidates is None:
            candidates = [article for article in (*self._live(), *extra) if article not in read]
        candidates = list(dict.fromkeys(candidates))
        if not candidates:
            raise ArgumentError("candidates", "there is nothing to rank; name some")
        ids = (*history, *candidates)
        titles = [self._title(article, extra) for article in ids]
        with torch.inference_mode():
            packs, place = self._features(ids, extra)
            encoded, done = [], 0
            for pack in packs:
                encoded.append(self._model.articles(pack).articles)
                done += len(pack)
                progress("encoding articles", done, sum(map(len, packs)))
            vectors = self._model.score.articles(torch.cat(encoded))
            known = self._model.known(vectors, packs)
            device = vectors.device
            clicked, ranked = place[: len(history)].to(device), place[len(history) :].to(device)
            stranger = torch.zeros(1, dtype=torch.long, device=device)
            readers = self._model.read(known, clicked[None], stranger)
            scores = self._model.match(known, readers, ranked[None], self._now(candidates, extra))[0]
            attention = readers.attention
            parts = self._contributions(vectors[clicked], attention[0], vectors[ranked])
        best = torch.argsort(scores, descending=True, stable=True)[:top].tolist()
        order = torch.argsort(attention[0], descending=True, stable=True)[:_REASONS].tolist()
        speaking = [click for click in order if attention[0, click] > 0]
        return [
            Recommendation(
                candidates[place],
                titles[len(history) + place],
                float(scores[place]),
                tuple(
                    Reason(
                        history[click],
                        titles[click],
                        float(attention[0, click]),
                        None if parts is None else float(parts[place, click]),
                    )
                    for click in speaking
                ),
            )
            for place in best
        ]

    def recommend_all(self, *, top: int = 10, progress: Progress = silent) -> Iterator[pl.DataFrame]:
        """Yield the ``top`` articles of the data's last day for every reader of its last split with clicks.

        A store does not keep the readers' ids, so each is named by its last impression in the split, whose
        history is the reader's. Articles of that history are left out.

        Yields:
            Tables with the columns impression, rank (from 1), article and score, the best article first.
        """
        _require_some(top)
        live = np.sort(self._store.shown_on_last_day())
        if not len(live):
            raise UsageError(f"{self._store.path}: there is nothing to rank on its last day.")
        shown, most = self._store.impressions(self._store.split(self._last)), self._recipe.data.max_history
        last = _last_of_each(shown.reader, shown.time)
        everything, _ = self._store.histories(np.unique(shown.history[last]), most)
        needed = np.unique(np.concatenate((live, everything)))
        index = encode_articles(self._model, self._reader, needed, progress)
        articles = self._store.articles["article"]
        block = max(1, _CELLS // len(live))
        for start in range(0, len(last), block):
            rows = last[start : start + block]
            asked = Impressions(
                rows=shown.rows[rows],
                offsets=np.arange(len(rows) + 1) * len(live),
                candidates=np.tile(live, len(rows)),
                clicked=np.full(len(rows) * len(live), -1, dtype=np.int8),
                history=shown.history[rows],
                time=np.full(len(rows), self._end),
                reader=shown.reader[rows],
            )
            scores = score_impressions(self._model, index, self._store, asked, most, self._context)
            scores = _without_read(scores.reshape(len(rows), -1), live, self._store, asked)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
            values = np.take_along_axis(scores, best, axis=1)
            kept = np.isfinite(values)
            names = np.repeat(np.array(self._store.impression_ids(asked.rows)), kept.sum(axis=1))
            yield pl.DataFrame(
                {
                    "impression": names.tolist(),
                    "rank": (np.cumsum(kept, axis=1)[kept]).astype(np.int32),
                    "article": articles[live[best[kept]]],
                    "score": values[kept],
                },
                schema_overrides={"impression": pl.String},
            )
            progress("recommending", min(start + block, len(last)), len(last))

    def answers(self, question: Question, *, top: int, progress: Progress = silent) -> list[Recommendation]:
        """Return what `recommend` says to a question."""
        return self.recommend(
            question.history or (),
            question.candidates,
            articles=question.article,
            top=top,
            progress=progress,
        )

    def answers_for_all(self, question: Question, *, top: int, progress: Progress) -> Iterator[pl.DataFrame]:
        """Yield what `recommend_all` says."""
        return self.recommend_all(top=top, progress=progress)

    def _contributions(
        self, clicked: torch.Tensor, attention: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor | None:
        """Return each click's part of each candidate's score, if the reader is a sum over clicks."""
        if not self._model.adds_up:
            return None
        return candidates @ self._model.score.readers(clicked * attention[:, None]).T

    def _title(self, article: str, extra: Mapping[str, str]) -> str:
        """Return a title by article id."""
        if article in extra:
            return extra[article]
        row = self._store.article_rows.get(article)
        if row is None:
            raise UsageError(
                f"no article {article!r} in {self._store.path}{nearest(article, self._store.article_rows)}; "
                "check the id, or give its title."
            )
        title: str = self._store.articles["title"][row]
        return title

    def _live(self) -> list[str]:
        """Return the articles shown on the last day that the store knows."""
        rows = self._store.shown_on_last_day()
        ids: list[str] = self._store.articles["article"][rows].to_list()
        return ids

    def _features(
        self, ids: Sequence[str], extra: Mapping[str, str]
    ) -> tuple[tuple[ArticleFeatures, ...], torch.Tensor]:
        """Return the features of articles, those of the store before new ones, and where each id stands."""
        known = [article for article in dict.fromkeys(ids) if article not in extra]
        new = [article for article in dict.fromkeys(ids) if article in extra]
        rows = np.array([self._store.article_rows[article] for article in known], dtype=np.int64)
        order = np.argsort(self._reader.lengths()[rows], kind="stable") if len(rows) else rows
        blocks = [rows[order][start : start + _ARTICLES] for start in range(0, len(rows), _ARTICLES)]
        packs = [self._reader.read(block) for block in blocks]
        places = {known[place]: number for number, place in enumerate(order.tolist())}
        if new:
            pack, order = self._reader.of_titles([extra[article] for article in new], self._tokenizer)
            packs.append(pack)
            places |= {new[place]: len(known) + number for number, place in enumerate(order.tolist())}
        device = next(self._model.parameters()).device
        found = torch.tensor([places[article] for article in ids], dtype=torch.long)
        return tuple(pack.to(device) for pack in packs), found

    def _now(self, candidates: Sequence[str], extra: Mapping[str, str]) -> torch.Tensor | None:
        """Return the candidates' context at the end of the data; a new article has neither age nor clicks."""
        if not self._recipe.click.context:
            return None
        rows = np.array([self._store.article_rows.get(article, UNKNOWN) for article in candidates])
        times = np.full(len(rows), self._end)
        context = self._context.of(rows, times)
        context[[article in extra for article in candidates]] = 0
        return torch.from_numpy(context)[None].to(next(self._model.parameters()).device)


def _require_some(top: int) -> None:
    """Refuse to return nothing."""
    if top < 1:
        raise ArgumentError("top", f"{top} is less than one; ask for at least 1 article")


def _last_labelled(store: Store) -> str:
    """Return the last split with clicks; the one without where there is no other."""
    names = ("test", "validation", "train", "unlabelled")
    return next(name for name in names if store.manifest["splits"].get(name))


def _last_of_each(
    reader: Int[np.ndarray, " impressions"], time: Int[np.ndarray, " impressions"]
) -> Int[np.ndarray, " readers"]:
    """Return where the last impression of each reader stands."""
    order = np.lexsort((time, reader))
    ends = np.append(np.diff(reader[order]) != 0, True)
    return np.sort(order[ends])


def _without_read(
    scores: Float[np.ndarray, "readers articles"],
    live: Int[np.ndarray, " articles"],
    store: Store,
    asked: Impressions,
) -> Float[np.ndarray, "readers articles"]:
    """Give the articles of a reader's history no chance."""
    clicks, counts = store.histories(asked.history, np.iinfo(np.int32).max)
    reader = np.repeat(np.arange(len(asked)), counts)
    place = np.minimum(np.searchsorted(live, clicks), len(live) - 1)
    known = live[place] == clicks
    scores[reader[known], place[known]] = -np.inf
    return scores
