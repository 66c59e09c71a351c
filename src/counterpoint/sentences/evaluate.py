"""Evaluation of all tasks: metrics, floors beside them, what is confused and what is missed most."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from counterpoint.comparison.significance import intervals
from counterpoint.errors import UsageError
from counterpoint.metrics.agreement import accuracy, confusion, f1, pearson, spearman
from counterpoint.metrics.evaluated import Evaluated, Evaluation, floor_warnings, told
from counterpoint.progress import Progress, silent
from counterpoint.sentences.baselines import floors
from counterpoint.sentences.data.store import Rows, Store
from counterpoint.sentences.model import SentenceModel
from counterpoint.sentences.recipe import SentencesRecipe, Task
from counterpoint.sentences.scoring import Answers, answers

OVERALL = "overall"
TRAINED = "trained"
_SHOWN = 10

_ByRow = dict[str, Float[np.ndarray, " rows"]]


def evaluate(
    model: SentenceModel,
    recipe: SentencesRecipe,
    store: Store,
    split: str,
    progress: Progress = silent,
    *,
    with_floors: bool = True,
) -> Evaluated:
    """Answer every task's rows of a split and score the answers.

    Classes have the accuracy, and the F1 of class 1 where there are two; scores Pearson's and Spearman's
    correlation. ``overall`` is the mean of the accuracies and Pearson correlations, ``trained`` that of the
    trained tasks where there are others. Units are the rows of all tasks, in the store's order of tasks; a
    task's metrics are NaN on the rows of others. Warnings tell which tasks have no rows or no floors, and
    what was set aside or cut.

    Args:
        model: the model.
        recipe: it was trained with.
        store: whose rows are answered.
        split: the split; tasks without rows in it are left out.
        progress: told how far the answers and the floors are.
        with_floors: compute floors, intervals and all else too; validation while training needs none.

    Raises:
        UsageError: the split has no rows with answers.
    """
    if split == "unlabelled":
        raise UsageError(
            "the unlabelled split has no answers to evaluate with; write its predictions with submit."
        )
    rows = rows_of(recipe, store, split)
    given = answers(model, store, recipe.task, rows, progress)
    metrics = by_unit(recipe, rows, given)
    record: Evaluation = {"split": split, "unit": "examples", "metrics": _means(metrics)}
    if not with_floors:
        return Evaluated.of(record, metrics, {})
    beside, left_out = floors(recipe, store, rows, progress)
    rivals = {name: by_unit(recipe, rows, floor) for name, floor in beside.items()}
    for rival in rivals.values():
        rival.pop(TRAINED, None)  # floors train nothing, and are the same whatever a recipe trains
    record["intervals"] = _intervals(metrics)
    record["floors"] = {name: _means(floor) for name, floor in rivals.items()}
    record["slices"] = {}
    record["confusions"] = {
        name: confusion(_classes(given[name].values), _classes(rows[name].labels), task.classes).tolist()
        for name, task in recipe.task.items()
        if name in rows and task.classes is not None
    }
    record["missed"] = {name: _missed(store, recipe.task[name], rows[name], given[name]) for name in rows}
    record["counts"] = {
        "examples": sum(map(len, rows.values())),
        **{f"{name} rows": len(of_task) for name, of_task in rows.items()},
    }
    record["warnings"] = [
        *_missing(recipe, rows, split),
        *set_aside(recipe, store, (split,)),
        *_cut(recipe, store, rows, split),
        *left_out,
        *floor_warnings(record),
    ]
    return Evaluated.of(record, metrics, rivals)


def rows_of(recipe: SentencesRecipe, store: Store, split: str) -> dict[str, Rows]:
    """Return the rows of every task of a recipe that has some in a split, in the store's order of tasks.

    Raises:
        UsageError: none has.
    """
    every = {name: store.rows(name, split) for name in store.tasks if name in recipe.tasks}
    some = {name: rows for name, rows in every.items() if len(rows)}
    if not some:
        raise UsageError(f"{store.path}: no task has rows in the split {split!r}; bring its file.")
    return some


def set_aside(recipe: SentencesRecipe, store: Store, splits: Sequence[str]) -> list[str]:
    """Return a sentence about the malformed rows of some splits, which have no answers, if there are any."""
    found = store.befell("set aside", recipe.in_order, splits)
    told = ", ".join(f"{number:,} of {name}" for name, number in found.items())
    rows = f"Malformed rows were set aside and have no answers: {told}; see {store.path / 'bad_rows.jsonl'}."
    return [rows] if found else []


def by_unit(recipe: SentencesRecipe, rows: Mapping[str, Rows], given: Mapping[str, Answers]) -> _ByRow:
    """Return every metric as values by unit whose mean over the units that have one is the metric.

    Of K tasks with means m_k over n_k rows each, ``overall`` is the mean of the m_k; a row of task k with the
    value x stands in it for overall + (n / n_k) (x - m_k) / K, with n all rows. The mean over all rows is
    ``overall`` exactly, and varies as that does when the rows of each task are drawn anew. Where some tasks
    are not answered there is no ``overall``.
    """
    by_task = {name: _metrics(recipe.task[name], rows[name], told) for name, told in given.items()}
    units = sum(map(len, rows.values()))
    ends = np.cumsum([len(of_task) for of_task in rows.values()])
    places = dict(zip(rows, (slice(*ends_of) for ends_of in _spans(ends)), strict=True))
    found: _ByRow = {}
    if len(by_task) == len(rows):
        found[OVERALL] = _combined(by_task, places, units)
        trained = [name for name in rows if name in recipe.trained]
        if 0 < len(trained) < len(rows):
            found[TRAINED] = _combined({name: by_task[name] for name in trained}, places, units)
    for name, metrics in by_task.items():
        for metric, values in metrics.items():
            found[f"{name}/{metric}"] = np.full(units, np.nan)
            found[f"{name}/{metric}"][places[name]] = values
    return found


def _missing(recipe: SentencesRecipe, rows: Mapping[str, Rows], split: str) -> list[str]:
    """Return a sentence about the tasks that a split has no rows of, if there are any."""
    names = ", ".join(name for name in recipe.in_order if name not in rows)
    told = f"The split {split} has no rows of {names}: overall is the mean of the other tasks alone."
    return [told] if names else []


def _cut(recipe: SentencesRecipe, store: Store, rows: Mapping[str, Rows], split: str) -> list[str]:
    """Return a sentence about the rows of a split whose sentences were cut, if there are any."""
    found = store.befell("cut", list(rows), (split,))
    told = ", ".join(f"{number:,} of {len(rows[name]):,} rows of {name}" for name, number in found.items())
    remedy = "train with a higher data.max_tokens to read more of them"
    cut = f"Sentences were cut at {recipe.data.max_tokens} word pieces in {told}; {remedy}."
    return [cut] if found else []


def _spans(ends: Int[np.ndarray, " tasks"]) -> list[tuple[int, int]]:
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def _combined(
    by_task: Mapping[str, _ByRow], places: Mapping[str, slice], units: int
) -> Float[np.ndarray, " units"]:
    """Return the mean of the tasks' first metrics by unit."""
    first = {name: next(iter(metrics.values())) for name, metrics in by_task.items()}
    overall = float(np.mean([values.mean() for values in first.values()]))
    scored = sum(len(values) for values in first.values())
    combined = np.full(units, np.nan)
    for name, values in first.items():
        combined[places[name]] = overall + scored / len(values) * (values - values.mean()) / len(first)
    return combined


def _metrics(task: Task, rows: Rows, given: Answers) -> _ByRow:
    """Return the metrics of a task by row, the one that decides first."""
    if task.classes is None:
        return {
            "pearson": pearson(given.values, rows.labels),
            "spearman": spearman(given.values, rows.labels),
        }
    found = {"accuracy": accuracy(given.values, rows.labels)}
    if task.classes == 2:
        found["f1"] = f1(given.values == 1, rows.labels == 1)
    return found


def _means(metrics: _ByRow) -> dict[str, float | None]:
    return told({name: float(np.nanmean(values)) for name, values in metrics.items()})


def _intervals(metrics: _ByRow) -> dict[str, tuple[float, float]]:
    """Return the intervals of all metrics; those of one task are judged on the same resamples."""
    groups: dict[str, _ByRow] = {}
    for name, values in metrics.items():
        groups.setdefault(name.partition("/")[0], {})[name] = values
    return {name: limits for group in groups.values() for name, limits in intervals(group).items()}


def _missed(store: Store, task: Task, rows: Rows, given: Answers) -> list[dict[str, Any]]:
    """Return the rows that are missed most: the surest of the wrong classes, or the scores farthest off."""
    off = np.abs(given.values - rows.labels)
    if given.certainty is not None:
        off = np.where(off > 0, given.certainty, 0.0)
    worst = np.argsort(-off, kind="stable")[:_SHOWN]
    worst = worst[off[worst] > 0]
    sides = [store.texts(side[worst]) for side in rows.sentences]
    return [
        {
            "texts": list(texts),
            "label": float(rows.labels[row]),
            "answer": float(given.values[row]),
            "certainty": None if given.certainty is None else float(given.certainty[row]),
        }
        for row, *texts in zip(worst.tolist(), *sides, strict=True)
    ]


def _classes(values: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    return values.astype(np.int64)
