import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.behaviors.data.store import Interactions

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=40)


def made(pairs: list[tuple[int, int]], users: int = 7) -> Interactions:
    owners, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Interactions.of_pairs(owners, items, users)


def test_pairs_in_any_order_become_rows_of_items():
    pairs = made([(2, 3), (0, 9), (2, 1), (2, 3), (0, 0)], users=4)
    assert pairs.offsets.tolist() == [0, 2, 2, 4, 4]
    assert pairs.items.tolist() == [0, 9, 1, 3]
    assert (pairs.offsets.dtype, pairs.items.dtype, pairs.users().dtype) == (np.int64, np.int32, np.int32)
    assert pairs.users().tolist() == [0, 0, 2, 2]
    assert pairs.counts().tolist() == [2, 0, 2, 0]
    assert pairs.of(2).tolist() == [1, 3]
    assert pairs.of(3).tolist() == []
    assert len(pairs) == 4


def test_no_pairs_at_all():
    pairs = made([], users=3)
    assert pairs.offsets.tolist() == [0, 0, 0, 0]
    assert len(pairs) == len(pairs.users()) == 0


@given(PAIRS, PAIRS)
def test_the_union_holds_each_pair_once(first, second):
    pairs = Interactions.union([made(first), made(second), made(first)])
    assert list(zip(pairs.users(), pairs.items, strict=True)) == sorted({*first, *second})
    assert pairs.offsets[-1] == len(pairs)


@given(PAIRS, PAIRS)
def test_pairs_without_others_are_the_difference_of_sets(first, second):
    pairs = made(first).without(made(second))
    assert list(zip(pairs.users(), pairs.items, strict=True)) == sorted({*first} - {*second})
    assert len(pairs.counts()) == 7


def test_rows_beyond_32_bits_of_pairs_do_not_overflow():
    users, items = np.array([3_000_000, 1], dtype=np.int32), np.array([4_000_000, 4_000_000], dtype=np.int32)
    pairs = Interactions.of_pairs(users, items, 3_000_001)
    assert pairs.of(3_000_000).tolist() == pairs.of(1).tolist() == [4_000_000]
    assert len(pairs) == 2
