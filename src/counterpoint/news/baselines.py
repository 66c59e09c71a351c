"""What any model must beat on the same impressions: chance, popularity, age, and likeness to what was read.

Each gives one score per candidate, the higher the better, to be ranked as a model's scores are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint.errors import CounterpointError
from counterpoint.metrics.evaluated import OPTIMUM
from counterpoint.metrics.impressions import ranks
from counterpoint.news.context import Clicks
from counterpoint.news.data.store import UNKNOWN_TIME, Impressions, Store
from counterpoint.news.features import FeatureReader
from counterpoint.news.models.articles import ArticleEncoder
from counterpoint.news.models.texts import tokenizer_of, untrained_titles, word_vectors
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.scoring import placed
from counterpoint.progress import Progress, silent

RECENT_HOURS = 24
"""How far the floor of recent clicks looks back."""

_HOUR = 3_600_000_000  # microseconds
_ARTICLES, _CANDIDATES = 256, 1 << 15  # worked on at once


def floor_ranks(
    recipe: NewsRecipe,
    store: Store,
    shown: Impressions,
    earlier: Sequence["Shown"],
    contents: "Contents | None",
    progress: Progress = silent,
) -> dict[str, Int[np.ndarray, " candidates"]]:
    """Return the ranks of every floor, and of the true probabilities where they are known."""
    now, truth = shown_of(shown), store.truth(shown.rows)
    floors: dict[str, Callable[[], Float[np.ndarray, " candidates"]]] = {
        "random": partial(random_scores, len(shown.candidates)),
        "popularity": partial(popularity, now, earlier),
        f"popularity, {RECENT_HOURS} h": partial(popularity, now, earlier, hours=RECENT_HOURS),
        "recency": partial(recency, now, earlier, published=store.published()),
    }
    if contents is not None:
        floors["content"] = partial(content_scores, contents, store, shown, recipe.data.max_history)
    if truth is not None:
        floors[OPTIMUM] = partial(np.asarray, truth)
    ranked = {}
    for number, (name, scores) in enumerate(floors.items(), 1):
        ranked[name] = ranks(scores(), shown.offsets)
        progress("floors", number, len(floors))
    return ranked


def earlier_impressions(store: Store, split: str) -> list["Shown"]:
    """Return the labelled impressions that came before a split: training first."""
    return [shown_of(store.impressions(store.split(name))) for name in store.splits_before(split)]


def shown_of(impressions: Impressions) -> "Shown":
    """Return a store's impressions as the floors see them."""
    return Shown(impressions.candidates, impressions.offsets, impressions.time, impressions.clicked == 1)


@dataclass(frozen=True)
class Shown:
    """What was shown, when, and what of it was clicked; flat, one impression after another.

    Attributes:
        articles: the candidates' row numbers in the table of articles.
        offsets: the first candidate of every impression, and their total at the end.
        times: when each impression was shown, in microseconds since 1970.
        clicked: whether each candidate was clicked; all false where the labels are hidden.

    Raises:
        ValueError: the arrays do not fit each other, or a row number is negative.
    """

    articles: Int[np.ndarray, " candidates"]
    offsets: Int[np.ndarray, " impressions+1"]
    times: Int[np.ndarray, " impressions"]
    clicked: Bool[np.ndarray, " candidates"]

    def __post_init__(self) -> None:
        candidates, impressions = len(self.articles), len(self.times)
        if (len(self.clicked), len(self.offsets), self.offsets[-1]) != (
            candidates,
            impressions + 1,
            candidates,
        ):
            raise ValueError(
                f"{candidates} candidates in {impressions} impressions do not fit {len(self.clicked)} labels "
                f"and {len(self.offsets)} offsets up to {self.offsets[-1]}."
            )
        if candidates and self.articles.min() < 0:
            raise ValueError("Articles are row numbers, from 0.")

    def per_candidate(self, values: Int[np.ndarray, " impressions"]) -> Int[np.ndarray, " candidates"]:
        """Repeat each impression's value for each of its candidates."""
        return np.repeat(values, np.diff(self.offsets))


def random_scores(candidates: int, *, seed: int = 0) -> Float[np.ndarray, " candidates"]:
    """Draw one score per candidate from the seed: chance."""
    return np.random.default_rng(seed).random(candidates)


def popularity(
    shown: Shown, earlier: Sequence[Shown] = (), *, hours: float | None = None
) -> Float[np.ndarray, " candidates"]:
    """Count the clicks each candidate had received before its impression.

    Clicks of ``earlier`` and of ``shown`` itself count when their time is strictly before the impression's:
    neither its own clicks nor simultaneous ones can leak into the score. Memory is linear in the number of
    candidates.

    Args:
        shown: the impressions to score.
        earlier: impressions whose clicks count too.
        hours: count a click only if it is at most so old, now − hours ≤ click < now; without it, any.

    Raises:
        ValueError: ``hours`` is not positive.
    """
    if hours is not None and not hours > 0:
        raise ValueError(f"Clicks of the last {hours} hours: give a positive number.")
    known = (*earlier, shown)
    clicks = Clicks(
        np.concatenate([part.articles[part.clicked] for part in known]),
        np.concatenate([part.per_candidate(part.times)[part.clicked] for part in known]),
    )
    now = shown.per_candidate(shown.times)
    since = None if hours is None else now - round(hours * _HOUR)
    return clicks.between(shown.articles, since, now).astype(np.float64)


def recency(
    shown: Shown, earlier: Sequence[Shown] = (), *, published: Int[np.ndarray, " articles"] | None = None
) -> Float[np.ndarray, " candidates"]:
    """Score each candidate by minus its age at its impression, in seconds: the newest first.

    An article is born when it is published or, if that is unknown or later, when it is first a candidate in
    ``earlier`` or ``shown``. As a candidate it has been shown by then, so nothing later than the impression
    enters. Labels are not used.

    Args:
        shown: the impressions to score.
        earlier: impressions that may have shown the articles before.
        published: microseconds since 1970 by row number of the article, ``UNKNOWN_TIME`` where unknown.

    Raises:
        ValueError: ``published`` does not reach as far as the row numbers.
    """
    known = (*earlier, shown)
    rows = 1 + max((int(part.articles.max()) for part in known if len(part.articles)), default=-1)
    born = np.full(rows, UNKNOWN_TIME)
    for part in known:
        np.minimum.at(born, part.articles, part.per_candidate(part.times))
    if published is not None:
        if len(published) < rows:
            raise ValueError(
                f"{len(published)} publication times, but articles up to row {rows - 1} are shown."
            )
        born = np.minimum(born, published[:rows])
    age: Int[np.ndarray, " candidates"] = shown.per_candidate(shown.times) - born[shown.articles]
    return -(age / 1e6)


@dataclass(frozen=True)
class Contents:
    """Articles by an encoder that was not trained.

    Attributes:
        place: where each of the store's articles stands among the vectors; -1 if it was not encoded.
        vectors: of the titles.
    """

    place: Int[np.ndarray, " store"]
    vectors: Float[Tensor, "articles size"]


def untrained_contents(
    recipe: NewsRecipe, store: Store, articles: Int[np.ndarray, " articles"], progress: Progress
) -> tuple[Contents | None, list[str]]:
    """Return articles before training, or why there are none: a run may be evaluated far from its encoder."""
    if not store.manifest["text"]:
        return None, []
    try:
        words = word_vectors(recipe.encoder, progress)
        tokenizer, titles = tokenizer_of(recipe.encoder, words), untrained_titles(recipe, words)
    except CounterpointError as error:
        return None, [f"The content floor is left out: {error}"]
    if tokenizer.fingerprint != store.manifest["tokenizer"]["fingerprint"]:
        return None, [
            f"The content floor is left out: {tokenizer.name} splits titles otherwise than when this data "
            "was prepared; bring the original back."
        ]
    alone = recipe.articles.model_copy(update={"fields": ("title",)})
    features = FeatureReader(store, recipe.model_copy(update={"articles": alone}))
    return encode_contents(titles, features, articles, progress), []


@torch.inference_mode()
def encode_contents(
    titles: ArticleEncoder,
    features: FeatureReader,
    articles: Int[np.ndarray, " articles"],
    progress: Progress = silent,
) -> Contents:
    """Return the distinct ``articles`` by an encoder that was not trained."""
    distinct, place = placed(articles, features)
    encoded = []
    for start in range(0, len(distinct), _ARTICLES):
        encoded.append(titles(features.read(distinct[start : start + _ARTICLES])).titles)
        progress("encoding articles untrained", min(start + _ARTICLES, len(distinct)), len(distinct))
    return Contents(place, torch.cat(encoded))


@torch.inference_mode()
def content_scores(
    contents: Contents, store: Store, shown: Impressions, max_history: int
) -> Float[np.ndarray, " candidates"]:
    """Return the cosine of the history's mean vector to each candidate, 0 without a history: a floor."""
    rows, reader_of = np.unique(shown.history, return_inverse=True)
    clicked, lengths = store.histories(rows, max_history)
    starts = torch.from_numpy(np.cumsum(lengths) - lengths)
    places = torch.from_numpy(contents.place[clicked])
    means = torch.nn.functional.embedding_bag(places, contents.vectors, starts, mode="mean")
    vectors, means = (torch.nn.functional.normalize(each, dim=-1) for each in (contents.vectors, means))
    reader = torch.from_numpy(np.repeat(reader_of, np.diff(shown.offsets)))
    article = torch.from_numpy(contents.place[shown.candidates])
    scores = np.empty(len(article), dtype=np.float32)
    for start in range(0, len(article), _CANDIDATES):
        block = slice(start, start + _CANDIDATES)
        scores[block] = torch.linalg.vecdot(means[reader[block]], vectors[article[block]]).numpy()
    return scores
