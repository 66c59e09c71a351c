"""Training parts of the encoder: frozen lower layers with their output on disk, and low-rank adapters."""

import os
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from benchmarks.measure import Ratio, ratios, threads
from benchmarks.synthetic import store
from counterpoint import api, balance
from counterpoint.news.recipe import Adapter, NewsRecipe
from counterpoint.news.workload import trainee

FROZEN = 4


def run() -> list[Ratio]:
    """Return the ratio of steps of 16 clicks with histories up to 50: batch, forward and backward."""
    with TemporaryDirectory() as folder, patch.dict(os.environ, COUNTERPOINT_CACHE=folder):
        variants = {"frozen": _step(frozen_layers=FROZEN), "adapted": _step(lora=Adapter())}
        with threads(1):
            cost = ratios(_step(), variants, rounds=7, clock=time.process_time)
    return [
        Ratio(
            f"training step, {FROZEN} of 6 layers frozen and cached",
            "a step of all layers, 1 thread",
            1 / cost["frozen"],
            3,
            beside=f"LoRA of queries and values {1 / cost['adapted']:.2f}x",
        )
    ]


def _step(**changes: Any) -> Callable[[], None]:
    """Return a training step of three tasks, their losses summed, with these changes to the encoder."""
    recipe = api.read_recipe("mtrec")
    assert isinstance(recipe, NewsRecipe)
    encoder = recipe.encoder.model_copy(update=changes)
    made = trainee(recipe.model_copy(update={"encoder": encoder}), store(8_000, 1_000))
    model: Any = made.model
    model.train()
    summed = balance.make("equal")

    def step() -> None:
        batch = made.batches.batch(0, 0)
        summed.backward(model.losses(batch), shared=model.shared_parameters(), target="click")
        model.zero_grad()

    return step
