"""Does the auxiliary task pay? What it brings the target, how often it conflicts and what a step costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from counterpoint.comparison.significance import Interval
from counterpoint.runs.records import Group, RunRecord, Series


@dataclass(frozen=True)
class Payoff:
    """What the auxiliary tasks of a recipe did.

    Attributes:
        label: the multi-task recipe.
        against: the single-task recipe beside it.
        gain: in the target's metric.
        conflict_rate: share of the steps in which the target's gradient and the auxiliaries' together had a
            negative cosine; none where no step took both.
        norm_ratio: median over the steps of the norm of the auxiliaries' sum over that of the target, before
            the balancing method weighs them; none where it is not known.
        step_cost: median time of a step over that of the single-task recipe.
    """

    label: str
    against: str
    gain: Interval
    conflict_rate: float | None
    norm_ratio: float | None
    step_cost: float | None


@dataclass(frozen=True)
class Auxiliaries:
    """All auxiliary gradients of a run as one, set against the target's.

    Attributes:
        conflict_rate: share of the steps with a negative inner product.
        cosine: at each step; none where the auxiliary gradients' own inner products are not known.
        ratio: their norm over the target's; likewise.
    """

    conflict_rate: float
    cosine: Series | None
    ratio: Series | None


def tasks(run: RunRecord) -> Sequence[str]:
    """Return the tasks that a run learned: the target alone where the method left the others out."""
    every = list(run.balance.get("losses", run.training.get("losses", {})))
    alone = run.settings.get("balance", {}).get("method") == "single"
    return [run.facts.get("target", every[0])] if alone and every else every


def target(run: RunRecord) -> str | None:
    """Return the target task: as noted, else the first."""
    return run.facts.get("target") or next(iter(tasks(run)), None)


def single_task(groups: Sequence[Group], baseline: str) -> Group | None:
    """Return the group that learned the target task alone: the baseline if it did, else the first."""
    alone = [group for group in groups if len(tasks(group.runs[0])) == 1]
    return next((group for group in alone if group.label == baseline), next(iter(alone), None))


def auxiliaries(run: RunRecord) -> Auxiliaries | None:
    """Return the merged auxiliary gradients of a run, from its log of norms and cosines.

    Where a method took them as one gradient a, that one is meant. Where it took every gₖ by itself, a = Σ gₖ,
    ⟨g_t, a⟩ = Σ ‖g_t‖ ‖gₖ‖ cos(g_t, gₖ) and ‖a‖² = Σⱼₖ ‖gⱼ‖ ‖gₖ‖ cos(gⱼ, gₖ). Nothing where no step took
    the target's gradient apart from the others.
    """
    main, norms = target(run), run.balance.get("norms", {})
    merged = [name for name in norms if "+" in name and main not in name.split("+")]
    others = merged[:1] or [name for name in norms if "+" not in name and name != main]
    if main is None or main not in norms or not others:
        return None
    steps = norms[main].steps
    gramian = _gramian([main, *others], steps, norms, run.balance.get("cosines", {}))
    inner, squares = gramian[0, 1:].sum(axis=0), gramian[1:, 1:].sum(axis=(0, 1))
    known = ~np.isnan(inner)
    if not known.any():
        return None
    conflict_rate = float((inner[known] < 0).mean())
    usable = known & (squares > 0) & (gramian[0, 0] > 0)
    if not usable.any():
        return Auxiliaries(conflict_rate, None, None)
    length, norm = np.sqrt(gramian[0, 0, usable]), np.sqrt(squares[usable])
    cosine = np.clip(inner[usable] / (length * norm), -1.0, 1.0)
    return Auxiliaries(conflict_rate, Series(steps[usable], cosine), Series(steps[usable], norm / length))


def payoff(group: Group, against: Group, gain: Interval) -> Payoff:
    """Return what the auxiliary tasks of ``group`` did, averaged over its seeds."""
    known = [each for each in map(auxiliaries, group.runs) if each is not None]
    ratios = [float(np.median(each.ratio.values)) for each in known if each.ratio is not None]
    paces = [
        [pace for run in each.runs if (pace := run.facts.get("seconds per step")) is not None]
        for each in (group, against)
    ]
    return Payoff(
        label=group.label,
        against=against.label,
        gain=gain,
        conflict_rate=float(np.mean([each.conflict_rate for each in known])) if known else None,
        norm_ratio=float(np.mean(ratios)) if ratios else None,
        step_cost=float(np.mean(paces[0]) / np.mean(paces[1])) if all(paces) else None,
    )


def _gramian(
    names: Sequence[str],
    steps: Int[np.ndarray, " steps"],
    norms: Mapping[str, Series],
    cosines: Mapping[str, Series],
) -> Float[np.ndarray, "rows rows steps"]:
    """Return the inner products of some gradients at each step, NaN where one is not known."""
    lengths = [_at(norms[name], steps) for name in names]
    gramian = np.full((len(names), len(names), len(steps)), np.nan)
    for i, first in enumerate(names):
        gramian[i, i] = np.square(lengths[i])
        for j, second in enumerate(names):
            pair = cosines.get(f"{first}|{second}")
            if pair is not None:
                gramian[i, j] = gramian[j, i] = lengths[i] * lengths[j] * _at(pair, steps)
    return gramian


def _at(series: Series, steps: Int[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Return the values at ``steps``, NaN where there is none."""
    values = np.full(len(steps), np.nan)
    _, here, there = np.intersect1d(steps, series.steps, return_indices=True)
    values[here] = series.values[there]
    return values
