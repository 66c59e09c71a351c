import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.behaviors.baselines import BoughtTogether, MostBought, RandomScorer, floors
from counterpoint.behaviors.data.store import Interactions


def bought(pairs, users):
    users_of, items = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    return Interactions.of_pairs(users_of, items, users)


SHOP = bought([(0, 0), (0, 1), (1, 1), (1, 2), (2, 1), (2, 3), (2, 2)], 4)


def test_chance_gives_each_user_an_order_of_ones_own_whatever_the_block():
    scorer = RandomScorer(500)
    together = scorer.scores(np.array([3, 8]))
    assert together.dtype == torch.float32
    torch.testing.assert_close(scorer.scores(np.array([8]))[0], together[1], rtol=0, atol=0)
    orders = together.argsort(dim=1)
    assert not torch.equal(orders[0], orders[1])
    other = RandomScorer(500, seed=1).scores(np.array([3]))
    assert not torch.equal(other[0].argsort(), orders[0])
    assert abs(together.mean() - 0.5) < 0.05


def test_most_bought_counts_users_and_is_the_same_for_all():
    scores = MostBought(SHOP, 5).scores(np.array([0, 3]))
    assert scores.tolist() == [[1, 3, 2, 1, 0]] * 2
    scores.fill_(9)
    assert MostBought(SHOP, 5).scores(np.array([1])).tolist() == [[1, 3, 2, 1, 0]]


def test_bought_together_by_hand():
    # User 0 has items 0 and 1. Item 2 was bought with 1 by users 1 and 2, item 3 with 1 by user 2.
    scores = BoughtTogether(SHOP, 5).scores(np.array([0]))[0]
    assert scores[2:].tolist() == [2, 1, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=30))
def test_bought_together_is_the_product_of_the_matrices(pairs):
    matrix = np.zeros((6, 8))
    for user, item in pairs:
        matrix[user, item] = 1
    found = BoughtTogether(bought(pairs, 6), 8).scores(np.array([5, 0, 3]))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), (matrix @ matrix.T @ matrix)[[5, 0, 3]])


def test_a_user_without_purchases_has_nothing_bought_together():
    assert BoughtTogether(SHOP, 5).scores(np.array([3])).tolist() == [[0] * 5]


def test_the_floors_have_plain_names():
    assert list(floors(SHOP, 5)) == ["random", "most bought", "bought together"]
    for floor in floors(SHOP, 5).values():
        assert floor.scores(np.array([1, 0])).shape == (2, 5)
