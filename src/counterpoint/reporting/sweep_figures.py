"""Charts of what came out of a recipe against the values of one of its keys."""

import math
from collections.abc import Sequence
from typing import Any

from counterpoint.comparison.contenders import Comparison, Contender
from counterpoint.comparison.standing import metric_names
from counterpoint.metrics.evaluated import overall
from counterpoint.reporting.figures import Point, sweep
from counterpoint.reporting.svg import Figure
from counterpoint.runs.ablation import Swept, written


def draw(comparison: Comparison, swept: Swept) -> list[Figure]:
    """Return one chart for each metric: its mean over the seeds, with its interval, against the value.

    What a mean over tasks is in single tasks is not drawn.
    """
    contenders = [each for each in comparison.contenders if each.row.name in swept.values]
    return [
        sweep(metric, points, key=swept.key)
        for metric in overall(metric_names([each.row for each in contenders]))
        if (points := _points(contenders, metric, swept))
    ]


def note(comparison: Comparison) -> str:
    """Return what the charts show, in one sentence."""
    return (
        f"Means over the seeds, with the 95 % intervals of a bootstrap over {comparison.unit} where a metric "
        f"is one of single {comparison.unit}."
    )


def _points(contenders: Sequence[Contender], metric: str, swept: Swept) -> list[Point]:
    return [
        Point(_place(swept.values[each.row.name]), value.mean, each.limits.get(metric))
        for each in contenders
        if (value := each.row.values.get(metric)) and not math.isnan(value.mean)
    ]


def _place(value: Any) -> float | str:
    """Return where a value stands on the axis; what is no number, by its name."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else written(value)
