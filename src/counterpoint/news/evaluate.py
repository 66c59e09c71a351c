"""Evaluation by impression: metrics, and beside them floors, slices, editorial measures and counts."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from counterpoint.comparison.significance import intervals
from counterpoint.metrics.evaluated import Evaluation, floor_warnings, told
from counterpoint.metrics.impressions import Ranking, impression_metrics, ranks
from counterpoint.news.baselines import earlier_impressions, floor_ranks, untrained_contents
from counterpoint.news.data.store import UNKNOWN, Impressions, Store
from counterpoint.news.editorial import editorial_measures
from counterpoint.news.features import FeatureReader
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.models.vocabulary import seen_in_training
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.scoring import (
    ArticleIndex,
    articles_of,
    context_of,
    encode_articles,
    features_of,
    predict_histories,
    score_impressions,
)
from counterpoint.news.tasks import TASKS
from counterpoint.progress import Progress, silent

SMALLEST_SLICE = 10
_CATEGORIES_SHOWN = 8
_HOUR = 3_600_000_000
_HOURS = (("night", 0, 6), ("morning", 6, 12), ("afternoon", 12, 18), ("evening", 18, 24))


@dataclass(frozen=True)
class Outcome:
    """What came out: the record for files and tables, and what it was computed from.

    Attributes:
        record: metrics, floors, slices, counts and warnings.
        ranking: the metrics of every impression.
        ranks: of every candidate, 1 the best.
        floors: the rankings of the floors, where they were asked for.
    """

    record: Evaluation
    ranking: Ranking
    ranks: Int[np.ndarray, " candidates"]
    floors: dict[str, Ranking]


def evaluate(
    model: Recommender,
    recipe: NewsRecipe,
    store: Store,
    split: str,
    *,
    features: FeatureReader | None = None,
    with_floors: bool = True,
    progress: Progress = silent,
) -> Outcome:
    """Rank a split's candidates and score the ranks; beside them the floors.

    Args:
        model: the recommender; its mode is restored afterwards.
        recipe: it was trained with.
        store: prepared for its tokenizer.
        split: the split.
        features: reads the articles; by default what the recipe asks for.
        with_floors: compute floors, slices and intervals too; validation while training needs none.
        progress: told how many articles are encoded, readers scored, floors and measures computed.

    Raises:
        CounterpointError: no such split, or scores that are not finite.
    """
    shown = store.impressions(store.split(split))
    features = features_of(model, recipe, store) if features is None else features
    training = model.training
    model.eval()
    index = encode_articles(model, features, articles_of(store, shown, recipe), progress)
    context = context_of(recipe, store, split)
    scores = score_impressions(model, index, store, shown, recipe.data.max_history, context, progress)
    auxiliary = _auxiliary(model, index, recipe, store, shown)
    model.train(training)
    ranked = ranks(scores, shown.offsets)
    ranking = impression_metrics(ranked, shown.clicked == 1, shown.offsets)
    record: Evaluation = {
        "split": split,
        "unit": "impressions",
        "metrics": told({**ranking.metrics, **auxiliary}),
    }
    rivals: dict[str, Ranking] = {}
    if with_floors:
        earlier = earlier_impressions(store, split)
        contents, missing = untrained_contents(recipe, store, articles_of(store, shown, recipe), progress)
        others = floor_ranks(recipe, store, shown, earlier, contents, progress)
        rivals = {
            name: impression_metrics(values, shown.clicked == 1, shown.offsets)
            for name, values in others.items()
        }
        measures = editorial_measures(
            {"model": ranked, **others}, store, shown, recipe, earlier, contents, progress
        )
        record["intervals"] = intervals(ranking.per_impression)
        record["floors"] = {name: told(rival.metrics) for name, rival in rivals.items()}
        record["slices"] = _slices(ranking, store, shown, seen_in_training(store))
        record["editorial"] = {name: told(values) for name, values in measures.items()}
        record["counts"] = {
            "impressions": len(shown),
            "scored": ranking.scored,
            "skipped (no click, or only clicks)": ranking.skipped,
            "candidates": len(shown.candidates),
            "candidates without an article": int((shown.candidates == UNKNOWN).sum()),
            "tied candidates": _ties(scores, shown),
        }
        record["warnings"] = [*floor_warnings(record), *missing, *_strangers(model, store)]
    return Outcome(record, ranking, ranked, rivals)


def _slices(
    ranking: Ranking, store: Store, shown: Impressions, seen: Bool[np.ndarray, " articles"]
) -> dict[str, dict[str, float | None]]:
    """Return the metrics for cold readers, clicks on articles unseen in training, categories and hours."""
    _, clicks = store.histories(shown.history, 1)
    impression = np.repeat(np.arange(len(shown)), np.diff(shown.offsets))[shown.clicked == 1]
    clicked = shown.candidates[shown.clicked == 1]
    unseen = np.bincount(impression[~seen[clicked]], minlength=len(shown)) > 0
    chosen: dict[str, Bool[np.ndarray, " impressions"]] = {
        "cold readers": clicks == 0,
        "readers with a history": clicks > 0,
        "clicked article unseen in training": unseen,
        "clicked article seen in training": ~unseen,
    }
    names = store.labels["category"]
    labels = store.labels_of("category")[clicked]
    frequent = pl.Series(labels[labels >= 0]).value_counts(sort=True).head(_CATEGORIES_SHOWN)
    for label in frequent[:, 0]:
        inside = np.zeros(len(shown), dtype=bool)
        inside[impression[labels == label]] = True
        chosen[f"category {names[label]}"] = inside
    hour = shown.time // _HOUR % 24
    chosen |= {
        f"{name}, {first} to {last} h": (hour >= first) & (hour < last) for name, first, last in _HOURS
    }
    found: dict[str, dict[str, float | None]] = {}
    for name, inside in chosen.items():
        sliced = ranking.of(inside)
        if sliced.scored >= SMALLEST_SLICE:
            found[name] = {"impressions": sliced.scored, **sliced.metrics}
    return found


def _auxiliary(
    model: Recommender, index: ArticleIndex, recipe: NewsRecipe, store: Store, shown: Impressions
) -> dict[str, float]:
    """Return how well the auxiliary tasks do: on the split's candidates, or on its histories."""
    metrics: dict[str, float] = {}
    candidates = np.isin(index.articles, shown.candidates)
    for name, predicted in index.predictions.items():
        # A task on tokens says something of each token, the others of each title.
        each = np.ones(len(index.articles), dtype=np.int64)
        if len(predicted) != len(each):
            each = store.title_lengths()[index.articles]
        kept = predicted[np.repeat(candidates, each)]
        metrics |= TASKS[name].metrics(kept, store, recipe, index.articles[candidates])
    histories = np.unique(shown.history)
    said = predict_histories(model, index, store, histories, recipe.data.max_history)
    for name, predicted in said.items():
        metrics |= TASKS[name].metrics(predicted, store, recipe, histories)
    return metrics


def _strangers(model: Recommender, store: Store) -> list[str]:
    """Return a sentence for each kind of name that the model does not know."""
    sentences = []
    for field, plural in (("category", "categories"), ("subcategory", "subcategories")):
        known = model.vocabulary.labels.get(field)
        here: list[str] = store.manifest["labels"].get(field, [])
        strangers = [] if known is None else [name for name in here if name not in set(known)]
        if strangers:
            sentences.append(
                f"{len(strangers)} {plural} of this data are unknown to the model ({', '.join(strangers[:5])}"
                f"{', …' if len(strangers) > 5 else ''}): their articles count as having none."
            )
    return sentences


def _ties(scores: Float[np.ndarray, " candidates"], shown: Impressions) -> int:
    """Return how many candidates share their score with another of the same impression."""
    impression = np.repeat(np.arange(len(shown)), np.diff(shown.offsets))
    order = np.lexsort((scores, impression))
    same = (np.diff(scores[order]) == 0) & (np.diff(impression[order]) == 0)
    return int((np.append(same, False) | np.append(False, same)).sum())
