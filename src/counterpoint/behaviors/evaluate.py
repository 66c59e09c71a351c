"""Evaluation by user: all items ranked, the first ones against what the user bought; floors beside."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from counterpoint.behaviors.baselines import floors, true_scorer
from counterpoint.behaviors.data.pairs import UNTRAINED
from counterpoint.behaviors.data.store import Interactions, RivalLists, Store
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.ranking import Scorer, listed, top_items
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.behaviors.scoring import scorer_of
from counterpoint.comparison.significance import intervals
from counterpoint.metrics.evaluated import OPTIMUM, Evaluated, Evaluation, floor_warnings
from counterpoint.metrics.topk import CUTOFFS, topk_metrics
from counterpoint.progress import Progress, named, silent

_DEPTH = max(CUTOFFS)
_SMALLEST_SLICE = 10
_GROUPS = 4

_Metrics = dict[str, Float[np.ndarray, " users"]]


def evaluate(
    model: BehaviorsNetwork,
    recipe: BehaviorsRecipe,
    store: Store,
    split: str,
    *,
    with_floors: bool = True,
    most_users: int | None = None,
    progress: Progress = silent,
) -> Evaluated:
    """Rank all items for every user who bought something in a split, and score the first ones.

    Scores are the logits of the target's tower, in float32 and without dropout; the model's mode does not
    matter and stays as it is. The mean is over the users with pairs in the split: a user without has no
    metric, and NaN in ``per_unit``, where users stand in the store's order.

    Args:
        model: the network.
        recipe: it was trained with; ``ranking.mask`` says what a ranking leaves out.
        store: whose users and items it knows.
        split: the split.
        with_floors: compute floors, slices and intervals too; validation while training needs none.
        most_users: rank for no more users than these, the same ones in every call and for every model;
            default: for all.
        progress: told how many users are ranked.

    Raises:
        UsageError: no such split.
        CounterpointError: the model's weights are not finite.
    """
    wanted = store.interactions(split, recipe.target)
    masked = masked_pairs(recipe, store, split)
    buyers = np.flatnonzero(wanted.counts())
    users = _some(buyers, most_users)
    scorer = scorer_of(model, recipe.target, masked, _DEPTH)
    top, _ = top_items(scorer, users, masked, _DEPTH, progress=progress)
    metrics = _metrics(top, users, wanted)
    record: Evaluation = {"split": split, "unit": "users", "metrics": _means(metrics)}
    if not with_floors:
        return Evaluated.of(record, metrics, {})
    bought = store.interactions("train", recipe.target)
    rivals = {
        name: _metrics(first, users, wanted)
        for name, first in _rival_lists(store, recipe, split, users, masked, progress).items()
    }
    hidden = len(wanted) + len(masked) - len(Interactions.union((wanted, masked)))
    dropped = store.counts.get(f"{split} {UNTRAINED}", 0)
    record["intervals"] = intervals(metrics)
    record["floors"] = {name: _means(floor) for name, floor in rivals.items()}
    record["slices"] = _user_slices(metrics, bought.counts()) | _item_slices(top, users, wanted, bought)
    record["counts"] = {
        "users": store.user_count,
        "scored": len(users),
        f"skipped (no {recipe.target} in the split)": store.user_count - len(buyers),
        **({"skipped (not drawn)": len(buyers) - len(users)} if len(users) < len(buyers) else {}),
        "items": store.item_count,
        f"{recipe.target} pairs of the split": len(wanted),
        "of them left out of the rankings, so never found": hidden,
        **({f"dropped {UNTRAINED}": dropped} if dropped else {}),
    }
    record["warnings"] = floor_warnings(record)
    return Evaluated.of(record, metrics, rivals)


def _some(users: Int[np.ndarray, " users"], most: int | None) -> Int[np.ndarray, " some"]:
    """Return at most so many of the users, drawn without a seed of the run: its seeds validate alike."""
    if most is None or most >= len(users):
        return users
    drawn: Int[np.ndarray, " some"] = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
    return drawn


def masked_pairs(recipe: BehaviorsRecipe, store: Store, split: str) -> Interactions:
    """Return the pairs that a split's rankings leave out.

    What was bought in training, always; what was bought in validation, when testing and if the recipe says
    so; and, if it says so, what was met in training by another behaviour. On the training split what was
    bought in it is to be found, and so never left out.
    """
    bought = store.interactions("train", recipe.target)
    left_out = [bought]
    if "validation" in recipe.ranking.mask and split == "test":
        left_out.append(store.interactions("validation", recipe.target))
    if "auxiliary" in recipe.ranking.mask:
        left_out += [store.interactions("train", task) for task in recipe.tasks[1:]]
    masked = Interactions.union(left_out)
    return masked.without(bought) if split == "train" else masked


def _rival_lists(
    store: Store,
    recipe: BehaviorsRecipe,
    split: str,
    users: Int[np.ndarray, " scored"],
    masked: Interactions,
    progress: Progress,
) -> RivalLists:
    """Return the first items that each rival has for all users of a split.

    No model enters into them, and they cost more than some models do: the store keeps the last ones.
    """
    depends_on = split, recipe.tasks, recipe.ranking.mask, len(users)
    if depends_on not in store.rival_lists:
        lists = {
            name: top_items(rival, users, masked, _DEPTH, progress=named(progress, name))[0]
            for name, rival in _rivals(store).items()
        }
        store.rival_lists.clear()
        store.rival_lists[depends_on] = lists
    return store.rival_lists[depends_on]


def _rivals(store: Store) -> dict[str, Scorer]:
    """Return the floors, and the truth of simulated data."""
    rivals = floors(store.interactions("train", store.target), store.item_count)
    truth = true_scorer(store)
    return rivals if truth is None else {**rivals, OPTIMUM: truth}


def _metrics(
    top: Int[np.ndarray, "scored depth"], users: Int[np.ndarray, " scored"], wanted: Interactions
) -> _Metrics:
    """Return the metrics of all users, NaN for those who are not scored or have nothing wanted."""
    relevant, _ = listed(wanted, users)
    offsets = np.concatenate(([0], np.cumsum(wanted.counts()[users])))
    metrics: _Metrics = {}
    for name, values in topk_metrics(top, offsets, relevant).items():
        metrics[name] = np.full(len(wanted.offsets) - 1, np.nan)
        metrics[name][users] = values
    return metrics


def _means(metrics: Mapping[str, Float[np.ndarray, " users"]]) -> dict[str, float | None]:
    """Return the mean over the scored users: nothing where there is none."""
    scored = _scored(metrics)
    return {name: float(values[scored].mean()) if scored.any() else None for name, values in metrics.items()}


def _scored(metrics: Mapping[str, Float[np.ndarray, " users"]]) -> Bool[np.ndarray, " users"]:
    scored: Bool[np.ndarray, " users"] = ~np.isnan(next(iter(metrics.values())))
    return scored


def _user_slices(
    metrics: _Metrics, purchases: Int[np.ndarray, " users"]
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of scored users in groups of about a quarter, by what they bought in training."""
    scored = _scored(metrics)
    found: dict[str, dict[str, float | None]] = {}
    for first, last in _ranges(purchases[scored]):
        inside = scored & (purchases >= first) & (purchases <= last)
        if inside.sum() >= _SMALLEST_SLICE:
            sliced = {name: values[inside] for name, values in metrics.items()}
            found[f"users with {_said(first, last)}"] = {"users": int(inside.sum()), **_means(sliced)}
    return found


def _ranges(counts: Int[np.ndarray, " users"]) -> Sequence[tuple[int, int]]:
    """Return ranges of counts, ends included, that split the users into about equal groups; 0 is alone."""
    some = counts[counts > 0]
    ranges = [(0, 0)] if len(some) < len(counts) else []
    if len(some):
        shares = np.arange(1, _GROUPS + 1) / _GROUPS
        ends = np.unique(np.quantile(some, shares, method="lower")).astype(int).tolist()
        ranges += zip([int(some.min()), *(end + 1 for end in ends)], ends, strict=False)
    return ranges


def _said(first: int, last: int) -> str:
    if last == 0:
        return "no training purchases"
    if first == last:
        return f"{first} training purchase{'s' if first > 1 else ''}"
    return f"{first} to {last} training purchases"


def _item_slices(
    top: Int[np.ndarray, "scored depth"],
    users: Int[np.ndarray, " scored"],
    wanted: Interactions,
    bought: Interactions,
) -> dict[str, dict[str, float | None]]:
    """Return the recall of the pairs whose items few bought in training, and of the others.

    The limit is the median over the pairs. A list is no shorter for it, so only recall means something here.
    """
    if not len(wanted):
        return {}
    buyers = np.bincount(bought.items, minlength=int(wanted.items.max()) + 1)[wanted.items]
    limit = int(np.median(buyers))
    found: dict[str, dict[str, float | None]] = {}
    for said, inside in (("at most", buyers <= limit), ("more than", buyers > limit)):
        part = Interactions.of_pairs(wanted.users()[inside], wanted.items[inside], len(wanted.counts()))
        metrics = _metrics(top, users, part)
        scored = int(_scored(metrics).sum())
        if scored >= _SMALLEST_SLICE:
            recall = {name: value for name, value in _means(metrics).items() if name.startswith("recall")}
            found[f"items with {said} {limit} training buyers"] = {"users": scored, **recall}
    return found
