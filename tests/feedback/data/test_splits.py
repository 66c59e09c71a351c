from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import CounterpointError
from counterpoint.feedback.data import splits
from counterpoint.feedback.data.splits import TEST, TRAIN, VALIDATION
from counterpoint.feedback.recipe import Data

LOG = Path("log.csv")


def slow_core(users, items, least):
    rows = list(range(len(users)))
    while True:
        of_user, of_item = {}, {}
        for row in rows:
            of_user[users[row]] = of_user.get(users[row], 0) + 1
            of_item[items[row]] = of_item.get(items[row], 0) + 1
        kept = [row for row in rows if of_user[users[row]] >= least and of_item[items[row]] >= least]
        if kept == rows:
            return rows
        rows = kept


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60), st.integers(1, 4))
def test_the_core_is_what_is_left_when_nothing_goes_any_more(pairs, least):
    users, items = (np.array(side, dtype=np.int32) for side in zip(*pairs, strict=True))
    wanted = slow_core(users.tolist(), items.tolist(), least)
    if not wanted:
        with pytest.raises(CounterpointError, match=r"no row stays with data.core"):
            splits.core([users, items], least, LOG)
        return
    assert np.flatnonzero(splits.core([users, items], least, LOG)).tolist() == wanted


def test_rows_are_divided_eight_to_one_to_one_and_the_seed_decides_which():
    split = splits.at_random(1000, Data())
    assert np.bincount(split).tolist() == [800, 100, 100]
    assert (split == splits.at_random(1000, Data())).all()
    assert (split != splits.at_random(1000, Data(split_seed=1))).any()


def test_a_users_rows_go_together():
    users = np.random.default_rng(0).integers(100, size=1000)
    split = splits.by_user(users, Data(split="users"))
    assert all(len(set(split[users == user])) == 1 for user in range(100))
    assert [len(np.unique(users[split == number])) for number in (TRAIN, VALIDATION, TEST)] == [80, 10, 10]


def test_the_last_rows_test_and_those_before_validate():
    times = np.array([50, 10, 30, 20, 40, 50, 60, 70, 80, 90])
    split = splits.by_time(times, Data(split="time", validation_share=0.2, test_share=0.2))
    assert split.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]


def test_rows_of_one_moment_stand_in_the_logs_order():
    split = splits.by_time(np.zeros(10, dtype=int), Data(split="time"))
    assert split.tolist() == [0] * 8 + [1, 2]


def test_validation_rows_are_drawn_from_those_that_train_and_test_rows_stay():
    given_split = np.array([TRAIN] * 90 + [TEST] * 10, dtype=np.int8)
    split = splits.with_validation(given_split, Data())
    assert np.bincount(split).tolist() == [80, 10, 10]
    assert (split[90:] == TEST).all()
