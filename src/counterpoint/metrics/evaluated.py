"""What an evaluation says: its record, what it was averaged from, and what its metrics' names mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from typing_extensions import TypedDict

OPTIMUM = "optimum (simulated)"  # reported among the floors by simulated data, but a ceiling
_FALLING = frozenset({"ece", "loss", "mae", "mse", "rmse"})


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


def told(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as files hold them: nothing where there was nothing to measure."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def unit_of(evaluation: Evaluation) -> str:
    """Return what an evaluation's metrics are averaged over, in the plural."""
    return evaluation.get("unit", "units")


def floor_warnings(evaluation: Evaluation) -> list[str]:
    """Return one sentence for every floor that the model does not beat, or cannot be said to beat."""
    metrics = evaluation.get("metrics", {})
    warnings = []
    for name, floor in evaluation.get("floors", {}).items():
        lost = [
            f"{metric} {shown(metrics[metric])} against {shown(value)}"
            for metric, value in floor.items()
            if name != OPTIMUM and metric in metrics and metric in overall(list(metrics))
            if not beats(metric, _known(metrics[metric]), _known(value))
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


def shown(value: float | None) -> str:
    """Return a metric as tables show it; what could not be measured is a dash."""
    return "—" if value is None or math.isnan(value) else f"{value:.4f}"


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)
