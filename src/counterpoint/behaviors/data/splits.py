"""Which pairs train, validate and test, and what must not train because it tells about those that test."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from counterpoint.behaviors.data.pairs import Keys
from counterpoint.behaviors.recipe import Data


@dataclass(frozen=True)
class Cut:
    """How the target's pairs were divided.

    Attributes:
        train: keys.
        validation: keys.
        test: keys.
        rule: how it was done, for people.
        shaped_by: the settings that it depends on, by their names in the recipe's section ``data``.
    """

    train: Keys
    validation: Keys
    test: Keys
    rule: str
    shaped_by: tuple[str, ...]


_FILTER = ("least_bought", "least_buyers", "filter", "split")
_SHARES = ("validation_share", "test_share", "split_seed")


def at_random(keys: Keys, target: str, settings: Data) -> Cut:
    """Divide pairs at random over all (paper 4, appendix A.2)."""
    tested, validated = round(settings.test_share * len(keys)), round(settings.validation_share * len(keys))
    order = np.random.default_rng(settings.split_seed).permutation(len(keys))
    test, validation, train = np.split(order, [tested, tested + validated])
    rule = (
        f"{_percent(settings.test_share)} of the {target} pairs test and "
        f"{_percent(settings.validation_share)} validate, at random (seed {settings.split_seed}); "
        f"{_filtered(target, settings)}"
    )
    return Cut(
        np.sort(keys[train]), np.sort(keys[validation]), np.sort(keys[test]), rule, (*_FILTER, *_SHARES)
    )


def by_time(
    keys: Keys,
    users: Int[np.ndarray, " pairs"],
    times: Int[np.ndarray, " pairs"],
    target: str,
    settings: Data,
) -> Cut:
    """Let each user's last pair test and the one before validate, where there are three or more.

    Args:
        keys: of the target's pairs.
        users: whose they are.
        times: when each pair first occurred; among equals the seed draws.
        target: its name.
        settings: of the recipe.
    """
    drawn = np.random.default_rng(settings.split_seed).permutation(len(keys))
    order = np.lexsort((drawn, times, users))
    counts = np.bincount(users)
    last = np.cumsum(counts)[counts >= 3] - 1
    tests, validates = order[last], order[last - 1]
    trains = np.ones(len(keys), dtype=bool)
    trains[tests] = trains[validates] = False
    rule = (
        f"of each user's {target} pairs the last tests and the one before validates, by the times of their "
        f"first rows, ties at random (seed {settings.split_seed}); users with fewer than 3 only train; "
        f"{_filtered(target, settings)}"
    )
    return Cut(keys[trains], np.sort(keys[validates]), np.sort(keys[tests]), rule, (*_FILTER, "split_seed"))


def as_given(keys: Keys, test: Keys, validation: Keys | None, target: str, settings: Data) -> Cut:
    """Take the data's own test pairs and, if it has them, validation pairs; else draw those at random.

    Held-out pairs leave training, and test pairs leave validation.
    """
    left = minus(keys, test)
    unfiltered = "users and items are not filtered, which would change the data's split"
    if validation is not None:
        rule = f"the data's own test and validation pairs; {unfiltered}"
        return Cut(minus(left, validation), minus(validation, test), test, rule, ())
    share = settings.validation_share / (1 - settings.test_share)
    order = np.random.default_rng(settings.split_seed).permutation(len(left))
    validates, trains = np.split(order, [round(share * len(left))])
    rule = (
        f"the data's own test pairs; {_percent(share)} of the other {target} pairs validate, at random "
        f"(seed {settings.split_seed}); {unfiltered}"
    )
    return Cut(np.sort(left[trains]), np.sort(left[validates]), test, rule, _SHARES)


def minus(keys: Keys, others: Keys) -> Keys:
    """Return the ``keys`` that are not among the ``others``, at a cost of a copy and few searches."""
    if not len(keys):
        return keys
    place = np.searchsorted(keys, others)
    place = place[keys[np.minimum(place, len(keys) - 1)] == others]
    return np.delete(keys, place)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _filtered(target: str, settings: Data) -> str:
    """Return the rule of the filter in words."""
    turns = {"once": "once", "core": "in turns until all fit"}[settings.filter]
    return (
        f"users with {settings.least_bought} {target} items or more, then items with "
        f"{settings.least_buyers} of these users or more, {turns}"
    )
