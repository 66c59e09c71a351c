"""Where models stand: each over its seeds, above the floors that it must beat or not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

from counterpoint.comparison.significance import mean_and_spread
from counterpoint.metrics.evaluated import OPTIMUM, Evaluation, beats, shown


class Kind(Enum):
    """What a row of a table stands for."""

    MODEL = "model"
    FLOOR = "floor"
    OPTIMUM = "optimum"


@dataclass(frozen=True)
class Value:
    """A metric over seeds, or of one run.

    Attributes:
        mean: the mean over seeds.
        spread: the sample standard deviation; NaN for one run and for a floor that is the same in all.
        limits: the 95 % interval of a single run, where it was computed.
    """

    mean: float
    spread: float = math.nan
    limits: tuple[float, float] | None = None

    @classmethod
    def of(cls, value: float | None) -> Self:
        """Return what one run measured; nothing is NaN."""
        return cls(_number(value))

    def __str__(self) -> str:
        spread = "" if math.isnan(self.mean) or math.isnan(self.spread) else f" ± {self.spread:.4f}"
        return shown(self.mean) + spread


@dataclass(frozen=True)
class Row:
    """One line of a table: a model over its seeds, or a floor.

    Attributes:
        name: of the model or floor.
        kind: which of them it is.
        values: by metric.
        seeds: how many runs of a model are averaged.
        lost: the metrics in which a model does not beat every floor.
    """

    name: str
    kind: Kind
    values: Mapping[str, Value]
    seeds: int = 1
    lost: frozenset[str] = frozenset()


def standing(evaluations: Mapping[str, Sequence[Evaluation]]) -> list[Row]:
    """Return a row for each model, then one for each floor, then the optimum where it is known.

    Args:
        evaluations: by the model's name, one evaluation of the same split for each seed.
    """
    every = [evaluation for seeds in evaluations.values() for evaluation in seeds]
    names = dict.fromkeys(name for evaluation in every for name in evaluation.get("floors", {}))
    floors = [_floor(name, every) for name in sorted(names, key=lambda name: name == OPTIMUM)]
    models = []
    for name, seeds in evaluations.items():
        values = pooled([evaluation.get("metrics", {}) for evaluation in seeds])
        if len(seeds) == 1:
            limits = seeds[0].get("intervals", {})
            values = {
                metric: Value(value.mean, limits=limits.get(metric)) for metric, value in values.items()
            }
        lost = frozenset(
            metric
            for metric, value in values.items()
            for floor in floors
            if floor.kind is Kind.FLOOR and metric in floor.values
            if not beats(metric, value.mean, floor.values[metric].mean)
        )
        models.append(Row(name, Kind.MODEL, values, len(seeds), lost))
    return models + floors


def pooled(measured: Sequence[Mapping[str, float | None]]) -> dict[str, Value]:
    """Return the mean of every metric over the runs that measured it, and its spread."""
    result = {}
    for metric in dict.fromkeys(name for metrics in measured for name in metrics):
        values = [_number(metrics[metric]) for metrics in measured if metric in metrics]
        result[metric] = Value(*mean_and_spread(values))
    return result


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Return the metrics of the rows, in order of first appearance."""
    return list(dict.fromkeys(metric for row in rows for metric in row.values))


def best(rows: Sequence[Row], metric: str) -> Row | None:
    """Return the row, the optimum apart, that is best in ``metric``; None when fewer than two compete."""
    rivals = [
        row
        for row in rows
        if row.kind is not Kind.OPTIMUM and metric in row.values and not math.isnan(row.values[metric].mean)
    ]
    if len(rivals) < 2:
        return None
    leader = rivals[0]
    for rival in rivals[1:]:
        if beats(metric, rival.values[metric].mean, leader.values[metric].mean):
            leader = rival
    return leader


def _floor(name: str, evaluations: Sequence[Evaluation]) -> Row:
    measured = [floors[name] for floors in (each.get("floors", {}) for each in evaluations) if name in floors]
    agree = all(metrics == measured[0] for metrics in measured)
    kind = Kind.OPTIMUM if name == OPTIMUM else Kind.FLOOR
    return Row(name, kind, pooled(measured[:1] if agree else measured))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
