"""What stands beside a model on the very same impressions: floors, and what they would put before readers."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from counterpoint.errors import CounterpointError
from counterpoint.metrics.impressions import ranks
from counterpoint.metrics.tables import OPTIMUM
from counterpoint.news import baselines as floors
from counterpoint.news.data.store import Impressions, Store
from counterpoint.news.editorial import clicked_ranks, editorial
from counterpoint.news.features import FeatureReader
from counterpoint.news.models.building import untrained_titles
from counterpoint.news.models.words import tokenizer_of
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.scoring import Contents, content_scores, encode_contents
from counterpoint.progress import Progress
from counterpoint.storage.arrays import ranges

RECENT_HOURS = 24
"""How far the floor of recent clicks looks back."""

_MOST_LISTS = 100_000
"""Impressions that editorial measures are taken on, evenly spread over the split."""


def splits_before(store: Store, split: str) -> list[str]:
    """Return the labelled splits that came before one."""
    before = {"train": (), "validation": ("train",)}.get(split, ("train", "validation"))
    if split == "unlabelled":
        before = ("train", "validation", "test")
    return [name for name in before if store.manifest["splits"].get(name)]


def earlier_impressions(store: Store, split: str) -> list[floors.Shown]:
    """Return the labelled impressions that came before a split: training first."""
    return [_shown(store.impressions(store.split(name))) for name in splits_before(store, split)]


def _shown(impressions: Impressions) -> floors.Shown:
    return floors.Shown(
        impressions.candidates, impressions.offsets, impressions.time, impressions.clicked == 1
    )


def untrained_contents(
    recipe: NewsRecipe, store: Store, articles: Int[np.ndarray, " articles"], progress: Progress
) -> tuple[Contents | None, list[str]]:
    """Return articles before training, or why there are none: a run may be evaluated far from its encoder."""
    if not store.manifest.get("text", True):
        return None, []
    try:
        tokenizer, titles = tokenizer_of(recipe.encoder), untrained_titles(recipe)
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


def floor_ranks(
    recipe: NewsRecipe,
    store: Store,
    shown: Impressions,
    earlier: list[floors.Shown],
    contents: Contents | None,
) -> dict[str, Int[np.ndarray, " candidates"]]:
    """Return the ranks of every floor, and of the true probabilities where they are known."""
    now = _shown(shown)
    scores = {
        "random": floors.random_scores(len(shown.candidates)),
        "popularity": floors.popularity(now, earlier),
        f"popularity, {RECENT_HOURS} h": floors.popularity(now, earlier, hours=RECENT_HOURS),
        "recency": floors.recency(now, earlier, published=store.published()),
    }
    if contents is not None:
        scores["content"] = content_scores(contents, store, shown, recipe.data.max_history)
    truth = store.truth(shown.rows)
    if truth is not None:
        scores[OPTIMUM] = truth
    return {name: ranks(values, shown.offsets) for name, values in scores.items()}


def editorial_measures(
    rankings: Mapping[str, Int[np.ndarray, " candidates"]],
    store: Store,
    shown: Impressions,
    recipe: NewsRecipe,
    earlier: list[floors.Shown],
    contents: Contents | None,
) -> dict[str, dict[str, float]]:
    """Return what each ranking would put before the readers, and what they clicked.

    Diversity is measured between titles before training, the same for every model; without titles, between
    categories; without either it is left out. A large split is measured on impressions spread evenly over it.
    """
    chosen = np.unique(np.linspace(0, len(shown) - 1, min(len(shown), _MOST_LISTS)).round().astype(np.int64))
    sizes = np.diff(shown.offsets)[chosen]
    places = ranges(shown.offsets[chosen], sizes)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    candidates = shown.candidates[places]
    history, lengths = store.histories(shown.history[chosen], recipe.data.max_history)
    every = np.unique(np.concatenate((candidates, history)))
    clicks = np.zeros(len(store.articles), dtype=np.int64)
    for part in earlier:
        np.add.at(clicks, part.articles[part.clicked], 1)
    labels = {
        field: np.maximum(np.asarray(store.labels_of(field)[every]), -1)
        for field in ("category", "sentiment")
    }
    vectors = (
        np.eye(labels["category"].max() + 2)[labels["category"]]
        if contents is None
        else contents.vectors[contents.place[every]].numpy()
    )
    clicked = clicked_ranks(shown.clicked[places] == 1, offsets)
    measured = {
        name: editorial(
            values,
            offsets,
            np.searchsorted(every, candidates),
            vectors=vectors,
            clicks_before=clicks[every],
            histories=(np.searchsorted(every, history), lengths),
            categories=labels["category"] if (labels["category"] >= 0).any() else None,
            sentiments=labels["sentiment"] if (labels["sentiment"] >= 0).any() else None,
        )
        for name, values in {
            **{name: ranked[places] for name, ranked in rankings.items()},
            "clicks": clicked,
        }.items()
    }
    if contents is None and not (labels["category"] >= 0).any():
        return {
            name: {measure: value for measure, value in found.items() if not measure.startswith("diversity")}
            for name, found in measured.items()
        }
    return measured
