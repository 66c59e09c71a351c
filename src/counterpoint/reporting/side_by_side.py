"""The tables of a comparison, once as content and then for the terminal, for Markdown and for the page."""

import math
from collections.abc import Mapping, Sequence

from counterpoint.comparison.contenders import Comparison, Contender, Difference
from counterpoint.comparison.improvement import Gain
from counterpoint.comparison.significance import Interval
from counterpoint.comparison.standing import Kind, metric_names, pooled
from counterpoint.metrics.evaluated import Evaluation, by_task, overall
from counterpoint.reporting.grids import Grid

_UNKNOWN = "—"
SEEDS = 3  # fewer are no ground for a claim


def heading(comparison: Comparison) -> str:
    """Return the title, which says so where the data is simulated."""
    return f"{comparison.title}{' (simulated data)' * comparison.simulated}"


def results(comparison: Comparison) -> Grid:
    """Return recipes and floors with their metrics: mean ± standard deviation over the seeds.

    What a metric is in single tasks is left to `task_by_task`.
    """
    metrics = overall(metric_names(comparison.rows))
    seeds = [len(contender.seeds) for contender in comparison.contenders]
    notes = [
        f"{comparison.scored:,} of {comparison.units:,} {comparison.unit} of split {comparison.split}. "
        "Mean ± sample standard deviation over the seeds; red, in Markdown ↓: does not beat "
        "every floor."
    ]
    if min(seeds) < SEEDS:
        notes.append(f"A recipe has {_counted(min(seeds), 'seed')}: train {SEEDS} or more before any claim.")
    return Grid(f"Results, {comparison.split}", metrics, _of_rows(comparison, metrics), notes)


def task_by_task(comparison: Comparison) -> list[Grid]:
    """Return a table for each metric that is a mean over tasks: what it is in each of them."""
    return [
        Grid(
            f"Task by task, {metric}",
            [part.rpartition("/")[0] for part in parts],
            _of_rows(comparison, parts),
        )
        for metric, parts in by_task(metric_names(comparison.rows)).items()
    ]


def improvements(comparison: Comparison) -> Grid | None:
    """Return what tasks gain over networks of their own; nothing where there are none of these."""
    if not comparison.improvements:
        return None
    metrics = list(dict.fromkeys(metric for each in comparison.improvements for metric in each.gains))
    header = [part for metric in metrics for part in (f"RI of {metric}", "95 % interval")]
    rows = []
    for each in comparison.improvements:
        gains = [each.gains[metric] for metric in metrics]
        cells = [part for gain in gains for part in (_percent(gain), _percent_limits(gain))]
        alarming = frozenset(2 * place for place, gain in enumerate(gains) if gain.interval.high < 0)
        rows.append((each.label, cells, alarming))
    note = (
        "Mean over the tasks of the relative gain over the network that learned the task alone "
        f"({', '.join(dict.fromkeys(each.against for each in comparison.improvements))}), ± sample standard "
        f"deviation over the seeds, with the 95 % interval of a paired bootstrap over {comparison.unit}."
    )
    return Grid("Relative improvement over separate networks", header, rows, [note])


def differences(comparison: Comparison) -> Grid:
    """Return each recipe against the baseline in the metric that decides."""
    adjusted = comparison.adjusted
    holm = ", Holm" if adjusted else ""
    rows = [
        (each.row.name, _difference(each.against.get(comparison.metric), adjusted), frozenset[int]())
        for each in comparison.contenders
    ]
    note = (
        "Gain of the seeds' mean metric with the 95 % interval and two-sided p of a paired bootstrap over "
        f"{comparison.unit} (would these models differ on other {comparison.unit}?); p over seeds: paired "
        f"t-test (would other trainings differ?){', both adjusted for being several (Holm)' * adjusted}."
    )
    header = [f"gain in {comparison.metric}", "95 % interval", f"p{holm}", f"p over seeds{holm}"]
    return Grid(f"Against {comparison.baseline}", header, rows, [note])


def costs(comparison: Comparison) -> Grid:
    """Return what the trainings took."""
    header = ["time", "per step", "peak memory", "parameters", "trained"]
    rows = [(each.row.name, _costs(each), frozenset[int]()) for each in comparison.contenders]
    note = (
        "Time: mean wall time of a training; per step: median; peak memory: largest resident set of the "
        "process in a training, the smallest over the seeds."
    )
    return Grid("Costs", header, rows, [note])


def payoffs(comparison: Comparison) -> Grid | None:
    """Return what the auxiliary tasks brought and cost; nothing without single- and multi-task recipes."""
    if not comparison.payoffs:
        return None
    single = comparison.payoffs[0].against
    header = [f"gain in {comparison.metric}", "95 % interval", "in conflict", "norm ratio", "step cost"]
    rows = [
        (
            each.label,
            [
                *_interval(each.gain),
                _UNKNOWN if each.conflict_rate is None else f"{each.conflict_rate:.1%}",
                _UNKNOWN if each.norm_ratio is None else f"{each.norm_ratio:.3g}",
                _UNKNOWN if each.step_cost is None else f"{each.step_cost:.2f}",
            ],
            frozenset({0} if each.gain.high < 0 else ()),
        )
        for each in comparison.payoffs
    ]
    note = (
        f"Gain over {single}, which learns the target alone, by paired bootstrap over {comparison.unit}. In "
        "conflict: share of the steps at which the target's gradient and the auxiliaries' sum have a "
        "negative cosine. Norm ratio: median of that sum's norm over the target's, before the balancing "
        "method weighs them. A dash: they were not looked at apart (training.diagnose_every does so). Step "
        f"cost: median time of a step over that of {single}."
    )
    return Grid("Does the auxiliary task pay?", header, rows, [note])


def editorial(evaluations: Mapping[str, Sequence[Evaluation]], split: str) -> Grid | None:
    """Return the editorial measures of the recipes' rankings, of the clicks and of the floors.

    Args:
        evaluations: by recipe, one for each seed.
        split: that they are of.
    """
    measured: dict[str, list[Mapping[str, float | None]]] = {}
    for label, seeds in evaluations.items():
        rankings = [evaluation.get("editorial", {}) for evaluation in seeds]
        measured[label] = [each["model"] for each in rankings if "model" in each]
    apart = [each.get("editorial", {}) for seeds in evaluations.values() for each in seeds]
    for name in dict.fromkeys(name for rankings in apart for name in rankings if name != "model"):
        measured[name] = [next(rankings[name] for rankings in apart if name in rankings)]
    values = {name: pooled(rankings) for name, rankings in measured.items() if rankings}
    names = dict.fromkeys(name for each in values.values() for name in each if not name.endswith("left out"))
    if not names:
        return None
    rows = [
        (
            label,
            [str(each[name]) if name in each else _UNKNOWN for name in names],
            frozenset[int](),
        )
        for label, each in values.items()
    ]
    note = (
        "None of these is better the higher; compare with the clicks and the floors. Diversity: distance of "
        "the list's pairs; novelty: surprise in bits; coverage: share of the candidates in any list; "
        "exposure gini: 0 even, 1 all to one; calibration: divergence from the history's classes, 0 like it."
    )
    return Grid(f"Editorial measures, {split}", list(names), rows, [note])


def _of_rows(
    comparison: Comparison, metrics: Sequence[str]
) -> list[tuple[str, Sequence[str], frozenset[int]]]:
    """Return recipes and floors with some metrics."""
    return [
        (
            _named(row.name, row.kind),
            [str(row.values.get(metric, "")) for metric in metrics],
            frozenset(place for place, metric in enumerate(metrics) if metric in row.lost),
        )
        for row in comparison.rows
    ]


def _percent(gain: Gain) -> str:
    spread = "" if math.isnan(gain.spread) else f" ± {100 * gain.spread:.2f}"
    return f"{100 * gain.interval.mean_difference:+.2f}{spread} %"


def _percent_limits(gain: Gain) -> str:
    return f"{100 * gain.interval.low:+.2f} to {100 * gain.interval.high:+.2f} %"


def _named(name: str, kind: Kind) -> str:
    return {Kind.MODEL: name, Kind.FLOOR: f"floor: {name}", Kind.OPTIMUM: name}[kind]


def _difference(difference: Difference | None, adjusted: bool) -> list[str]:
    """Write a difference, its p-value and that over seeds; the baseline has none."""
    if difference is None:
        return [""] * 4
    p_values = (
        (difference.adjusted, difference.seeds_adjusted)
        if adjusted
        else (difference.interval.p_value, difference.seeds.p_value if difference.seeds else None)
    )
    return [*_interval(difference.interval), *map(_p_value, p_values)]


def _interval(found: Interval) -> list[str]:
    return [f"{found.mean_difference:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"]


def _p_value(value: float | None) -> str:
    return _UNKNOWN if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _costs(contender: Contender) -> list[str]:
    costs = contender.costs
    written = [
        (costs.seconds, _duration),
        (costs.seconds_per_step, lambda value: f"{value:.3f} s" if value < 10 else f"{value:.0f} s"),
        (costs.megabytes, lambda value: f"{value:,.0f} MB"),
        (costs.parameters, lambda value: f"{value:,.0f}"),
        (costs.trained, lambda value: f"{value:,.0f}"),
    ]
    return [_UNKNOWN if math.isnan(value) else write(value) for value, write in written]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
