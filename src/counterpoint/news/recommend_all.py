"""The batch form of recommending: the best articles for every reader of a split."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from counterpoint.errors import UsageError
from counterpoint.news.data.store import Impressions, Store
from counterpoint.news.evaluate import context_of, features_of
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.scoring import encode_articles, score_impressions
from counterpoint.progress import Progress, silent

_CELLS = 1 << 22  # readers × articles scored at once


def recommend_all(
    model: Recommender,
    recipe: NewsRecipe,
    store: Store,
    split: str,
    *,
    top: int = 10,
    progress: Progress = silent,
) -> Iterator[pl.DataFrame]:
    """Yield the ``top`` articles of the data's last day for each reader of a split, some readers at a time.

    A store does not keep the readers' ids, so each is named by its last impression in the split, whose
    history is the reader's. Articles of that history are left out.

    Yields:
        Tables with the columns impression, rank (from 1), article and score, the best article first.
    """
    live = np.sort(store.shown_on_last_day())
    if not len(live) or top < 1:
        raise UsageError(f"{store.path}: there is nothing to rank on its last day with a --top of {top}.")
    shown = store.impressions(store.split(split))
    last = _last_of_each(shown.reader, shown.time)
    everything, _ = store.histories(np.unique(shown.history[last]), recipe.data.max_history)
    needed = np.unique(np.concatenate((live, everything)))
    index = encode_articles(model, store, features_of(model, recipe, store), needed, progress)
    context = context_of(recipe, store, split)
    now = int(shown.time.max()) + 1
    articles = store.articles["article"]
    block = max(1, _CELLS // len(live))
    for start in range(0, len(last), block):
        rows = last[start : start + block]
        asked = Impressions(
            rows=shown.rows[rows],
            offsets=np.arange(len(rows) + 1) * len(live),
            candidates=np.tile(live, len(rows)),
            clicked=np.full(len(rows) * len(live), -1, dtype=np.int8),
            history=shown.history[rows],
            time=np.full(len(rows), now),
            reader=shown.reader[rows],
        )
        scores = score_impressions(model, index, store, asked, recipe.data.max_history, context)
        best, values = _best(_without_read(scores.reshape(len(rows), -1), live, store, asked), top)
        kept = np.isfinite(values)
        names = np.repeat(np.array(store.impression_ids(asked.rows)), kept.sum(axis=1))
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


def _best(
    scores: Float[np.ndarray, "readers articles"], top: int
) -> tuple[Int[np.ndarray, "readers top"], Float[np.ndarray, "readers top"]]:
    """Return the places of the best scores of each row, the best first, and these scores."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return best, np.take_along_axis(scores, best, axis=1)
