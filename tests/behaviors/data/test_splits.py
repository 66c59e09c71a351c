import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.behaviors.data.splits import as_given, at_random, by_time, minus
from counterpoint.behaviors.recipe import Data

KEYS = np.arange(100, 300, 2)


def parts(cut) -> tuple[list[int], list[int], list[int]]:
    return cut.train.tolist(), cut.validation.tolist(), cut.test.tolist()


def test_random_pairs_divide_70_10_20():
    train, validation, test = parts(at_random(KEYS, "buy", Data()))
    assert (len(train), len(validation), len(test)) == (70, 10, 20)
    assert sorted(train + validation + test) == KEYS.tolist()
    assert (train, validation, test) == (sorted(train), sorted(validation), sorted(test))


def test_the_split_has_a_seed_of_its_own():
    first, again, other = (parts(at_random(KEYS, "buy", Data(split_seed=seed))) for seed in (3, 3, 4))
    assert first == again
    assert first[2] != other[2]


def test_a_greater_test_share_does_not_change_who_tests_among_the_first():
    small, large = (set(parts(at_random(KEYS, "buy", Data(test_share=share)))[2]) for share in (0.1, 0.3))
    assert small < large


def test_the_last_pair_tests_and_the_one_before_validates():
    users = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    times = np.array([5, 9, 1, 7, 1, 2, 30, 20, 10])
    cut = by_time(np.arange(9), users, times, "buy", Data(split="last"))
    assert parts(cut) == ([0, 2, 4, 5, 8], [3, 7], [1, 6])


def test_ties_in_time_are_drawn_with_the_seed():
    users, times = np.zeros(40, dtype=np.int64), np.zeros(40, dtype=np.int64)
    seen = {
        tuple(by_time(np.arange(40), users, times, "buy", Data(split_seed=seed)).test) for seed in range(20)
    }
    assert len(seen) > 5
    again = by_time(np.arange(40), users, times, "buy", Data(split_seed=7))
    assert parts(again) == parts(by_time(np.arange(40), users, times, "buy", Data(split_seed=7)))


def test_given_test_pairs_leave_training_and_an_eighth_of_the_rest_validates():
    test = np.array([102, 104, 5_000])
    cut = as_given(KEYS, test, None, "buy", Data())
    assert cut.test.tolist() == test.tolist()
    assert len(cut.validation) == round(98 * 0.1 / 0.8) == 12
    assert sorted([*cut.train, *cut.validation, 102, 104]) == KEYS.tolist()


def test_given_validation_pairs_lose_those_that_test():
    cut = as_given(KEYS, np.array([102, 104]), np.array([7, 104, 106]), "buy", Data())
    assert cut.validation.tolist() == [7, 106]
    assert cut.train.tolist() == [key for key in KEYS if key not in (102, 104, 106)]


@pytest.mark.parametrize(
    ("cut", "rule", "shaped_by"),
    [
        (
            at_random(KEYS, "buy", Data(test_share=0.25, split_seed=3)),
            "25 % of the buy pairs test and 10 % validate, at random (seed 3); users with 10 buy items or "
            "more, then items with 10 of these users or more, once",
            {
                "least_bought",
                "least_buyers",
                "filter",
                "split",
                "validation_share",
                "test_share",
                "split_seed",
            },
        ),
        (
            by_time(KEYS, KEYS // 10, KEYS, "buy", Data(filter="core", least_buyers=5)),
            "of each user's buy pairs the last tests and the one before validates, by the times of their "
            "first rows, ties at random (seed 0); users with fewer than 3 only train; users with 10 buy "
            "items or more, then items with 5 of these users or more, in turns until all fit",
            {"least_bought", "least_buyers", "filter", "split", "split_seed"},
        ),
        (
            as_given(KEYS, KEYS[:5], None, "buy", Data()),
            "the data's own test pairs; 12.5 % of the other buy pairs validate, at random (seed 0); users "
            "and items are not filtered, which would change the data's split",
            {"validation_share", "test_share", "split_seed"},
        ),
        (
            as_given(KEYS, KEYS[:5], KEYS[5:9], "buy", Data()),
            "the data's own test and validation pairs; users and items are not filtered, which would change "
            "the data's split",
            set(),
        ),
    ],
)
def test_the_rule_in_words(cut, rule, shaped_by):
    assert cut.rule == rule
    assert set(cut.shaped_by) == shaped_by


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_minus_is_the_difference_of_sets(first, second):
    left = minus(np.array(sorted(first), dtype=np.int64), np.array(sorted(second), dtype=np.int64))
    assert left.tolist() == sorted(first - second)
