"""What a ranking puts before its readers: diverse or alike, new or known, true to their interests or not.

All of it is measured on the first k candidates of each impression, from the ranks that are submitted. None of
it is better the higher: it stands beside the floors and beside what was clicked.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from counterpoint.news.baselines import Contents, Shown
from counterpoint.news.data.store import Impressions, Store
from counterpoint.news.recipe import NewsRecipe
from counterpoint.progress import Progress, silent
from counterpoint.storage.arrays import ranges

MOST_LISTS = 100_000
"""Impressions that the measures are taken on, evenly spread over the split."""

_BLOCK = 1 << 22  # numbers held at once for a block of impressions
_SMOOTHING = 0.01  # Steck's α
_NONE = -1


def editorial_measures(
    rankings: Mapping[str, Int[np.ndarray, " candidates"]],
    store: Store,
    shown: Impressions,
    recipe: NewsRecipe,
    earlier: Sequence[Shown],
    contents: Contents | None,
    progress: Progress = silent,
) -> dict[str, dict[str, float]]:
    """Return what each ranking would put before the readers, and what they clicked.

    Diversity is measured between titles before training, the same for every model; without titles, between
    categories; without either it is left out. A large split is measured on impressions spread evenly over it.
    """
    chosen = np.unique(np.linspace(0, len(shown) - 1, min(len(shown), MOST_LISTS)).round().astype(np.int64))
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
    lists = {name: ranked[places] for name, ranked in rankings.items()} | {"clicks": clicked}
    measured = {}
    for number, (name, ranked) in enumerate(lists.items(), 1):
        measured[name] = editorial(
            ranked,
            offsets,
            np.searchsorted(every, candidates),
            vectors=vectors,
            clicks_before=clicks[every],
            histories=(np.searchsorted(every, history), lengths),
            categories=labels["category"] if (labels["category"] >= 0).any() else None,
            sentiments=labels["sentiment"] if (labels["sentiment"] >= 0).any() else None,
        )
        progress("editorial measures", number, len(lists))
    if contents is None and not (labels["category"] >= 0).any():
        return {
            name: {measure: value for measure, value in found.items() if not measure.startswith("diversity")}
            for name, found in measured.items()
        }
    return measured


def editorial(
    ranks: Int[np.ndarray, " candidates"],
    offsets: Int[np.ndarray, " impressions+1"],
    candidates: Int[np.ndarray, " candidates"],
    *,
    vectors: Float[np.ndarray, "articles size"],
    clicks_before: Int[np.ndarray, " articles"],
    histories: tuple[Int[np.ndarray, " clicks"], Int[np.ndarray, " impressions"]],
    categories: Int[np.ndarray, " articles"] | None = None,
    sentiments: Int[np.ndarray, " articles"] | None = None,
    k: Sequence[int] = (5, 10),
) -> dict[str, float]:
    """Return the editorial measures of a ranking at each depth, NaN where there was nothing to measure.

    With the articles of an impression's first k as its list, and means taken over impressions::

        diversity@k        mean over the list's pairs of 1 − cosine of their vectors; lists of fewer than two
                           articles are left out
        novelty@k          mean over the list of −log₂ ((c + 1) / (C + A)): c clicks on the article, C on all,
                           A articles; an article without clicks counts as if it had one
        coverage@k         share of the split's distinct candidates that are in any list
        exposure gini@k    Σᵢ (2 i − n − 1) xᵢ / (n Σ x) for the n distinct candidates' numbers of lists
                           x₁ ≤ … ≤ xₙ: 0 where all are shown alike, near 1 where one takes all
        … calibration@k    Σ_g p(g) ln (p(g) / q̃(g)), q̃ = 0.99 q + 0.01 p, of the shares p of the history's
                           classes and q of the list's (Steck, RecSys 2018, eqs. 6 and 7): 0 where the list is
                           as the history; impressions where either has no known class are left out, and
                           counted as ``… calibration@k left out``

    Time and memory are linear in the candidates; impressions are worked on in blocks.

    Args:
        ranks: of every candidate within its impression, 1 the best; ranks above k are not looked at.
        offsets: the first candidate of every impression, and their total at the end.
        candidates: the candidates' row numbers in the table of articles.
        vectors: of every article.
        clicks_before: clicks on every article before the split began.
        histories: the histories' articles, one impression after another, and how many each has.
        categories: the class of every article, −1 where unknown.
        sentiments: likewise.
        k: the depths.

    Raises:
        ValueError: the arrays do not fit each other.
    """
    clicks, lengths = histories
    if not len(ranks) == len(candidates) == offsets[-1] or len(clicks) != lengths.sum():
        raise ValueError(
            f"{len(ranks)} ranks, {len(candidates)} candidates and offsets up to {offsets[-1]}; "
            f"{len(clicks)} clicks in histories of {lengths.sum()} together."
        )
    classes = {"category": categories, "sentiment": sentiments}
    measures: dict[str, float] = {}
    for depth in k:
        lists = _lists(ranks, offsets, candidates, depth)
        measures[f"diversity@{depth}"] = _mean(_diversity(lists, vectors))
        measures[f"novelty@{depth}"] = _novelty(lists, clicks_before)
        measures[f"coverage@{depth}"], measures[f"exposure gini@{depth}"] = _exposure(lists, candidates)
        for name, labels in classes.items():
            if labels is not None:
                divergence = _calibration(lists, labels, clicks, lengths)
                measures[f"{name} calibration@{depth}"] = _mean(divergence)
                measures[f"{name} calibration@{depth} left out"] = float(np.isnan(divergence).sum())
    return measures


def clicked_ranks(
    clicked: Bool[np.ndarray, " candidates"], offsets: Int[np.ndarray, " impressions+1"]
) -> Int[np.ndarray, " candidates"]:
    """Return ranks whose lists are the clicked candidates alone, in the order in which they stand."""
    so_far = np.concatenate([[0], np.cumsum(clicked)])
    places = so_far[1:] - np.repeat(so_far[offsets[:-1]], np.diff(offsets))
    return np.where(clicked, places, np.iinfo(np.int64).max)


def _lists(
    ranks: Int[np.ndarray, " candidates"],
    offsets: Int[np.ndarray, " impressions+1"],
    candidates: Int[np.ndarray, " candidates"],
    depth: int,
) -> Int[np.ndarray, "impressions depth"]:
    """Return the articles at ranks 1 … depth of each impression, −1 where it has no more."""
    shown = np.flatnonzero(ranks <= depth)
    lists = np.full((len(offsets) - 1, depth), _NONE, dtype=np.int64)
    lists[np.searchsorted(offsets, shown, side="right") - 1, ranks[shown] - 1] = candidates[shown]
    return lists


def _diversity(
    lists: Int[np.ndarray, "impressions depth"], vectors: Float[np.ndarray, "articles size"]
) -> Float[np.ndarray, " impressions"]:
    """Return the mean distance of each list's pairs.

    For vectors of length 1, Σ_{i ≠ j} cos(vᵢ, vⱼ) = ‖Σ vᵢ‖² − Σ ‖vᵢ‖², so no pair need be formed; a vector
    of zeros is at distance 1 from all.
    """
    diversity = np.full(len(lists), np.nan)
    for block in _blocks(len(lists), lists.shape[1] * vectors.shape[1]):
        picked = lists[block]
        unit = np.where((picked != _NONE)[:, :, None], vectors[picked], 0.0).astype(np.float64)
        lengths = np.linalg.norm(unit, axis=2, keepdims=True)
        unit /= np.where(lengths > 0, lengths, 1.0)
        alike = np.square(unit.sum(axis=1)).sum(axis=1) - np.square(unit).sum(axis=(1, 2))
        count = (picked != _NONE).sum(axis=1)
        pairs = count * (count - 1)
        diversity[block] = np.where(pairs > 0, 1 - alike / np.maximum(pairs, 1), np.nan)
    return diversity


def _novelty(lists: Int[np.ndarray, "impressions depth"], clicks: Int[np.ndarray, " articles"]) -> float:
    """Return the mean over impressions of the list's mean surprise."""
    surprise = np.log2(clicks.sum() + len(clicks)) - np.log2(clicks + 1.0)
    known = lists != _NONE
    total = np.where(known, surprise[lists], 0.0).sum(axis=1)
    count = known.sum(axis=1)
    return _mean(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _exposure(
    lists: Int[np.ndarray, "impressions depth"], candidates: Int[np.ndarray, " candidates"]
) -> tuple[float, float]:
    """Return the share of the candidates that are in any list, and the Gini coefficient of their lists."""
    articles = np.unique(candidates)
    listed = lists[lists != _NONE]
    if not len(listed):
        return float("nan"), float("nan")
    times = np.sort(np.bincount(np.searchsorted(articles, listed), minlength=len(articles)))
    count = len(articles)
    gini = ((2 * np.arange(1, count + 1) - count - 1) * times).sum() / (count * times.sum())
    return float((times > 0).mean()), float(gini)


def _calibration(
    lists: Int[np.ndarray, "impressions depth"],
    labels: Int[np.ndarray, " articles"],
    clicks: Int[np.ndarray, " clicks"],
    lengths: Int[np.ndarray, " impressions"],
) -> Float[np.ndarray, " impressions"]:
    """Return the divergence of each list's classes from its history's, NaN where either has none."""
    classes = int(labels.max(initial=0)) + 1
    divergence = np.full(len(lists), np.nan)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for block in _blocks(len(lists), classes):
        rows = np.arange(block.stop - block.start)
        read = clicks[ends[block.start] : ends[block.stop]]
        history = _shares(np.repeat(rows, lengths[block]), labels[read], len(rows), classes)
        picked = lists[block]
        inside = picked != _NONE
        listed = _shares(np.nonzero(inside)[0], labels[picked[inside]], len(rows), classes)
        smoothed = (1 - _SMOOTHING) * listed + _SMOOTHING * history
        # Where the history has none of a class it adds nothing, whatever the list has.
        present = np.where(history > 0, history, 1.0) / np.where(history > 0, smoothed, 1.0)
        divergence[block] = (history * np.log(present)).sum(axis=1)
    return divergence


def _shares(
    rows: Int[np.ndarray, " articles"], labels: Int[np.ndarray, " articles"], count: int, classes: int
) -> Float[np.ndarray, "rows classes"]:
    """Return the share of each class in each row, NaN all along a row without a known one."""
    known = labels >= 0
    cells = np.bincount(rows[known] * classes + labels[known], minlength=count * classes)
    counts = cells.reshape(count, classes)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.nan)


def _blocks(impressions: int, size: int) -> Iterator[slice]:
    """Yield slices of the impressions, each of which takes about ``size`` numbers, small enough to hold."""
    rows = max(1, _BLOCK // max(1, size))
    for start in range(0, impressions, rows):
        yield slice(start, min(start + rows, impressions))


def _mean(values: Float[np.ndarray, " impressions"]) -> float:
    """Return the mean of what was measured; NaN where nothing was."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
