"""The lines that a report draws: losses, metrics, cosines, norms layer by layer, and calibration."""

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import numpy as np

from counterpoint.comparison.payoff import auxiliaries, target
from counterpoint.metrics.evaluated import Evaluation
from counterpoint.metrics.impressions import METRICS
from counterpoint.reporting.figures import calibration, curves
from counterpoint.reporting.series import averaged, smoothed
from counterpoint.reporting.svg import Figure
from counterpoint.runs.records import Group, RunRecord, Series

CALIBRATED = (
    "The share of positive rows against the mean probability predicted, in bins of equally many rows; on the "
    "dashed line they agree. Of several seeds, the first."
)
LAYERS = 12  # charts of one run: with more layers, those that stand together are summed up

Lines = list[tuple[str, Series]]


def losses(groups: Sequence[Group]) -> list[Figure]:
    """One chart for each task's training loss; of several recipes, each is the mean over its seeds."""
    return _by_name(groups, "losses", noisy=True)


def validation(groups: Sequence[Group]) -> list[Figure]:
    """One chart for each metric, in which every run is a line."""
    return _by_name(groups, "validation")


def target_losses(groups: Sequence[Group]) -> list[Figure]:
    """One chart with every recipe's training loss of its target task (MetaBalance, Fig. 4)."""
    targets = {group.label: target(group.runs[0]) or "" for group in groups}
    lines = [
        line
        for group in groups
        for line in _lines(group, "losses", targets[group.label], merged=len(groups) > 1)
    ]
    title = ", ".join([*dict.fromkeys(filter(None, targets.values())), "moving mean"])
    return [curves(title + _of_seeds(groups), lines, noisy=True)] if lines else []


def cosines(groups: Sequence[Group]) -> list[Figure]:
    """The cosine of the target's gradient and the auxiliaries', moving mean, a line for each run."""
    lines = [
        (group.label, smoothed(found.cosine))
        for group in groups
        for run in group.runs
        if (found := auxiliaries(run)) and found.cosine
    ]
    return [curves("cosine, moving mean", lines)] if lines else []


def calibrations(evaluations: Mapping[str, Sequence[Evaluation]]) -> list[Figure]:
    """One chart for each task with what was predicted and what happened, a line for each recipe's first seed.

    Args:
        evaluations: by recipe, one for each seed.
    """
    found = {label: seeds[0].get("calibration", {}) for label, seeds in evaluations.items()}
    tasks = dict.fromkeys(task for each in found.values() for task in each)
    return [
        calibration(task, {label: each[task] for label, each in found.items() if task in each})
        for task in tasks
    ]


def layers(run: RunRecord) -> list[Figure]:
    """One chart for each layer with the norm of every task's gradient in it (MetaBalance, Fig. 1 and 2).

    Where the method weighs gradients, another shows them as they were merged.
    """
    taken, merged = (run.balance.get(field, {}) for field in ("layer_norms", "merged_layer_norms"))
    told = {"": by_layer(taken)}
    if any(name in merged and _differ(merged[name], series) for name, series in taken.items()):
        told[", as merged"] = by_layer(merged)
    drawn = []
    common = _common(list(told[""]))
    for layer in told[""]:
        for ending, norms in told.items():
            tasks = norms.get(layer, {}).items()
            lines = [(task, smoothed(series)) for task, series in tasks if series.values.any()]
            if lines:
                title = f"{layer.removeprefix(common)}{ending}"
                drawn.append(curves(title, lines, logarithmic=True))
    return drawn


def by_layer(norms: Mapping[str, Series], most: int = LAYERS) -> dict[str, dict[str, Series]]:
    """Return the norms of a log, whose names are ``"LAYER|TASK"``, by layer and task.

    More than ``most`` layers are summed up by the beginning of their names, cut after as many parts as leave
    no more than that: encoder.layers.3 for all that is in it. The norm of several layers is the root of the
    sum of their squares, at the steps that all of them have.

    Args:
        norms: by layer and task.
        most: layers to return.
    """
    split = [(*name.rpartition("|")[::2], series) for name, series in norms.items()]
    named = dict.fromkeys(layer for layer, _, _ in split)
    deepest = max((layer.count(".") + 1 for layer in named), default=0)
    cut = {layer: layer for layer in named}
    for depth in range(deepest, -1, -1):
        if len(set(cut.values())) <= most:
            break
        cut = {layer: ".".join(layer.split(".")[:depth]) or "all layers" for layer in named}
    members: dict[str, dict[str, list[Series]]] = {}
    for layer, task, series in split:
        members.setdefault(cut[layer], {}).setdefault(task, []).append(series)
    summed: dict[str, dict[str, Series]] = {}
    for layer, tasks in members.items():
        for task, several in tasks.items():
            whole = _root_of_squares(several)
            if whole is not None:
                summed.setdefault(layer, {})[task] = whole
    return summed


def _root_of_squares(several: Sequence[Series]) -> Series | None:
    if len(several) == 1:
        return several[0]
    mean = averaged([Series(each.steps, np.square(each.values)) for each in several])
    return None if mean is None else Series(mean.steps, np.sqrt(mean.values * len(several)))


def _common(layers: Sequence[str]) -> str:
    """Return the modules that all layers are in, which tell nothing."""
    places = [layer.split(".")[:-1] for layer in layers]
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*places, strict=False))
    return "".join(f"{parts[0]}." for parts in same) if len(layers) > 1 else ""


def _differ(first: Series, second: Series) -> bool:
    return not np.array_equal(first.values, second.values)


def _by_name(groups: Sequence[Group], field: str, *, noisy: bool = False) -> list[Figure]:
    """One chart for each loss or metric; the seeds of a recipe are merged where they would only blur."""
    every = [run.training.get(field, {}) for group in groups for run in group.runs]
    names = dict.fromkeys(name for entries in every for name in entries)
    ranking_first = [
        *(name for name in METRICS if name in names),
        *(name for name in names if name not in METRICS),
    ]
    merged = noisy and len(groups) > 1
    return [
        curves(
            name + _of_seeds(groups) * merged,
            [line for group in groups for line in _lines(group, field, name, merged)],
            noisy=noisy,
        )
        for name in ranking_first
    ]


def _of_seeds(groups: Sequence[Group]) -> str:
    """Return what a title says of seeds that are merged, if there are any."""
    return ", mean over seeds" * (len(groups) > 1 and any(len(group.runs) > 1 for group in groups))


def _lines(group: Group, field: str, name: str, merged: bool) -> Lines:
    """Return a line for each run that has it, or their mean as far as all of them got."""
    found = [entries[name] for run in group.runs if name in (entries := run.training.get(field, {}))]
    if merged and len(found) > 1 and (mean := averaged(found)):
        found = [mean]
    return [(group.label, series) for series in found]


SECTIONS: Sequence[tuple[str, Callable[[Sequence[Group]], list[Figure]]]] = (
    ("Losses", losses),
    ("Validation", validation),
)
"""The sections of the page that are figures over training: title, and what draws them."""
