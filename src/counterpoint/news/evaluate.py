"""Evaluation by impression: metrics, floors on the same impressions, slices and counts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from counterpoint.errors import UsageError
from counterpoint.evaluation import floors
from counterpoint.evaluation.impressions import METRICS, Ranking, impression_metrics, ranks
from counterpoint.evaluation.significance import paired_bootstrap
from counterpoint.evaluation.tables import OPTIMUM, Evaluation, floor_warnings
from counterpoint.news.data.store import UNKNOWN, Impressions, Store
from counterpoint.news.models.recommender import Recommender, untrained
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.scoring import ArticleIndex, content_scores, encode_articles, score_impressions
from counterpoint.progress import Progress, silent
from counterpoint.tasks.classification import accuracy
from counterpoint.tasks.tagging import entity_f1, untyped

_SMALLEST_SLICE = 10
_CATEGORIES_SHOWN = 8


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
    with_floors: bool = True,
    progress: Progress = silent,
) -> Outcome:
    """Rank a split's candidates and score the ranks; beside them the floors.

    Args:
        model: the recommender; its mode is restored afterwards.
        recipe: it was trained with.
        store: prepared for its tokenizer.
        split: the split.
        with_floors: compute floors, slices and intervals too; validation while training needs none.
        progress: told how many articles are encoded.

    Raises:
        CounterpointError: no such split, or scores that are not finite.
    """
    shown = store.impressions(store.split(split))
    training = model.training
    model.eval()
    index = encode_articles(model, store, _articles(store, shown, recipe), progress)
    scores = score_impressions(model, index, store, shown, recipe.data.max_history)
    model.train(training)
    ranked = ranks(scores, shown.offsets)
    ranking = impression_metrics(ranked, shown.clicked == 1, shown.offsets)
    metrics = {**ranking.metrics, **_auxiliary(index, recipe, store, shown)}
    record: Evaluation = {"split": split, "metrics": _told(metrics)}
    rivals: dict[str, Ranking] = {}
    if with_floors:
        earlier = _earlier(store, split)
        record["intervals"] = _intervals(ranking)
        base, missing = _untrained(recipe)
        rivals = _floors(base, recipe, store, shown, earlier, progress)
        record["floors"] = {name: _told(rival.metrics) for name, rival in rivals.items()}
        record["slices"] = _slices(ranking, store, shown, earlier[:1])
        record["counts"] = {
            "impressions": len(shown),
            "scored": ranking.scored,
            "skipped (no click, or only clicks)": ranking.skipped,
            "candidates": len(shown.candidates),
            "candidates without an article": int((shown.candidates == UNKNOWN).sum()),
            "tied candidates": _ties(scores, shown),
        }
        record["warnings"] = [*floor_warnings(record), *missing]
    return Outcome(record, ranking, ranked, rivals)


def _articles(store: Store, shown: Impressions, recipe: NewsRecipe) -> Int[np.ndarray, " articles"]:
    """Return the distinct articles that scoring needs."""
    history, _ = store.histories(np.unique(shown.history), recipe.data.max_history)
    return np.unique(np.concatenate((shown.candidates, history)))


def _auxiliary(index: ArticleIndex, recipe: NewsRecipe, store: Store, shown: Impressions) -> dict[str, float]:
    """Return how well the auxiliary tasks do on the split's candidates."""
    candidates = np.isin(index.articles, shown.candidates)
    metrics: dict[str, float] = {}
    if index.categories is not None:
        labels = store.labels_of(recipe.category.field)[index.articles]
        metrics["category/accuracy"] = accuracy(index.categories[candidates], labels[candidates])
    if index.tags is not None:
        _, tags, lengths = store.titles(index.articles)
        chosen = np.repeat(candidates, lengths)
        truth = tags if recipe.entities.scheme == "bio-typed" else untyped(tags)
        metrics["entities/f1"] = entity_f1(index.tags[chosen], truth[chosen])
    return metrics


def _earlier(store: Store, split: str) -> list[floors.Shown]:
    """Return the labelled impressions that came before a split: training first."""
    before = {"train": (), "validation": ("train",)}.get(split, ("train", "validation"))
    known = [name for name in before if store.manifest["splits"].get(name)]
    return [_shown(store.impressions(store.split(name))) for name in known]


def _shown(impressions: Impressions) -> floors.Shown:
    return floors.Shown(
        impressions.candidates, impressions.offsets, impressions.time, impressions.clicked == 1
    )


def _untrained(recipe: NewsRecipe) -> tuple[Recommender | None, list[str]]:
    """Return the model before training, or why there is none: a run may be evaluated far from its encoder."""
    try:
        return untrained(recipe).eval(), []
    except UsageError as error:
        return None, [f"The content floor is left out: {error}"]


def _floors(
    base: Recommender | None,
    recipe: NewsRecipe,
    store: Store,
    shown: Impressions,
    earlier: list[floors.Shown],
    progress: Progress,
) -> dict[str, Ranking]:
    """Return the ranking of every floor, and of the true probabilities where they are known."""
    now = _shown(shown)
    published = store.articles["published"]
    born = (
        None
        if published.null_count() == len(published)
        else published.dt.epoch("us").fill_null(floors.UNKNOWN_TIME).to_numpy()
    )
    scores = {
        "random": floors.random_scores(len(shown.candidates)),
        "popularity": floors.popularity(now, earlier),
        "recency": floors.recency(now, earlier, published=born),
    }
    if base is not None:
        index = encode_articles(base, store, _articles(store, shown, recipe), progress)
        scores["content"] = content_scores(index, store, shown, recipe.data.max_history)
    truth = store.truth(shown.rows)
    if truth is not None:
        scores[OPTIMUM] = truth
    return {
        name: impression_metrics(ranks(values, shown.offsets), shown.clicked == 1, shown.offsets)
        for name, values in scores.items()
    }


def _intervals(ranking: Ranking) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap interval of each metric."""
    if not ranking.scored:
        return {}
    intervals = {}
    for metric in METRICS:
        values = ranking.per_impression[metric]
        interval = paired_bootstrap(values, np.zeros_like(values), resamples=1000)
        intervals[metric] = (interval.low, interval.high)
    return intervals


def _slices(
    ranking: Ranking, store: Store, shown: Impressions, training: list[floors.Shown]
) -> dict[str, dict[str, float | None]]:
    """Return the metrics for cold readers, for clicks on articles unseen in training, and by category."""
    _, clicks = store.histories(shown.history, 1)
    impression = np.repeat(np.arange(len(shown)), np.diff(shown.offsets))[shown.clicked == 1]
    clicked = shown.candidates[shown.clicked == 1]
    seen = np.zeros(len(store.title_lengths()), dtype=bool)
    for part in training:
        seen[part.articles] = True
        history, _ = store.histories(np.unique(store.impressions(store.split("train")).history), 1 << 30)
        seen[history] = True
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
    slices: dict[str, dict[str, float | None]] = {}
    for name, inside in chosen.items():
        sliced = ranking.of(inside)
        if sliced.scored >= _SMALLEST_SLICE:
            slices[name] = {"impressions": sliced.scored, **sliced.metrics}
    return slices


def _told(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as files hold them: nothing where there was nothing to measure."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def _ties(scores: Float[np.ndarray, " candidates"], shown: Impressions) -> int:
    """Return how many candidates share their score with another of the same impression."""
    impression = np.repeat(np.arange(len(shown)), np.diff(shown.offsets))
    order = np.lexsort((scores, impression))
    same = (np.diff(scores[order]) == 0) & (np.diff(impression[order]) == 0)
    return int((np.append(same, False) | np.append(False, same)).sum())
