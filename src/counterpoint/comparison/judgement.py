"""Recipes against a baseline on the same data: differences, how sure they are and what they cost."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from counterpoint.comparison.contenders import Comparison, Contender, Costs, Difference
from counterpoint.comparison.improvement import improvements
from counterpoint.comparison.payoff import Payoff, payoff, single_task, tasks
from counterpoint.comparison.significance import SeedTest, bootstraps, holm, paired_t_test
from counterpoint.comparison.standing import Kind, standing
from counterpoint.errors import CounterpointError, UsageError, nearest
from counterpoint.metrics.evaluated import Evaluation, unit_of
from counterpoint.runs.records import Group, RunRecord, read_per_unit

_Means = Mapping[str, Mapping[str, Float[np.ndarray, " units"]]]


def compare_groups(
    groups: Sequence[Group],
    *,
    baseline: str | None = None,
    split: str = "test",
    metric: str | None = None,
    title: str = "",
) -> Comparison:
    """Compare groups of runs, one group for each recipe, one run for each seed.

    Args:
        groups: evaluated runs; the labels are distinct.
        baseline: a label; by default the first.
        split: that they were evaluated on.
        metric: that decides; by default the first by unit.
        title: by default the recipes' names.

    Raises:
        UsageError: no such baseline or metric.
        CounterpointError: a run has not been evaluated unit by unit, they were evaluated on different units,
            or the labels cannot give the metric.
    """
    baseline = baseline or groups[0].label
    labels = [group.label for group in groups]
    if baseline not in labels:
        raise UsageError(
            f"no recipe here is called {baseline!r}{nearest(baseline, labels)}; "
            f"choose the baseline among {', '.join(labels)}."
        )
    evaluations = {group.label: [_evaluation(run, split) for run in group.runs] for group in groups}
    _refuse_different_splits(groups, evaluations, split)
    means = {group.label: _seed_means(group, split) for group in groups}
    known = [name for name in means[baseline] if all(name in each for each in means.values())]
    unit = unit_of(evaluations[baseline][0])
    metric = _checked(metric, known, means[baseline], split, unit)
    rows = standing(evaluations)
    limits, against = _judged(groups, means, known, baseline, evaluations)
    contenders = [
        Contender(
            row=row,
            seeds=[run.seed for run in group.runs],
            values=_values(evaluations[group.label]),
            limits=limits[group.label],
            against=against.get(group.label, {}),
            costs=_costs(group),
        )
        for row, group in zip(rows, groups, strict=False)  # the floors' rows come last
    ]
    values = means[baseline][metric]
    return Comparison(
        title=title or ", ".join(labels),
        split=split,
        metric=metric,
        baseline=baseline,
        simulated=any(is_simulated(run) for group in groups for run in group.runs),
        unit=unit,
        units=len(values),
        scored=int((~np.isnan(values)).sum()),
        contenders=contenders,
        floors=[row for row in rows if row.kind is not Kind.MODEL],
        payoffs=_payoffs(groups, means, metric, baseline),
        improvements=improvements(groups, means, split),
    )


def is_simulated(run: RunRecord) -> bool:
    """Return whether a run's clicks or articles are simulated."""
    manifest = (run.facts.get("store") or {}).get("manifest", {})
    return bool(manifest.get("simulated") or manifest.get("simulated articles"))


def _evaluation(run: RunRecord, split: str) -> Evaluation:
    if split not in run.evaluations:
        raise CounterpointError(
            f"{run.folder}: not evaluated on split {split!r}; "
            f"run counterpoint evaluate {run.folder} --split {split}."
        )
    return run.evaluations[split]


def _refuse_different_splits(
    groups: Sequence[Group], evaluations: Mapping[str, Sequence[Evaluation]], split: str
) -> None:
    """Refuse runs that were evaluated on splits with different fingerprints."""
    first: tuple[RunRecord, str] | None = None
    for group in groups:
        for run, evaluation in zip(group.runs, evaluations[group.label], strict=True):
            fingerprint = evaluation.get("data", {}).get("fingerprint")
            if first is not None and fingerprint is not None and fingerprint != first[1]:
                raise CounterpointError(
                    f"{first[0].folder} and {run.folder} were evaluated on different splits called "
                    f"{split!r}; evaluate both on the same data to compare them."
                )
            if first is None and fingerprint is not None:
                first = run, fingerprint


def _seed_means(group: Group, split: str) -> dict[str, Float[np.ndarray, " units"]]:
    """Return the mean over the seeds of every metric of every unit."""
    sums: dict[str, Float[np.ndarray, " units"]] = {}
    for run in group.runs:
        unit = unit_of(run.evaluations[split])
        for name, values in read_per_unit(run.folder, split).items():
            if not name.startswith("floor/"):
                before = sums.get(name, np.zeros_like(values))
                if len(before) != len(values):
                    raise CounterpointError(_sizes(group.label, len(before), run.folder, len(values), unit))
                sums[name] = before + values
    return {name: total / len(group.runs) for name, total in sums.items()}


def _checked(
    metric: str | None,
    known: Sequence[str],
    means: Mapping[str, Float[np.ndarray, " units"]],
    split: str,
    unit: str,
) -> str:
    """Return the metric that decides, if the labels give it."""
    if not known:
        raise CounterpointError(f"these runs have no metric of single units on split {split!r} in common.")
    metric = metric or known[0]
    if metric not in known:
        raise UsageError(
            f"no metric of single units is called {metric!r}{nearest(metric, known)}; "
            f"known: {', '.join(known)}."
        )
    if np.isnan(means[metric]).all():
        raise CounterpointError(
            f"split {split!r} cannot give {metric}: none of its {len(means[metric])} {unit} has the labels "
            "that it takes; compare on a split that has them."
        )
    return metric


def _judged(
    groups: Sequence[Group],
    means: _Means,
    metrics: Sequence[str],
    baseline: str,
    evaluations: Mapping[str, Sequence[Evaluation]],
) -> tuple[dict[str, dict[str, tuple[float, float]]], dict[str, dict[str, Difference]]]:
    """Return the interval of each recipe's mean and its difference to the baseline, by recipe and metric."""
    labels = [group.label for group in groups]
    others = [label for label in labels if label != baseline]
    limits: dict[str, dict[str, tuple[float, float]]] = {label: {} for label in labels}
    against: dict[str, dict[str, Difference]] = {label: {} for label in others}
    seeds = {group.label: [run.seed for run in group.runs] for group in groups}
    unit = unit_of(evaluations[baseline][0])
    for metric in metrics:
        own = [means[label][metric] for label in labels]
        for label, values in zip(labels, own, strict=True):
            if len(values) != len(own[0]):
                raise CounterpointError(_sizes(labels[0], len(own[0]), label, len(values), unit))
        base = means[baseline][metric]
        columns = np.stack([*own, *(means[label][metric] - base for label in others)], axis=1)
        if np.isnan(columns).any(axis=1).all():
            continue
        intervals = bootstraps(columns)
        for label, interval in zip(labels, intervals, strict=False):
            limits[label][metric] = interval.low, interval.high
        differences = intervals[len(labels) :]
        tests = [_over_seeds(evaluations, seeds, label, baseline, metric) for label in others]
        adjusted = _adjusted([interval.p_value for interval in differences])
        tested = _adjusted([test.p_value for test in tests if test is not None])
        for label, interval, p_value, test in zip(others, differences, adjusted, tests, strict=True):
            own_p = tested.pop(0) if test is not None else None
            against[label][metric] = Difference(interval, p_value, test, own_p)
    return limits, against


def _adjusted(p_values: Sequence[float]) -> list[float | None]:
    """Return Holm's p-values, or none of them where one alone is no reason to adjust."""
    return list(holm(p_values)) if len(p_values) > 1 else [None] * len(p_values)


def _over_seeds(
    evaluations: Mapping[str, Sequence[Evaluation]],
    seeds: Mapping[str, Sequence[int | None]],
    label: str,
    baseline: str,
    metric: str,
) -> SeedTest | None:
    """Return the t-test over the seeds that both recipes were trained with."""
    values = {
        name: dict(zip(seeds[name], _values(evaluations[name]).get(metric, ()), strict=False))
        for name in (label, baseline)
    }
    shared = [seed for seed in values[label] if seed is not None and seed in values[baseline]]
    return paired_t_test(*([values[name][seed] for seed in shared] for name in (label, baseline)))


def _values(evaluations: Sequence[Evaluation]) -> dict[str, list[float]]:
    """Return each metric of each seed, NaN where one lacks it."""
    every = [evaluation.get("metrics", {}) for evaluation in evaluations]
    return {
        metric: [math.nan if (value := metrics.get(metric)) is None else value for metrics in every]
        for metric in dict.fromkeys(name for metrics in every for name in metrics)
    }


def _costs(group: Group) -> Costs:
    def noted(fact: str) -> list[float]:
        return [value for run in group.runs if (value := run.facts.get(fact)) is not None] or [math.nan]

    return Costs(
        seconds=float(np.mean(noted("seconds"))),
        seconds_per_step=float(np.mean(noted("seconds per step"))),
        megabytes=min(noted("peak megabytes")),
        parameters=max(noted("parameters")),
        trained=max(noted("parameters trained")),
    )


def _payoffs(groups: Sequence[Group], means: _Means, metric: str, baseline: str) -> list[Payoff]:
    """Set every multi-task recipe beside a single-task one."""
    single = single_task(groups, baseline)
    several = [group for group in groups if len(tasks(group.runs[0])) > 1]
    if single is None or not several:
        return []
    base = means[single.label][metric]
    gains = bootstraps(np.stack([means[group.label][metric] - base for group in several], axis=1))
    return [payoff(group, single, gain) for group, gain in zip(several, gains, strict=True)]


def _sizes(first: object, count: int, second: object, other: int, unit: str) -> str:
    return (
        f"{first} and {second} were evaluated on {count} and {other} {unit}; "
        "evaluate both on the same data to compare them."
    )
