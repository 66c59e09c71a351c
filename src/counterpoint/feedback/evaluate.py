"""Evaluation label by label: AUC over all rows and user by user, log loss, calibration; floors beside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from counterpoint.comparison.significance import intervals
from counterpoint.feedback.baselines import floors
from counterpoint.feedback.data.store import Rows, Store
from counterpoint.feedback.models.building import Model
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.feedback.scoring import score
from counterpoint.metrics.calibration import Calibration, calibration
from counterpoint.metrics.evaluated import OPTIMUM, Evaluated, Evaluation, floor_warnings, told
from counterpoint.metrics.groups import (
    UserAUC,
    Weight,
    auc,
    auc_contributions,
    log_loss,
    mean_contributions,
    user_auc,
)
from counterpoint.progress import Progress, silent

_SMALLEST_SLICE = 100  # rows
_SLICED = ("auc", "gauc")
_GROUPS = 4
_Metrics = dict[str, float]


def evaluate(
    model: Model,
    recipe: FeedbackRecipe,
    store: Store,
    split: str,
    progress: Progress = silent,
    *,
    with_floors: bool = True,
) -> Evaluated:
    """Score the rows of a split for every task of the model.

    Each task has an AUC over all rows, a GAUC over the users that have both labels (where the log has users),
    a log loss and an expected calibration error; their means over the tasks come first (paper 5's AV-A, eq.
    12, and AV-G, eq. 13). A task whose label is the same in all rows has no AUC and is left out of its mean.

    What is kept of each user is the user's contribution to a metric: `counterpoint.metrics.groups`.

    Args:
        model: the network, or networks.
        recipe: it was trained with.
        store: whose columns it takes.
        split: the split.
        progress: told how many rows are scored, and how many floors and slices are.
        with_floors: compute floors, slices and intervals too; validation while training needs none.

    Raises:
        UsageError: no such split.
        CounterpointError: the model's scores are not finite.
    """
    rows = store.rows(split)
    tasks = model.schema.labels
    truth = _Truth.of(rows, store, tasks, recipe.evaluation.gauc_weight)
    logits = score(model, rows, progress)
    found = _found(logits, _sigmoid(logits), truth)
    record: Evaluation = {"split": split, "unit": store.unit, "metrics": told(found.metrics)}
    if not with_floors:
        return Evaluated.of(record, {}, {})
    per_unit = _contributions(logits, _sigmoid(logits), found, truth)
    known = {name: values for name, values in per_unit.items() if not np.isnan(values).any()}
    record["intervals"] = intervals(known)
    record["floors"] = _floors(store, rows, truth, progress)
    record["slices"] = _slices(logits, truth, rows, store, progress)
    record["calibration"] = {
        task: {
            "predicted": curve.predicted.tolist(),
            "observed": curve.observed.tolist(),
            "rows": curve.rows.tolist(),
        }
        for task, curve in zip(tasks, found.curves, strict=True)
    }
    record["counts"] = _counts(truth, found, rows, store)
    record["warnings"] = [*_constant(truth), *floor_warnings(record)]
    return Evaluated.of(record, per_unit, {})


@dataclass(frozen=True)
class _Truth:
    """The labels of a split, and whose rows they are.

    Attributes:
        tasks: what the labels are called.
        labels: of each row.
        users: of each row, numbered from 0 without gaps.
        count: how many users there are.
        weight: of a user in GAUC; none where there are no users, and so no GAUC.
    """

    tasks: tuple[str, ...]
    labels: Bool[np.ndarray, "rows tasks"]
    users: Int[np.ndarray, " rows"]
    count: int
    weight: Weight | None

    @classmethod
    def of(cls, rows: Rows, store: Store, tasks: tuple[str, ...], weight: Weight) -> "_Truth":
        """Take the tasks' labels of a split."""
        some, users = np.unique(rows.users, return_inverse=True)
        labels = rows.labels[:, store.positions(tasks)] > 0
        return cls(tasks, labels, users, len(some), weight if store.unit == "users" else None)

    def part(self, inside: Bool[np.ndarray, " rows"]) -> "_Truth":
        """Return some of the rows."""
        some, users = np.unique(self.users[inside], return_inverse=True)
        return _Truth(self.tasks, self.labels[inside], users, len(some), self.weight)


@dataclass(frozen=True)
class _Found:
    """What some scores reach: the metrics, and what they were made of, task by task."""

    metrics: _Metrics
    by_user: Sequence[UserAUC]
    curves: Sequence[Calibration]


def _judged(probabilities: Float[np.ndarray, "rows tasks"], truth: _Truth) -> _Metrics:
    """Return the metrics of a floor but for its calibration, which rates have without telling anything."""
    metrics = _found(probabilities, probabilities, truth).metrics
    return {name: value for name, value in metrics.items() if name.rpartition("/")[2] != "ece"}


def _found(
    scores: Float[np.ndarray, "rows tasks"], probabilities: Float[np.ndarray, "rows tasks"], truth: _Truth
) -> _Found:
    """Return all metrics: the means over the tasks, then those of each task."""
    of_tasks: dict[str, dict[str, float]] = {"auc": {}, "gauc": {}, "loss": {}, "ece": {}}
    by_user, curves = [], []
    for place, task in enumerate(truth.tasks):
        own, labels = scores[:, place], truth.labels[:, place]
        predicted = probabilities[:, place].astype(np.float64)
        of_tasks["auc"][task] = auc(own, labels)
        if truth.weight is not None:
            by_user.append(user_auc(own, labels, truth.users))
            of_tasks["gauc"][task] = by_user[-1].mean(truth.weight)
        of_tasks["loss"][task] = log_loss(predicted, labels)
        curves.append(calibration(predicted, labels))
        of_tasks["ece"][task] = curves[-1].error
    means = {name: _mean(list(values.values())) for name, values in of_tasks.items() if values}
    apart = {f"{task}/{name}": value for name, values in of_tasks.items() for task, value in values.items()}
    return _Found({**means, **apart}, by_user, curves)


def _contributions(
    scores: Float[np.ndarray, "rows tasks"],
    probabilities: Float[np.ndarray, "rows tasks"],
    found: _Found,
    truth: _Truth,
) -> dict[str, Float[np.ndarray, " units"]]:
    """Return each user's contribution to AUC, GAUC and log loss, to their means over the tasks first."""
    of_tasks: dict[str, dict[str, Float[np.ndarray, " units"]]] = {"auc": {}, "gauc": {}, "loss": {}}
    rows = np.bincount(truth.users, minlength=truth.count)
    for place, task in enumerate(truth.tasks):
        labels = truth.labels[:, place]
        of_tasks["auc"][task] = auc_contributions(scores[:, place], labels, truth.users, truth.count)
        if truth.weight is not None:
            by_user = found.by_user[place]
            of_tasks["gauc"][task] = mean_contributions(by_user.per_user, _weights(by_user, truth.weight))
        losses = _losses(probabilities[:, place].astype(np.float64), labels)
        sums = np.bincount(truth.users, weights=losses, minlength=truth.count)
        of_tasks["loss"][task] = mean_contributions(sums / rows, rows)
    means = {name: _mean_of_tasks(list(values.values())) for name, values in of_tasks.items() if values}
    apart = {f"{task}/{name}": value for name, values in of_tasks.items() for task, value in values.items()}
    return {**means, **apart}


def _weights(by_user: UserAUC, weight: Weight) -> Float[np.ndarray, " users"]:
    """Return the weight of each user in GAUC, 0 for those that do not count."""
    weights = {
        "impressions": by_user.rows,
        "positives": by_user.positives,
        "uniform": np.ones(len(by_user.rows)),
    }[weight]
    return np.where(np.isnan(by_user.per_user), 0.0, weights)


def _losses(
    probabilities: Float[np.ndarray, " rows"], labels: Bool[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Return the cross-entropy of each row, as `log_loss` averages it."""
    margin = np.finfo(probabilities.dtype).eps
    kept = np.clip(probabilities, margin, 1 - margin)
    losses: Float[np.ndarray, " rows"] = -np.where(labels, np.log(kept), np.log1p(-kept))
    return losses


def _mean(values: Sequence[float]) -> float:
    """Return the mean of those that are known."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _mean_of_tasks(values: Sequence[Float[np.ndarray, " units"]]) -> Float[np.ndarray, " units"]:
    """Return the mean over the tasks of those that are known."""
    known = [each for each in values if not np.isnan(each).any()]
    mean: Float[np.ndarray, " units"] = np.mean(known, axis=0) if known else values[0]
    return mean


def _floors(
    store: Store, rows: Rows, truth: _Truth, progress: Progress
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of each floor, and of the true probabilities in simulated data."""
    places = store.positions(truth.tasks)
    rivals = floors(store.rows("train"), rows, places, users=store.unit == "users")
    if rows.truth is not None:
        rivals[OPTIMUM] = np.asarray(rows.truth[:, places], dtype=np.float64)
    found = {}
    for done, (name, probabilities) in enumerate(rivals.items(), 1):
        found[name] = told(_judged(probabilities, truth))
        progress("scoring floors", done, len(rivals))
    return found


def _slices(
    logits: Float[np.ndarray, "rows tasks"], truth: _Truth, rows: Rows, store: Store, progress: Progress
) -> dict[str, dict[str, float | None]]:
    """Return AUC and GAUC of rows in about equal groups, by the training rows of their users and items."""
    train = store.rows("train")
    sides = {"users": (train.users, rows.users)} if store.unit == "users" else {}
    if train.items is not None and rows.items is not None:
        sides["items"] = train.items, rows.items
    found: dict[str, dict[str, float | None]] = {}
    for done, (name, (trained, scored)) in enumerate(sides.items(), 1):
        size = 1 + max(int(trained.max(initial=0)), int(scored.max(initial=0)))
        met = np.bincount(trained, minlength=size)[scored]
        for first, last in _ranges(met):
            inside = (met >= first) & (met <= last)
            if inside.sum() >= _SMALLEST_SLICE:
                part = truth.part(inside)
                metrics = _found(logits[inside], _sigmoid(logits[inside]), part).metrics
                shown = {metric: value for metric, value in metrics.items() if metric in _SLICED}
                span = f"{first}" if first == last else f"{first} to {last}"
                found[f"{name} with {span} training rows"] = {store.unit: part.count, **told(shown)}
        progress("scoring slices", done, len(sides))
    return found


def _ranges(counts: Int[np.ndarray, " rows"]) -> Sequence[tuple[int, int]]:
    """Return ranges of counts, ends included, that split the rows into about equal groups."""
    if not len(counts):
        return []
    shares = np.arange(1, _GROUPS + 1) / _GROUPS
    ends = np.unique(np.quantile(counts, shares, method="lower")).astype(int).tolist()
    begins = [int(counts.min()), *(end + 1 for end in ends[:-1])]
    return list(zip(begins, ends, strict=True))


def _counts(truth: _Truth, found: _Found, rows: Rows, store: Store) -> dict[str, int]:
    """Count rows and users, and for each task the positive rows and those that GAUC takes."""
    counts = {"rows": len(rows), store.unit: truth.count}
    for place, task in enumerate(truth.tasks):
        counts[f"{task}: positive rows"] = int(truth.labels[:, place].sum())
        if truth.weight is not None:
            by_user = found.by_user[place]
            counted = ~np.isnan(by_user.per_user)
            counts[f"{task}: users that count in GAUC"] = int(counted.sum())
            counts[f"{task}: their rows"] = int(by_user.rows[counted].sum())
    return counts


def _constant(truth: _Truth) -> list[str]:
    """Return a sentence for every task that cannot be ranked."""
    positive = truth.labels.sum(axis=0)
    return [
        f"All {len(truth.labels)} rows have the same label {task!r}: it has no AUC and is left out of means."
        for task, count in zip(truth.tasks, positive.tolist(), strict=True)
        if count in (0, len(truth.labels))
    ]


def _sigmoid(logits: Float[np.ndarray, "rows tasks"]) -> Float[np.ndarray, "rows tasks"]:
    """Return probabilities, in double precision."""
    values = logits.astype(np.float64)
    small = np.exp(-np.abs(values))
    probabilities: Float[np.ndarray, "rows tasks"] = np.where(values >= 0, 1.0, small) / (1 + small)
    return probabilities
