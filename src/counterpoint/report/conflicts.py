"""How the tasks of a run got on: which pairs of gradients conflicted, and whom the merged update hurt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.report.figures import conflict_share
from counterpoint.report.side_by_side import Grid
from counterpoint.runs.records import Group, RunRecord

_UNKNOWN = "—"


@dataclass(frozen=True)
class Conflicts:
    """What the log of a run tells of single tasks; of those that were merged before, nothing is known.

    Attributes:
        pairs: of each pair of tasks, the share of the steps at which their gradients had a negative cosine.
        hurt: of each task, the share of the steps at which the merged gradient had a negative inner product
            with the task's own, so that a small step along it raises the task's loss.
    """

    pairs: dict[tuple[str, str], float]
    hurt: dict[str, float]


def conflicts(run: RunRecord) -> Conflicts:
    """Return the conflicts of a run, over the steps that looked at the gradients apart.

    Networks that share nothing have none.
    """
    if run.facts.get("separate"):
        return Conflicts({}, {})
    pairs = {}
    for name, series in run.balance.get("cosines", {}).items():
        first, _, second = name.partition("|")
        if "+" not in name:
            pairs[first, second] = conflict_share(series.values)
    hurt = {
        task: float((series.values < 0).mean())
        for task, series in run.balance.get("effects", {}).items()
        if "+" not in task
    }
    return Conflicts(pairs, hurt)


def hurt_grid(groups: Sequence[Group]) -> Grid | None:
    """Return how often each recipe's merged update hurt a task, mean over its seeds; nothing for one task."""
    found = {group.label: [conflicts(run).hurt for run in group.runs] for group in groups}
    tasks = list(dict.fromkeys(task for seeds in found.values() for hurt in seeds for task in hurt))
    if len(tasks) < 2:
        return None
    rows = [
        (label, [_share([hurt[task] for hurt in seeds if task in hurt]) for task in tasks], frozenset[int]())
        for label, seeds in found.items()
    ]
    note = (
        "Share of the steps at which the merged gradient has a negative inner product with the task's own. A "
        "dash: its gradient was not looked at apart (training.diagnose_every does so)."
    )
    return Grid("Tasks hurt by the merged update", tasks, rows, [note])


def pair_grid(group: Group) -> Grid | None:
    """Return how often each pair of tasks of a recipe conflicted; nothing for fewer than three tasks."""
    found = [conflicts(run).pairs for run in group.runs]
    pairs = list(dict.fromkeys(pair for each in found for pair in each))
    tasks = list(dict.fromkeys(task for pair in pairs for task in pair))
    if len(pairs) < 2:
        return None
    rates = {pair: [each[pair] for each in found if pair in each] for pair in pairs}
    rows = [
        (
            first,
            [_share(rates.get((first, second), rates.get((second, first), []))) for second in tasks],
            frozenset[int](),
        )
        for first in tasks
    ]
    note = "Share of the steps at which the gradients of two tasks have a negative cosine."
    return Grid(f"Conflicts between tasks, {group.label}", tasks, rows, [note])


def _share(shares: Sequence[float]) -> str:
    return f"{np.mean(shares):.1%}" if shares else _UNKNOWN
