from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from counterpoint.behaviors.batches import TrainingBatches
from counterpoint.behaviors.data.store import Interactions
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.errors import CounterpointError


@dataclass
class Shop:
    """What the batches ask of a store, with the pairs of each behaviour in plain lists."""

    user_count: int
    item_count: int
    pairs: dict[str, list[tuple[int, int]]]
    path: Path = Path("shop")

    @property
    def user_ids(self):
        return pl.Series([f"u{user}" for user in range(self.user_count)])

    def interactions(self, split, behaviour):
        assert split == "train"
        users, items = np.array(self.pairs[behaviour], dtype=np.int32).reshape(-1, 2).T
        return Interactions.of_pairs(users, items, self.user_count)


SHOP = Shop(
    4,
    6,
    {
        "buy": [(0, 1), (0, 4), (2, 0)],
        "click": [(0, 1), (0, 2), (1, 5), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)],
        "cart": [(1, 5), (2, 4)],
    },
)
LABELS = {  # by hand: buy, click, cart
    (0, 1): (1, 1, 0),
    (0, 2): (0, 1, 0),
    (0, 4): (1, 0, 0),
    (1, 5): (0, 1, 1),
    (2, 0): (1, 1, 0),
    (2, 1): (0, 1, 0),
    (2, 2): (0, 1, 0),
    (2, 3): (0, 1, 0),
    (2, 4): (0, 1, 1),
}


def batches_of(shop, tasks=("buy", "click", "cart"), batch_size=7, seed=0, **sampling):
    recipe = BehaviorsRecipe(
        name="shop", tasks=tasks, training={"batch_size": batch_size, "seed": seed}, sampling=sampling
    )
    return TrainingBatches(shop, recipe)


def rows_of(batch):
    rows = zip(batch.users.tolist(), batch.items.tolist(), batch.labels.tolist(), strict=True)
    return [(user, item, tuple(map(int, labels))) for user, item, labels in rows]


def epoch_of(batches, epoch=0):
    return [row for number in range(len(batches)) for row in rows_of(batches.batch(epoch, number))]


def test_an_epoch_has_each_pair_once_and_its_negatives():
    batches = batches_of(SHOP, negatives=2)
    assert (batches.examples, len(batches)) == (27, 4)
    sizes = [len(batches.batch(0, number)) for number in range(4)]
    assert sizes == [7, 7, 7, 6]
    rows = epoch_of(batches)
    assert sorted(row for row in rows if any(row[2])) == sorted(
        (*pair, each) for pair, each in LABELS.items()
    )
    negatives = [(user, item) for user, item, labels in rows if not any(labels)]
    assert not set(negatives) & set(LABELS)
    assert sorted(user for user, _ in negatives) == sorted(2 * [user for user, _ in LABELS])
    assert {item for user, item in negatives if user == 2} == {5}  # the only one left


def test_a_batch_has_the_types_a_network_takes():
    batch = batches_of(SHOP).batch(0, 0).to(torch.device("cpu"))
    assert (batch.users.dtype, batch.items.dtype, batch.labels.dtype) == (
        torch.int64,
        torch.int64,
        torch.float32,
    )
    assert batch.labels.shape == (7, 3)
    assert len(batch) == 7


def test_a_negative_that_may_carry_other_behaviours_is_labelled_by_them():
    batches = batches_of(SHOP, negatives=5, reject="target")
    bought = {pair for pair, (buy, *_) in LABELS.items() if buy}
    met = []
    for epoch in range(4):
        for user, item, labels in epoch_of(batches, epoch):
            assert labels == LABELS.get((user, item), (0, 0, 0))
            met.append((user, item))
    drawn = {pair: met.count(pair) - 4 * (pair in LABELS) for pair in set(met)}
    assert all(drawn[pair] == 0 for pair in bought)
    assert drawn[0, 2] > 0
    assert drawn[2, 4] > 0


def test_behaviours_that_are_no_task_count_for_nothing():
    batches = batches_of(SHOP, tasks=("buy",), negatives=6)
    assert batches.examples == 3 * 7
    rows = [row for epoch in range(7) for row in epoch_of(batches, epoch)]
    assert {row[:2] for row in rows if row[2] == (1,)} == {(0, 1), (0, 4), (2, 0)}
    # Clicked but not bought: a negative like any other.
    assert {item for user, item, labels in rows if user == 2 and labels == (0,)} == {1, 2, 3, 4, 5}


def test_batches_are_functions_of_their_place():
    batches = batches_of(SHOP, negatives=3)
    forwards = [epoch_of(batches, epoch) for epoch in (0, 1)]
    again = batches_of(SHOP, negatives=3)
    assert rows_of(again.batch(1, 2)) == forwards[1][14:21]
    assert rows_of(again.batch(0, 1)) == forwards[0][7:14]
    assert rows_of(again.batch(1, 2)) == forwards[1][14:21]


def test_epochs_and_seeds_differ_in_order_and_in_negatives():
    shop = Shop(30, 500, {"buy": [(user, 7 * user % 500) for user in range(30)]})
    first, second, other = (
        epoch_of(batches_of(shop, ("buy",), seed=seed, negatives=1), epoch)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert first != second
    assert first != other
    for rows in (second, other):
        assert sorted(row for row in rows if row[2] == (1,)) == sorted(row for row in first if row[2] == (1,))
        assert len(set(rows) & set(first)) < 40  # 30 positives, and hardly a negative


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_shares_make_up_the_batch(processes):
    batches = batches_of(SHOP, negatives=2)
    for number in range(len(batches)):
        whole = rows_of(batches.batch(0, number))
        shares = [
            rows_of(batches.batch(0, number, rank=rank, processes=processes)) for rank in range(processes)
        ]
        assert len({len(share) for share in shares}) == 1
        joined = [shares[place % processes][place // processes] for place in range(sum(map(len, shares)))]
        assert joined[: len(whole)] == whole
        assert joined[len(whole) :] == whole[: len(joined) - len(whole)]


def test_a_last_batch_smaller_than_the_processes_gives_each_a_row():
    batches = batches_of(Shop(1, 3, {"buy": [(0, 1)]}), ("buy",), batch_size=64, negatives=1)
    shares = [rows_of(batches.batch(0, 0, rank=rank, processes=5)) for rank in range(5)]
    assert [len(share) for share in shares] == [1] * 5
    assert {share[0][:2] for share in shares} <= {(0, 0), (0, 1), (0, 2)}


def test_negatives_are_evenly_drawn_from_the_allowed_items():
    pairs = [(0, item) for item in (0, 1, 5, 9, 11)] + [(1, 6)]
    batches = batches_of(Shop(2, 12, {"buy": pairs}), ("buy",), batch_size=1 << 20, negatives=12)
    rows = [row for epoch in range(300) for row in rows_of(batches.batch(epoch, 0))]
    for user, allowed in ((0, [2, 3, 4, 6, 7, 8, 10]), (1, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11])):
        drawn = [item for who, item, labels in rows if who == user and not labels[0]]
        counts = np.bincount(drawn, minlength=12)
        assert set(np.flatnonzero(counts)) == set(allowed)
        assert chisquare(counts[allowed]).pvalue > 1e-4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_rejected_item_is_drawn_and_labels_are_looked_up_right(data):
    users, items = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 9))
    pair = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    pairs = {
        task: data.draw(st.lists(pair, min_size=1, max_size=30), label=task) for task in ("buy", "click")
    }
    reject = data.draw(st.sampled_from(["any", "target"]))
    shop = Shop(users, items, pairs)
    sets = {task: set(each) for task, each in pairs.items()}
    rejected = sets["buy"] | (sets["click"] if reject == "any" else set())
    met = sets["buy"] | sets["click"]
    if items < 3 or any(sum(who == user for who, _ in rejected) == items for user, _ in met):
        with pytest.raises(CounterpointError, match="more negatives asked for than items exist"):
            batches_of(shop, ("buy", "click"), reject=reject, negatives=3)
        return
    batches = batches_of(shop, ("buy", "click"), batch_size=1000, reject=reject, negatives=3)
    rows = epoch_of(batches)
    assert len(rows) == 4 * len(met)
    for user, item, labels in rows:
        assert labels == tuple(int((user, item) in sets[task]) for task in sets)
    seen = [row[:2] for row in rows]
    assert all(seen.count(each) == 1 for each in rejected)


def test_a_user_who_has_met_every_item_is_an_error():
    shop = Shop(3, 2, {"buy": [(0, 0), (2, 1)], "click": [(2, 0)]})
    with pytest.raises(CounterpointError) as error:
        batches_of(shop, ("buy", "click"), negatives=3)
    assert str(error.value) == (
        "shop: more negatives asked for than items exist: user 'u2' has met all 2 items, which leaves none "
        "for sampling.negatives=3; leave the user out or keep more items."
    )
    # Rejecting what was bought alone leaves the clicked one.
    rows = epoch_of(batches_of(shop, ("buy", "click"), reject="target", negatives=2))
    assert {row for row in rows if row[0] == 2} == {(2, 1, (1, 0)), (2, 0, (0, 1))}


def test_more_negatives_than_there_are_items_is_an_error():
    assert batches_of(SHOP, negatives=6).examples == 7 * len(LABELS)
    with pytest.raises(CounterpointError) as error:
        batches_of(SHOP, negatives=7)
    assert str(error.value) == (
        "shop: more negatives asked for than items exist: sampling.negatives=7, and there are 6 items; lower "
        "sampling.negatives or keep more items."
    )


def test_a_task_without_training_pairs_is_an_error():
    shop = Shop(3, 5, {"buy": [(0, 0)], "cart": []})
    with pytest.raises(CounterpointError) as error:
        batches_of(shop, ("buy", "cart"))
    assert str(error.value) == (
        "shop: there is no training pair of the task 'cart'; leave it out of the recipe's tasks."
    )


def test_a_batch_holds_nothing_as_long_as_the_catalogue():
    """A batch of a shop with ten million items takes kilobytes."""
    import tracemalloc

    shop = Shop(3, 10_000_000, {"buy": [(0, 9_999_999), (1, 0), (2, 5_000_000)]})
    batches = batches_of(shop, ("buy",), batch_size=15, negatives=4)
    batches.batch(0, 0)
    tracemalloc.start()
    batches.batch(0, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
