"""Which rows stay, and which of them train, validate and test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Int8

from counterpoint.errors import CounterpointError
from counterpoint.feedback.recipe import Data

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
DROPPED = -1

Split = Int8[np.ndarray, " rows"]
"""The number of each row's split in `SPLITS`, or `DROPPED`."""

Numbers = Int[np.ndarray, " rows"]


def core(sides: Sequence[Numbers], least: int, log: Path) -> Bool[np.ndarray, " rows"]:
    """Return which rows stay where each side has ``least`` rows or more, in turns until nothing goes.

    Args:
        sides: the rows' users and their items, as numbers without gaps; or one of these; or none.
        least: rows of everyone who stays (paper 5: 10 on WeChat, 20 on Kuaishou).
        log: the file, for messages.

    Raises:
        CounterpointError: nothing stays.
    """
    stays = np.ones(len(sides[0]) if sides else 0, dtype=bool)
    most = [int(np.bincount(numbers).max()) for numbers in sides]
    before = -1
    while before != (before := int(stays.sum())):
        for numbers in sides:
            stays &= (np.bincount(numbers[stays], minlength=int(numbers.max()) + 1) >= least)[numbers]
    if sides and not stays.any():
        raise CounterpointError(
            f"{log}: no row stays with data.core = {least} (the most rows of one user or item: "
            f"{min(most)}); lower it."
        )
    return stays


def at_random(rows: int, settings: Data) -> Split:
    """Divide rows at random (paper 5, 4.1.1: 8 : 1 : 1)."""
    tested, validated = round(settings.test_share * rows), round(settings.validation_share * rows)
    split = np.full(rows, TRAIN, dtype=np.int8)
    order = np.random.default_rng(settings.split_seed).permutation(rows)
    split[order[:tested]] = TEST
    split[order[tested : tested + validated]] = VALIDATION
    return split


def by_user(users: Numbers, settings: Data) -> Split:
    """Divide users at random: all rows of a user go together."""
    some, user = np.unique(users, return_inverse=True)
    split: Split = at_random(len(some), settings)[user]
    return split


def by_time(times: Int[np.ndarray, " rows"], settings: Data) -> Split:
    """Let the last rows test and those before validate; rows of one moment stand in the log's order."""
    rows = len(times)
    tested, validated = round(settings.test_share * rows), round(settings.validation_share * rows)
    order = np.argsort(times, kind="stable")
    split = np.full(rows, TRAIN, dtype=np.int8)
    split[order[rows - tested :]] = TEST
    split[order[rows - tested - validated : rows - tested]] = VALIDATION
    return split


def with_validation(given: Split, settings: Data) -> Split:
    """Draw validation rows from those that train, where the data brings only those that test."""
    split = given.copy()
    trained = np.flatnonzero(given == TRAIN)
    share = settings.validation_share / (1 - settings.test_share)
    order = np.random.default_rng(settings.split_seed).permutation(len(trained))
    split[trained[order[: round(share * len(trained))]]] = VALIDATION
    return split


def rule(settings: Data, given_test: bool, given_validation: bool) -> tuple[str, tuple[str, ...]]:
    """Return how it was done, for people, and the settings that it depends on."""
    shares = ("validation_share", "test_share", "split_seed")
    if given_validation:
        return "the data's own validation and test rows; nothing is filtered", ()
    if given_test:
        share = settings.validation_share / (1 - settings.test_share)
        told = f"the data's own test rows; {100 * share:.4g} % of the others validate, at random"
        return f"{told} (seed {settings.split_seed}); nothing is filtered", shares
    how = {"rows": "rows, at random", "users": "users, at random", "time": "rows, the last ones"}
    seed = "" if settings.split == "time" else f" (seed {settings.split_seed})"
    told = (
        f"{100 * settings.test_share:.4g} % test and {100 * settings.validation_share:.4g} % validate, "
        f"of the {how[settings.split]}{seed}; users and items with {settings.core} rows or more, in turns "
        "until nothing goes"
    )
    return told, ("core", "split", *shares)
