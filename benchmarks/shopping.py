"""A whole step of training on a shopping log: four tasks balanced, and ten times as many items.

python -m benchmarks.shopping ITEMS    # what a step takes at its peak beside tables and moments, in bytes
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from benchmarks.measure import Ratio, ratios
from counterpoint import balance
from counterpoint.behaviors.batches import TrainingBatches
from counterpoint.behaviors.data.store import Interactions
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.training.memory import peak_megabytes
from counterpoint.training.optimizers import clip_gradients, make_optimizer

USERS, ITEMS = 17_435, 35_920  # IJCAI-15's
PAIRS = {"buy": 131_685, "click": 606_728, "cart": 751, "favourite": 60_204}
STEPS = 20
BALLAST = 1 << 28  # bytes


@dataclass
class Shop:
    """A synthetic log of these sizes, which batches take for a store."""

    item_count: int
    user_count: int = USERS
    path: str = "synthetic"
    behaviours: tuple[str, ...] = tuple(PAIRS)
    pairs: dict[str, Interactions] = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(0)
        self.pairs = {
            behaviour: Interactions.of_pairs(
                draw.integers(0, self.user_count, count),
                draw.integers(0, self.item_count, count),
                self.user_count,
            )
            for behaviour, count in PAIRS.items()
        }

    def interactions(self, split: str, behaviour: str) -> Interactions:
        return self.pairs[behaviour]


def run() -> list[Ratio]:
    """Return the cost of a balanced step, of drawing its batch to the optimizer, and of more items."""
    shop = Shop(ITEMS)
    taken = {
        size: ratios(
            steps(shop, "equal", size),
            {"metabalance": steps(shop, "metabalance", size)},
            rounds=7,
            clock=time.process_time,
        )["metabalance"]
        for size in (256, 2048)
    }
    few, many = peak(ITEMS), peak(10 * ITEMS)
    return [
        *(
            Ratio(f"MetaBalance, four tasks, {size} pairs", "the whole step, losses summed", cost, 1.8, False)
            for size, cost in taken.items()
        ),
        Ratio(
            "memory of a step beside tables and moments",
            f"{ITEMS:,} items, ten times as many",
            many / few,
            1.1,
            at_least=False,
            beside=f"{many / 1e6:.0f} MB against {few / 1e6:.0f} MB",
        ),
    ]


def steps(shop: Any, method: str, size: int) -> Callable[[], None]:
    """Return what takes some whole steps: batch, losses, balanced gradients, clipping, Adam."""
    settings = {"batch_size": size, "learning_rate": 1e-3, "weight_decay": 1e-7}
    recipe = BehaviorsRecipe.model_validate({"name": method, "training": settings})
    torch.manual_seed(0)
    model = BehaviorsNetwork(shop.user_count, shop.item_count, recipe.tasks, recipe.network)
    batches = TrainingBatches(shop, recipe)
    optimizer = make_optimizer(model, recipe.training)
    balancer = balance.make(method)
    place = [0]

    def some() -> None:
        for _ in range(STEPS):
            batch = batches.batch(0, place[0] % len(batches))
            losses: dict[str, Tensor] = model.losses(batch)
            balancer.backward(
                losses, shared=model.shared_parameters(), heads=model.parameters(), target=recipe.target
            )
            clip_gradients(model.parameters(), math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            place[0] += 1

    return some


def peak(items: int) -> int:
    """Return how many bytes steps take at their peak beside tables and moments, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.shopping", str(items)],
        cwd=Path(__file__).parent.parent,
        # With glibc, tensors are then mapped and unmapped one by one: what is resident is what is in use.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def _print_peak(items: int) -> None:
    some = steps(Shop(items), "metabalance", 2048)
    ballast = torch.ones(BALLAST, dtype=torch.uint8)  # so that the peak so far lies below `before`
    some()  # makes the moments and the epoch's order, which belong to no step
    before = psutil.Process().memory_info().rss
    some()
    del ballast
    print(round(1e6 * peak_megabytes()) - before)


if __name__ == "__main__":
    _print_peak(int(sys.argv[1]))
