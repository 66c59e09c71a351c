"""Many labels per view: GAUC of all users at once, loading, preparing, a whole step with six tasks balanced.

python -m benchmarks.feedback LOG STORE    # what preparing a log takes at its peak, in bytes
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measure import Ratio, interleaved, ratios
from counterpoint import balance
from counterpoint.feedback.batches import FeedbackBatch, gathered
from counterpoint.feedback.data.layout import find
from counterpoint.feedback.data.prepare import prepare
from counterpoint.feedback.data.schema import Column, Schema
from counterpoint.feedback.data.store import Rows
from counterpoint.feedback.models.building import network
from counterpoint.feedback.recipe import FeedbackRecipe, Network
from counterpoint.metrics.groups import user_auc
from counterpoint.runs.recipe import Training
from counterpoint.simulation.views.log import simulate
from counterpoint.training.memory import peak_megabytes
from counterpoint.training.optimizers import clip_gradients, make_optimizer
from counterpoint.workload import Preparation

ROWS, USERS = 700_000, 20_000
# The size of WeChat's log (paper 5, section 4.1.1): 141,000 vectors in all.
SIZES = {"user": 20_000, "video": 59_000, "device": 3, "author": 18_000, "song": 25_000, "singer": 19_000}
POSITIVE = {"effective": 0.5, "long": 0.25, "complete": 0.4, "like": 0.03, "follow": 0.01, "forward": 0.01}
BATCH = 2048
STEPS = 5
LOADED = 50  # batches
PREPARED = 300_000  # rows, and ten times as many


def run() -> list[Ratio]:
    """Return how much faster GAUC and loading are than one by one, and what more rows and balancing cost."""
    log = views(ROWS, USERS)
    seconds = interleaved(
        {"at once": lambda: user_auc(*log).mean(), "user by user": lambda: looped(*log)},
        rounds=1,
        clock=time.process_time,
    )
    with TemporaryDirectory() as folder:
        rows = mapped(Path(folder), LOADED * BATCH)
        loading = interleaved(
            {"columns": lambda: by_columns(rows), "rows": lambda: by_rows(rows)}, clock=time.process_time
        )
    few, many = peak(PREPARED), peak(10 * PREPARED)
    batches = drawn(STEPS)
    balanced = ratios(
        steps("equal", batches), {"gradcraft": steps("gradcraft", batches)}, rounds=9, clock=time.process_time
    )
    return [
        Ratio(
            f"GAUC of {ROWS:,} rows, {USERS:,} users",
            "scikit-learn user by user",
            seconds["user by user"] / seconds["at once"],
            100,
        ),
        Ratio(
            f"loading batches of {BATCH} rows, shuffled",
            "torch's DataLoader, row by row",
            loading["rows"] / loading["columns"],
            4,
        ),
        Ratio(
            "peak memory of preparing ten times the rows",
            f"{PREPARED:,} rows",
            many / few,
            2,
            at_least=False,
            beside=f"{many / 1e6:.0f} MB against {few / 1e6:.0f} MB",
        ),
        Ratio(
            f"GradCraft, six tasks, PLE, {BATCH} rows",
            "the whole step, losses averaged",
            balanced["gradcraft"],
            1.5,
            at_least=False,
        ),
    ]


def views(
    rows: int, users: int
) -> tuple[Float[np.ndarray, " rows"], Bool[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """Return scores, a rare label and users."""
    draw = np.random.default_rng(0)
    return draw.random(rows, dtype=np.float32), draw.random(rows) < 0.03, draw.integers(0, users, rows)


def looped(
    scores: Float[np.ndarray, " rows"], labels: Bool[np.ndarray, " rows"], users: Int[np.ndarray, " rows"]
) -> float:
    """Return GAUC as paper 5's code takes it: scikit-learn's AUC for one user after another."""
    order = np.argsort(users, kind="stable")
    changes = np.flatnonzero(np.diff(users[order])) + 1
    total = weights = 0.0
    for mine in np.split(order, changes):
        if labels[mine].any() and not labels[mine].all():
            total += len(mine) * float(roc_auc_score(labels[mine], scores[mine]))
            weights += len(mine)
    return total / weights


def mapped(folder: Path, count: int) -> Rows:
    """Return rows as a store has them: arrays in files, mapped."""
    draw = np.random.default_rng(0)
    arrays = {
        "ids": np.stack([draw.integers(0, size, count) for size in SIZES.values()], axis=1).astype(np.int32),
        "numbers": draw.normal(size=(count, 2)).astype(np.float32),
        "labels": (draw.random((count, len(POSITIVE))) < list(POSITIVE.values())).astype(np.uint8),
        "users": np.arange(count),
    }
    for name, array in arrays.items():
        np.save(folder / name, array)
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays}
    return Rows(**files, lists=(), items=None, truth=None)


def by_columns(rows: Rows) -> float:
    """Load an epoch as training does, and return how many labels are positive."""
    order = np.random.default_rng(0).permutation(len(rows))
    tasks = range(rows.labels.shape[1])
    shares = (np.sort(order[start : start + BATCH]) for start in range(0, len(rows), BATCH))
    return sum(float(gathered(rows, chosen, tasks).labels.sum()) for chosen in shares)


def by_rows(rows: Rows) -> float:
    """Load an epoch with torch's own loader, and return how many labels are positive."""
    # Copies: tensors cannot be of what must not be written.
    ids, numbers, labels = (
        torch.from_numpy(np.array(each)) for each in (rows.ids, rows.numbers, rows.labels)
    )
    loader = DataLoader(TensorDataset(ids.long(), numbers, labels.float()), BATCH, shuffle=True)
    return sum(float(of_batch.sum()) for _, _, of_batch in loader)


def peak(rows: int) -> int:
    """Return the peak of a process that prepares a log, its libraries included, in bytes."""
    with TemporaryDirectory(prefix="counterpoint-benchmark-") as name:
        log, store = Path(name, "log"), Path(name, "store")
        simulate(log, users=rows // 50, rows=rows)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.feedback", str(log), str(store)],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    return int(done.stdout)


def _print_peak(log: Path, store: Path) -> None:
    prepare(find(log), store, FeedbackRecipe(name="benchmark"), Preparation())
    print(round(1e6 * peak_megabytes()))


def drawn(count: int) -> list[FeedbackBatch]:
    """Return batches of ids, all equally popular: with those of a log, fewer rows of the tables move."""
    draw = np.random.default_rng(0)
    return [
        FeedbackBatch(
            torch.from_numpy(np.stack([draw.integers(0, size, BATCH) for size in SIZES.values()], axis=1)),
            torch.empty(BATCH, 0),
            (),
            torch.from_numpy(draw.random((BATCH, len(POSITIVE))) < list(POSITIVE.values())).float(),
        )
        for _ in range(count)
    ]


def steps(method: str, batches: list[FeedbackBatch]) -> Callable[[], None]:
    """Return what takes a whole step with each batch: losses, balanced gradients, clipping, Adam."""
    schema = Schema(tuple(Column(*each) for each in SIZES.items()), (), (), tuple(POSITIVE))
    torch.manual_seed(0)
    model = network(schema, Network())
    optimizer = make_optimizer(model, Training(learning_rate=1e-3, weight_decay=1e-6))
    balancer = balance.make(method, **({"reduction": "mean"} if method == "equal" else {}))

    def some() -> None:
        for batch in batches:
            losses: dict[str, Tensor] = model.losses(batch)
            balancer.backward(losses, shared=model.shared_parameters(), heads=model.parameters())
            clip_gradients(model.parameters(), math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return some


if __name__ == "__main__":
    _print_peak(Path(sys.argv[1]), Path(sys.argv[2]))
