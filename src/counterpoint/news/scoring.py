"""Scoring without gradients: every article encoded once, every reader once, then products."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from counterpoint.news.context import Context
from counterpoint.news.data.store import Impressions, Store
from counterpoint.news.features import ArticleFeatures, FeatureReader, padded
from counterpoint.news.models.readers import Known
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.models.vocabulary import reader_keys
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks import TASKS
from counterpoint.news.tasks.protocol import View
from counterpoint.progress import Progress, silent
from counterpoint.storage.arrays import ranges

_ARTICLES, _READERS, _CANDIDATES = 256, 1024, 1 << 15


@dataclass(frozen=True)
class ArticleIndex:
    """Some articles of a store, encoded.

    Attributes:
        place: where each of the store's articles stands in the other arrays; -1 if it was not encoded.
        articles: the rows that were encoded.
        known: what readers and candidates are made of.
        predictions: of the tasks on titles, title after title in the order of ``articles``.
    """

    place: Int[np.ndarray, " store"]
    articles: Int[np.ndarray, " articles"]
    known: Known
    predictions: dict[str, Shaped[np.ndarray, " predictions"]]


def features_of(model: Recommender, recipe: NewsRecipe, store: Store) -> FeatureReader:
    """Return what reads a store's articles for a model."""
    return FeatureReader(store, recipe, model.vocabulary.labels.get("article", ()))


def context_of(recipe: NewsRecipe, store: Store, split: str) -> Context:
    """Return age and recent clicks at the impressions of a split, from it and the splits before it."""
    known = (*store.splits_before(split), split) if recipe.click.context else ()
    return Context(store, known, recipe.click.context, recipe.click.clicks_hours)


def articles_of(store: Store, shown: Impressions, recipe: NewsRecipe) -> Int[np.ndarray, " articles"]:
    """Return the distinct articles that scoring needs."""
    history, _ = store.histories(np.unique(shown.history), recipe.data.max_history)
    return np.unique(np.concatenate((shown.candidates, history)))


@torch.inference_mode()
def encode_articles(
    model: Recommender,
    features: FeatureReader,
    articles: Int[np.ndarray, " articles"],
    progress: Progress = silent,
) -> ArticleIndex:
    """Return the distinct ``articles`` encoded, shortest titles first."""
    device = next(model.parameters()).device
    articles, place = placed(articles, features)
    vectors: list[Tensor] = []
    packs: list[ArticleFeatures] = []
    predictions: dict[str, list[np.ndarray]] = {}
    nobody = torch.empty((0, 0), device=device)
    for start in range(0, len(articles), _ARTICLES):
        pack = features.read(articles[start : start + _ARTICLES]).to(device)
        encoded = model.articles(pack)
        vectors.append(encoded.articles)
        packs.append(ArticleFeatures(len(pack), {}, pack.numbers))
        view = View(
            encoded.states, encoded.titles, pack.title_lengths(), encoded.articles, nobody, nobody.long()
        )
        for name, head in model.heads.items():
            if not TASKS[name].of_histories:
                predictions.setdefault(name, []).append(TASKS[name].predict(head, view))
        progress("encoding articles", min(start + _ARTICLES, len(articles)), len(articles))
    known = model.known(model.score.articles(torch.cat(vectors)), tuple(packs))
    told = {name: np.concatenate(parts) for name, parts in predictions.items()}
    return ArticleIndex(place, articles, known, told)


@torch.inference_mode()
def score_impressions(
    model: Recommender,
    index: ArticleIndex,
    store: Store,
    shown: Impressions,
    max_history: int,
    context: Context | None = None,
    progress: Progress = silent,
) -> Float[np.ndarray, " candidates"]:
    """Return the float32 score of every candidate; ``context`` is needed where the model was given one."""
    every, count = reader_keys(store), len(store.reader_keys()) if len(model.readers_met) else 1
    # A reader is a history, and a person too where the model knows persons.
    person = shown.reader.astype(np.int64) % count
    distinct, reader_of = np.unique(shown.history.astype(np.int64) * count + person, return_inverse=True)
    order = np.argsort(reader_of, kind="stable")
    in_order = reader_of[order]
    device = index.known.vectors.device
    sizes = np.diff(shown.offsets)
    scores = np.empty(len(shown.candidates), dtype=np.float32)
    first = 0
    for start in range(0, len(distinct), _READERS):
        rows, persons = np.divmod(distinct[start : start + _READERS], count)
        history = _history(index, store, rows, max_history)
        readers = model.read(index.known, history, torch.from_numpy(every[persons]).to(device))
        last = int(np.searchsorted(in_order, start + len(rows)))
        for block in _blocks(order[first:last], sizes):
            place = ranges(shown.offsets[block], sizes[block])
            reader = torch.from_numpy(np.repeat(reader_of[block] - start, sizes[block])).to(device)
            article = torch.from_numpy(index.place[shown.candidates[place]]).to(device)
            told = None
            if context is not None and len(context):
                times = np.repeat(shown.time[block], sizes[block])
                told = torch.from_numpy(context.of(shown.candidates[place], times)).to(device)
            scores[place] = model.match_pairs(index.known, readers, reader, article, told).cpu().numpy()
        first = last
        progress("scoring readers", min(start + _READERS, len(distinct)), len(distinct))
    return scores


@torch.inference_mode()
def predict_histories(
    model: Recommender,
    index: ArticleIndex,
    store: Store,
    histories: Int[np.ndarray, " histories"],
    max_history: int,
) -> dict[str, Float[np.ndarray, " clicks"]]:
    """Return what the tasks on histories say of every click, one history after another."""
    names = [name for name in model.heads if TASKS[name].of_histories]
    told: dict[str, list[np.ndarray]] = {name: [] for name in names}
    nothing = index.known.vectors.new_empty(0, 0)
    for start in range(0, len(histories) if names else 0, _READERS):
        history = _history(index, store, histories[start : start + _READERS], max_history)
        strangers = torch.zeros(len(history), dtype=torch.long, device=history.device)
        readers = model.read(index.known, history, strangers)
        view = View(nothing, nothing, (), index.known.vectors, readers.vectors, history)
        for name in names:
            told[name].append(TASKS[name].predict(model.heads[name], view))
    return {name: np.concatenate(parts) for name, parts in told.items() if parts}


def placed(
    articles: Int[np.ndarray, " articles"], features: FeatureReader
) -> tuple[Int[np.ndarray, " distinct"], Int[np.ndarray, " store"]]:
    """Return the distinct articles, shortest titles first, and where each of the store's stands."""
    lengths = features.lengths()
    distinct = np.unique(articles)
    distinct = distinct[np.argsort(lengths[distinct], kind="stable")]
    place = np.full(len(lengths), -1, dtype=np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place


def _history(
    index: ArticleIndex, store: Store, rows: Int[np.ndarray, " histories"], max_history: int
) -> Int[Tensor, "histories places"]:
    """Return the histories as padded places in the index."""
    articles, lengths = store.histories(rows, max_history)
    return torch.from_numpy(padded(index.place[articles], lengths)).to(index.known.vectors.device)


def _blocks(
    rows: Int[np.ndarray, " rows"], sizes: Int[np.ndarray, " impressions"]
) -> Sequence[Int[np.ndarray, " block"]]:
    """Return the rows in blocks of about as many candidates as are scored at once."""
    if not len(rows):
        return []
    ends = np.cumsum(sizes[rows]) // _CANDIDATES
    return np.split(rows, np.flatnonzero(np.diff(ends)) + 1)
