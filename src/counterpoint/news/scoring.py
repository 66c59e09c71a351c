"""Scoring without gradients: every article encoded once, every reader once, then dot products."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.news.batches import packed, padded
from counterpoint.news.data.store import Impressions, Store
from counterpoint.news.models.recommender import Recommender
from counterpoint.progress import Progress, silent

_TITLES, _READERS, _CANDIDATES = 256, 1024, 1 << 15


@dataclass(frozen=True)
class ArticleIndex:
    """Some articles of a store, encoded.

    Attributes:
        place: where each of the store's articles stands in the other arrays; -1 if it was not encoded.
        pooled: what the encoder gave.
        vectors: what histories and candidates are made of.
        logits: attention logits.
        categories: predicted class, if the model has a category task.
        tags: predicted entity tags, title after title in the order of ``articles``, if it has that task.
        articles: the rows that were encoded.
    """

    place: Int[np.ndarray, " store"]
    articles: Int[np.ndarray, " articles"]
    pooled: Float[Tensor, "articles size"]
    vectors: Float[Tensor, "articles size"]
    logits: Float[Tensor, " articles"]
    categories: Int[np.ndarray, " articles"] | None
    tags: Int[np.ndarray, " tokens"] | None


@torch.inference_mode()
def encode_articles(
    model: Recommender, store: Store, articles: Int[np.ndarray, " articles"], progress: Progress = silent
) -> ArticleIndex:
    """Return the distinct ``articles`` encoded, shortest titles first."""
    device = next(model.parameters()).device
    articles = np.unique(articles)
    articles = articles[np.argsort(store.title_lengths()[articles], kind="stable")]
    place = np.full(len(store.title_lengths()), -1, dtype=np.int64)
    place[articles] = np.arange(len(articles))
    pooled, categories, tags = [], [], []
    for start in range(0, len(articles), _TITLES):
        titles, _ = packed(store, articles[start : start + _TITLES])
        states, vectors = model.encoder(titles.to(device))
        pooled.append(vectors)
        if model.category is not None:
            categories.append(model.category.predict(vectors).cpu().numpy())
        if model.entities is not None:
            tags.append(model.entities.predict(states).cpu().numpy())
        progress("encoding articles", min(start + _TITLES, len(articles)), len(articles))
    every = torch.cat(pooled)
    vectors = model.score.articles(every)
    return ArticleIndex(
        place,
        articles,
        every,
        vectors,
        model.reader.attention.logits(vectors),
        np.concatenate(categories) if categories else None,
        np.concatenate(tags) if tags else None,
    )


@torch.inference_mode()
def score_impressions(
    model: Recommender, index: ArticleIndex, store: Store, shown: Impressions, max_history: int
) -> Float[np.ndarray, " candidates"]:
    """Return the float32 score of every candidate."""
    histories, reader_of = np.unique(shown.history, return_inverse=True)
    readers = []
    for start in range(0, len(histories), _READERS):
        places = _history(index, store, histories[start : start + _READERS], max_history)
        vectors, _ = model.reader(index.vectors, places, index.logits)
        readers.append(model.score.readers(vectors))
    return _dots(torch.cat(readers), index.vectors, reader_of, shown, index.place)


@torch.inference_mode()
def content_scores(
    index: ArticleIndex, store: Store, shown: Impressions, max_history: int
) -> Float[np.ndarray, " candidates"]:
    """Return the cosine of the history's mean vector to each candidate, 0 without a history: a floor.

    ``index`` must come from a model whose encoder was not trained.
    """
    histories, reader_of = np.unique(shown.history, return_inverse=True)
    vectors = torch.nn.functional.normalize(index.pooled, dim=-1)
    means = []
    for start in range(0, len(histories), _READERS):
        places = _history(index, store, histories[start : start + _READERS], max_history)
        real = (places >= 0).to(vectors.dtype)
        mean = (
            torch.nn.functional.embedding_bag(
                places.clamp(min=0), index.pooled, per_sample_weights=real, mode="sum"
            )
            if places.shape[1]
            else vectors.new_zeros(len(places), vectors.shape[1])
        )
        means.append(torch.nn.functional.normalize(mean, dim=-1))
    return _dots(torch.cat(means), vectors, reader_of, shown, index.place)


def _history(
    index: ArticleIndex, store: Store, rows: Int[np.ndarray, " histories"], max_history: int
) -> Int[Tensor, "histories places"]:
    """Return the histories as padded places in the index."""
    articles, lengths = store.histories(rows, max_history)
    return torch.from_numpy(padded(index.place[articles], lengths)).to(index.vectors.device)


def _dots(
    readers: Float[Tensor, "readers size"],
    vectors: Float[Tensor, "articles size"],
    reader_of: Int[np.ndarray, " impressions"],
    shown: Impressions,
    place: Int[np.ndarray, " store"],
) -> Float[np.ndarray, " candidates"]:
    """Return the product of each candidate with its impression's reader."""
    reader = torch.from_numpy(np.repeat(reader_of, np.diff(shown.offsets)))
    article = torch.from_numpy(place[shown.candidates])
    scores = np.empty(len(article), dtype=np.float32)
    for start in range(0, len(article), _CANDIDATES):
        block = slice(start, start + _CANDIDATES)
        left, right = readers[reader[block].to(readers.device)], vectors[article[block].to(vectors.device)]
        scores[block] = torch.linalg.vecdot(left, right).cpu().numpy()
    return scores
