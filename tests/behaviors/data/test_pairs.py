from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.behaviors.data.pairs import frequent
from counterpoint.behaviors.recipe import Data
from counterpoint.errors import CounterpointError

LOG = Path("log.csv")
# User 0 has three items, 1 and 2 have two, 3 and 4 one; item 0 has four users, 1 and 2 have two, 3 has one.
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 3), (3, 0), (4, 2)]


def filtered(pairs, **settings) -> tuple[list[int], list[int]]:
    users, items = np.array(pairs).T
    kept = frequent(users, items, Data(**settings), LOG)
    return tuple(np.flatnonzero(one).tolist() for one in kept)


def test_users_go_first_and_items_count_only_those_who_stay():
    # Items 0 and 1 have three and two of the users 0, 1, 2; item 2 loses user 4 and item 3 has user 2 alone.
    assert filtered(PAIRS, least_bought=2, least_buyers=2) == ([0, 1, 2], [0, 1])


def test_once_leaves_users_below_the_threshold():
    # User 2 now has only item 0: fewer than two, and stays, as in paper 4.
    users, items = filtered(PAIRS, least_bought=2, least_buyers=2, filter="once")
    assert 2 in users
    assert sum(item in items for user, item in PAIRS if user == 2) == 1


def test_core_goes_on_until_all_fit():
    assert filtered(PAIRS, least_bought=2, least_buyers=2, filter="core") == ([0, 1], [0, 1])


def test_thresholds_of_one_let_all_stay():
    assert filtered(PAIRS, least_bought=1, least_buyers=1) == ([0, 1, 2, 3, 4], [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"least_bought": 4, "least_buyers": 1},
            "log.csv: no user has 4 items or more (the most is 3); lower data.least_bought.",
        ),
        (
            {"least_bought": 3, "least_buyers": 2},
            "log.csv: data.least_bought = 3 leaves 1 user, and no item has 2 of them (the most is 1); lower "
            "data.least_buyers or data.least_bought.",
        ),
        (
            {"least_bought": 3, "least_buyers": 3, "filter": "core"},
            "log.csv: data.least_bought = 3 leaves 1 user, and no item has 3 of them (the most is 1); lower "
            "data.least_buyers or data.least_bought.",
        ),
        (
            {"least_bought": 2, "least_buyers": 3, "filter": "core"},
            "log.csv: data.least_bought = 2 leaves 3 users, and with data.least_buyers = 3 nobody stays "
            'when users and items go in turns; lower one of the two, or set data.filter = "once".',
        ),
    ],
)
def test_a_threshold_that_leaves_nothing_is_named(settings, message):
    with pytest.raises(CounterpointError) as caught:
        filtered(PAIRS, **settings)
    assert str(caught.value) == message


@given(
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_the_core_is_the_largest_set_in_which_all_fit(pairs, least_bought, least_buyers):
    """Taking away one misfit at a time, in any order, ends at the same set."""
    left = set(pairs)
    while True:
        users, items = [user for user, _ in left], [item for _, item in left]
        misfits = [
            (user, item)
            for user, item in sorted(left)
            if users.count(user) < least_bought or items.count(item) < least_buyers
        ]
        if not misfits:
            break
        left.remove(misfits[0])
    settings = {"least_bought": least_bought, "least_buyers": least_buyers, "filter": "core"}
    if left:
        kept_users, kept_items = filtered(sorted(pairs), **settings)
        assert {(user, item) for user, item in pairs if user in kept_users and item in kept_items} == left
    else:
        with pytest.raises(CounterpointError):
            filtered(sorted(pairs), **settings)
