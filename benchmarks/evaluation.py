"""Evaluating a split from vectors encoded once, against encoding each impression anew."""

import time

import numpy as np
import torch

from benchmarks.encoding import _padded
from benchmarks.measure import Ratio
from benchmarks.synthetic import store
from counterpoint import api
from counterpoint.encoders.loading import locate
from counterpoint.news.evaluate import evaluate
from counterpoint.news.models.building import fresh
from counterpoint.news.recipe import NewsRecipe

ARTICLES, IMPRESSIONS, SAMPLE = 4_242, 7_315, 12  # a tenth of MIND-small's dev set, with its ratio
DAYS, TRAINING_DAYS = 6, 4


def run() -> list[Ratio]:
    """Return the ratio; the baseline is timed on a sample of impressions and scaled up."""
    from transformers import AutoModel

    recipe = api.read_recipe("bert")
    assert isinstance(recipe, NewsRecipe)
    data = store(ARTICLES, IMPRESSIONS * DAYS // TRAINING_DAYS)
    model = fresh(recipe, data).eval()
    start = time.perf_counter()
    evaluated = len(evaluate(model, recipe, data, "train", with_floors=False).ranking.per_impression["auc"])
    once = time.perf_counter() - start
    plain = AutoModel.from_pretrained(locate("minilm")).eval()
    shown = data.impressions(data.split("train")[:SAMPLE])
    start = time.perf_counter()
    for number in range(SAMPLE):
        history, _ = data.histories(shown.history[number : number + 1], 50)
        candidates = shown.candidates[shown.offsets[number] : shown.offsets[number + 1]]
        rows, mask = _padded(data, np.concatenate((history, candidates)))
        with torch.inference_mode():
            plain(input_ids=rows, attention_mask=mask)
    anew = (time.perf_counter() - start) / SAMPLE * evaluated
    return [Ratio("evaluation, articles and readers once", "encoding each impression anew", anew / once, 300)]
