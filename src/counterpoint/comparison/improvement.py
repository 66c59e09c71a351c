"""What tasks gain over networks of their own: paper 5's relative improvements RI-A and RI-G."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from counterpoint.comparison.significance import Interval, bootstraps, mean_and_spread
from counterpoint.errors import CounterpointError
from counterpoint.metrics.evaluated import by_task
from counterpoint.metrics.groups import average
from counterpoint.runs.records import Group

_METRICS = ("auc", "gauc")


@dataclass(frozen=True)
class Gain:
    """A relative improvement.

    Attributes:
        interval: of the mean over the seeds, by bootstrap over the units that metrics are averaged over.
        spread: sample standard deviation over the seeds; NaN for one.
    """

    interval: Interval
    spread: float


@dataclass(frozen=True)
class Improvement:
    """What a recipe gains over separate networks of the same tasks.

    Attributes:
        label: the recipe.
        against: the recipe of the separate networks.
        gains: by metric, as shares: 0.01 is one percent.
    """

    label: str
    against: str
    gains: Mapping[str, Gain]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        gains = {
            metric: {**gain.interval._asdict(), "sd": gain.spread} for metric, gain in self.gains.items()
        }
        return {"label": self.label, "against": self.against, "gains": gains}


def improvements(
    groups: Sequence[Group], means: Mapping[str, Mapping[str, Float[np.ndarray, " units"]]], split: str
) -> list[Improvement]:
    """Set every recipe beside the separate networks of the same tasks, where there are any.

        RI = 1/T Σ_t (metric_t - metric_t of Single) / metric_t of Single        (paper 5, eqs. 14 and 15)

    Args:
        groups: evaluated runs.
        means: of each recipe, the mean over the seeds of each metric of each unit.
        split: that they were evaluated on.
    """
    separate = [group for group in groups if group.runs[0].facts.get("separate")]
    found = []
    for group in groups:
        parts = by_task(list(means[group.label]))
        single = next((each for each in separate if by_task(list(means[each.label])) == parts), None)
        if single is None or group in separate or not parts:
            continue
        gains = {
            metric: gain
            for metric in _METRICS
            if metric in parts and (gain := _gain(group, single, parts[metric], means, split)) is not None
        }
        if gains:
            found.append(Improvement(group.label, single.label, gains))
    return found


def relative_improvement(of_tasks: Mapping[str, float], single: Mapping[str, float]) -> float:
    """Return the mean over tasks of what is gained over a model of each task alone, relative to that one.

        RI = 1/T Σ_k (metric_k - single_k) / single_k

    Paper 5's RI-A of AUCs (eq. 14), its RI-G of GAUCs (eq. 15).

    Raises:
        CounterpointError: a task has no model of its own to compare with.
    """
    missing = [task for task in of_tasks if task not in single]
    if missing:
        raise CounterpointError(
            f"The task {missing[0]!r} has no model of its own to compare with; train one for each task first."
        )
    return average({task: (value - single[task]) / single[task] for task, value in of_tasks.items()})


def _gain(
    group: Group,
    single: Group,
    metrics: Sequence[str],
    means: Mapping[str, Mapping[str, Float[np.ndarray, " units"]]],
    split: str,
) -> Gain | None:
    """Return the gain in one metric over the tasks that both have it of."""
    ours, theirs = means[group.label], means[single.label]
    known = [name for name in metrics if not np.isnan(ours[name]).any() and not np.isnan(theirs[name]).any()]
    base = {name: float(theirs[name].mean()) for name in known}
    if not known or not all(base.values()):
        return None
    relative = np.mean([(ours[name] - theirs[name]) / base[name] for name in known], axis=0)
    by_seed = []
    for run in group.runs:
        measured = run.evaluations[split].get("metrics", {})
        by_seed.append(relative_improvement({name: float(measured[name] or 0.0) for name in known}, base))
    return Gain(bootstraps(relative[:, None])[0], mean_and_spread(by_seed)[1])
