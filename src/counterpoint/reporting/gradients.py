"""How the gradients of the tasks got on, as sections of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.reporting import figures, grids, page, training_figures
from counterpoint.reporting.figures import curves
from counterpoint.reporting.grids import Grid
from counterpoint.reporting.page import Html
from counterpoint.reporting.series import conflict_share, smoothed
from counterpoint.reporting.svg import Figure
from counterpoint.runs.records import Group, RunRecord

_PAIRS = 6  # cosine charts of one run: with eight tasks there are 28 pairs


def sections(groups: Sequence[Group]) -> Iterator[Html]:
    """Yield charts and tables of norms, weights and conflicts, over all the trunk and by layer."""
    yield _balance(groups)
    yield grids.section(hurt_grid(groups))
    for group in groups:
        yield grids.section(pair_grid(group))
    yield _layers(groups)


def _balance(groups: Sequence[Group]) -> Html:
    """How the gradients got on: the charts of one run of each recipe, and the conflict rate of all."""
    drawn: list[Figure] = []
    for group in groups:
        run = group.runs[0]
        prefix = f"{group.name_of(run)}: " if len(groups) > 1 else ""
        cosines = run.balance.get("cosines", {})
        drawn += [
            figures.conflicts(f"{prefix}{pair.replace('|', ' and ')}", cosines[pair])
            for pair in _telling_pairs(list(cosines))
        ]
        for field, title in (("norms", "gradient norms"), ("weights", "weights of the gradients")):
            named = [(name, smoothed(series)) for name, series in run.balance.get(field, {}).items()]
            if named:
                drawn.append(curves(prefix + title, named, logarithmic=field == "norms"))
    rates = [
        (group.label, smoothed(run.balance["conflict_rate"][""]))
        for group in groups
        for run in group.runs
        if "conflict_rate" in run.balance
    ]
    if rates:
        drawn.append(curves("share of pairs in conflict, moving mean", rates, percent=True))
    return page.section("Gradients", page.figures(drawn))


def _layers(groups: Sequence[Group]) -> Html:
    """The gradients' norms in every layer, of the first run of each recipe that looked at them apart."""
    drawn = []
    for group in groups:
        run = next((run for run in group.runs if "layer_norms" in run.balance), None)
        if run is not None:
            drawn.append((group.name_of(run), page.figures(training_figures.layers(run))))
    if not drawn:
        return Html("")
    note = (
        "Norms of the tasks' gradients, moving mean of the steps at which they were taken apart; as merged: "
        "times the weight that the method gave them."
    )
    charts = (
        [drawn[0][1]]
        if len(groups) == 1
        else [
            page.element("details", page.element("summary", page.text(label)), figures)
            for label, figures in drawn
        ]
    )
    return page.section("Gradients by layer", *charts, page.element("p", page.text(note), class_="note"))


def _telling_pairs(pairs: Sequence[str]) -> Sequence[str]:
    """The target against all auxiliaries merged, where it was recorded; otherwise the first pairs."""
    return [pair for pair in pairs if "+" in pair] or pairs[:_PAIRS]


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
