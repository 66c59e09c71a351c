"""Evaluations side by side: models above the floors they must beat."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from rich.table import Table
from rich.text import Text
from typing_extensions import TypedDict

from counterpoint.comparison.significance import mean_and_spread

OPTIMUM = "optimum (simulated)"  # reported among the floors by simulated data, but a ceiling
_FALLING = frozenset({"ece", "loss", "mae", "mse", "rmse"})
_HEADER = 9  # characters of a column's header: six columns fit into 80 with the models' names


class Evaluation(TypedDict, total=False):
    """What an evaluation file holds.

    Attributes:
        split: what was evaluated.
        unit: what metrics are averaged over, in the plural: impressions, users.
        metrics: the model's; those of an auxiliary task are named task/metric.
        intervals: 95 % limits of some of them.
        floors: the metrics of each floor on the same units.
        slices: metrics, and under the unit's name the number of units, of parts of the split.
        editorial: by ranking (``model``, ``clicks``, a floor's name), what it would put before the readers.
        calibration: by task, of rows in bins by their probability: its mean (``predicted``), the share that
            was positive (``observed``) and their number (``rows``).
        confusions: by task, how often each class (row) was given each answer (column).
        missed: by task, the examples that are farthest off: ``texts``, ``label``, ``answer`` and, of classes,
            the answer's ``certainty``.
        counts: units scored, skipped, and whatever else was counted.
        warnings: sentences for the reader of the report.
        data: ``store``, where the prepared store stands, the split's ``fingerprint``, where it has one, and
            what of it is ``simulated``: ``data``, ``articles`` or nothing.
        trained: whether the run's training had come to its end.
    """

    split: str
    unit: str
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    floors: dict[str, dict[str, float | None]]
    slices: dict[str, dict[str, float | None]]
    editorial: dict[str, dict[str, float | None]]
    calibration: dict[str, dict[str, list[float]]]
    confusions: dict[str, list[list[int]]]
    missed: dict[str, list[dict[str, Any]]]
    counts: dict[str, Any]
    warnings: list[str]
    data: dict[str, Any]
    trained: bool


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and what it was averaged from.

    Attributes:
        record: what the evaluation file holds.
        per_unit: from a metric's name, or ``floor/NAME/metric``, to its value for each unit of the split, in
            the split's order; NaN where it is not scored. Their mean is the metric.
    """

    record: Evaluation
    per_unit: dict[str, Float[np.ndarray, " units"]]

    @classmethod
    def of(
        cls,
        record: Evaluation,
        metrics: Mapping[str, Float[np.ndarray, " units"]],
        floors: Mapping[str, Mapping[str, Float[np.ndarray, " units"]]],
    ) -> Self:
        """Put the model's metrics and those of each floor beside the record."""
        beside = {
            f"floor/{name}/{metric}": values
            for name, floor in floors.items()
            for metric, values in floor.items()
        }
        return cls(record, {**metrics, **beside})


def measured(evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics of the model that the split could give."""
    return {name: value for name, value in evaluation["metrics"].items() if value is not None}


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
        if math.isnan(self.mean):
            return "—"
        return f"{self.mean:.4f}" if math.isnan(self.spread) else f"{self.mean:.4f} ± {self.spread:.4f}"


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


def comparison(evaluations: Mapping[str, Sequence[Evaluation]]) -> list[Row]:
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


def unit_of(evaluation: Evaluation) -> str:
    """Return what an evaluation's metrics are averaged over, in the plural."""
    return evaluation.get("unit", "units")


def floor_warnings(evaluation: Evaluation) -> list[str]:
    """Return one sentence for every floor that the model does not beat, or cannot be said to beat."""
    metrics = evaluation.get("metrics", {})
    warnings = []
    for name, floor in evaluation.get("floors", {}).items():
        lost = [
            f"{metric} {Value(_number(metrics[metric]))} against {Value(_number(value))}"
            for metric, value in floor.items()
            if name != OPTIMUM and metric in metrics and metric in overall(list(metrics))
            if not beats(metric, _number(metrics[metric]), _number(value))
        ]
        if lost:
            warnings.append(f"The model does not beat the {name} floor: {', '.join(lost)}.")
    return warnings


def beats(metric: str, value: float, other: float) -> bool:
    """Whether ``value`` is strictly better; NaN beats nothing and is beaten by nothing."""
    return value < other if metric.rpartition("/")[2] in _FALLING else value > other


def overall(metrics: Sequence[str]) -> list[str]:
    """Return the metrics that are no single task's part of another: auc, but not like/auc beside it."""
    parts = {name for names in by_task(metrics).values() for name in names}
    return [metric for metric in metrics if metric not in parts]


def by_task(metrics: Sequence[str]) -> dict[str, list[str]]:
    """Return, for each metric that is a mean over tasks, its parts: like/auc and click/auc of auc."""
    parts: dict[str, list[str]] = {}
    for metric in metrics:
        task, _, name = metric.rpartition("/")
        if task and name in metrics:
            parts.setdefault(name, []).append(metric)
    return parts


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


def terminal_table(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> Table:
    """Return the rows as a table for the terminal: best in bold, what does not beat a floor in red.

    Args:
        rows: models and floors.
        metrics: the columns; by default all there are.
    """
    metrics = metric_names(rows) if metrics is None else metrics
    leaders = {metric: best(rows, metric) for metric in metrics}
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold", min_width=12)
    # Long names and spreads break over lines, so that six metrics fit into 80 columns.
    for metric in metrics:
        table.add_column(Text("\n".join(_broken(metric))), justify="right", no_wrap=True)
    for row in rows:
        cells = [
            Text(
                str(row.values.get(metric, "")).replace(" ± ", "\n±"),
                style=" ".join(["bold"] * (leaders[metric] is row) + ["red"] * (metric in row.lost)),
            )
            for metric in metrics
        ]
        seeds = f" ({row.seeds} seeds)" if row.seeds > 1 else ""
        table.add_row(Text(row.name + seeds), *cells, style="" if row.kind is Kind.MODEL else "dim")
    return table


def _broken(metric: str) -> list[str]:
    """Return a metric's name in lines: broken behind a slash, and where a part is longer than a number is."""
    task, slash, name = metric.rpartition("/")
    parts = [part for part in (task + slash, name) if part]
    # Halves of about the same length: a slash alone on its line looks like a mistake.
    widths = [math.ceil(len(part) / math.ceil(len(part) / _HEADER)) for part in parts]
    return [line for part, width in zip(parts, widths, strict=True) for line in textwrap.wrap(part, width)]


def _floor(name: str, evaluations: Sequence[Evaluation]) -> Row:
    measured = [floors[name] for floors in (each.get("floors", {}) for each in evaluations) if name in floors]
    agree = all(metrics == measured[0] for metrics in measured)
    kind = Kind.OPTIMUM if name == OPTIMUM else Kind.FLOOR
    return Row(name, kind, pooled(measured[:1] if agree else measured))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
