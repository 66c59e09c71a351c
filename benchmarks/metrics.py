"""Ranking metrics of MIND-small's dev set, against scikit-learn impression by impression."""

import time

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.measure import Ratio
from counterpoint.metrics.impressions import impression_metrics, ranks

IMPRESSIONS, SAMPLE = 73_152, 2_000


def run() -> list[Ratio]:
    """Return the ratio; the loop is timed on a sample and scaled up."""
    draw = np.random.default_rng(0)
    sizes = np.clip(draw.geometric(1 / 37, IMPRESSIONS) + 1, 2, 300)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    scores = draw.normal(size=offsets[-1]).round(3).astype(np.float32)
    clicked = np.zeros(offsets[-1], dtype=bool)
    clicked[offsets[:-1] + draw.integers(0, sizes)] = True
    start = time.perf_counter()
    impression_metrics(ranks(scores, offsets), clicked, offsets)
    once = time.perf_counter() - start
    start = time.perf_counter()
    for number in range(SAMPLE):
        place = slice(offsets[number], offsets[number + 1])
        _one(clicked[place].astype(int), scores[place])
    loop = (time.perf_counter() - start) / SAMPLE * IMPRESSIONS
    return [Ratio("metrics of 73,152 impressions, ties included", "a scikit-learn loop", loop / once, 130)]


def _one(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float, float, float]:
    order = np.argsort(scores)[::-1]
    ranked = labels[order]
    places = np.arange(1, len(labels) + 1)
    reciprocal = float((ranked / places).sum() / ranked.sum())

    def gain(relevant: np.ndarray, depth: int) -> float:
        return float(((2 ** relevant[:depth] - 1) / np.log2(places[:depth] + 1)).sum())

    best = np.sort(labels)[::-1]
    return (
        float(roc_auc_score(labels, scores)),
        reciprocal,
        gain(ranked, 5) / gain(best, 5),
        gain(ranked, 10) / gain(best, 10),
    )
