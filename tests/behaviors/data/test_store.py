import numpy as np
import pytest

from counterpoint.behaviors.data.store import FORMAT, Store
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.storage.files import write_json

from .shop_logs import write_csv

TASKS = ("buy", "click")
# Every user clicks and buys the items 1 to 6, each in an order of their own; what nobody buys falls out.
BOUGHT = {2: (1, 2, 3, 4, 5, 6), 10: (6, 5, 4, 3, 2, 1), 33: (3, 4, 5, 6, 1, 2)}
LOG = [(user, item, "pv", 0) for user in BOUGHT for item in range(1, 8)]
LOG += [(user, item, "buy", time) for user, items in BOUGHT.items() for time, item in enumerate(items)]


def recipe(tasks=TASKS, **data) -> BehaviorsRecipe:
    return BehaviorsRecipe(
        name="mine", tasks=tasks, data={"least_bought": 1, "least_buyers": 1, "split": "last", **data}
    )


@pytest.fixture
def store(tmp_path, prepared) -> Store:
    return prepared(write_csv(tmp_path / "train.csv", LOG), tasks=TASKS, split="last")


def test_rows_ascend_by_number_and_ids_keep_their_type(store):
    assert store.user_ids.to_list() == [2, 10, 33]
    assert store.item_ids.to_list() == list(range(1, 7))
    assert (store.user_count, store.item_count) == (3, 6)
    assert store.user_rows == {"2": 0, "10": 1, "33": 2}
    assert store.item_rows["6"] == 5
    assert (store.target, store.behaviours) == ("buy", ("buy", "click"))


def test_one_id_that_is_no_plain_number_makes_all_of_them_text(tmp_path, prepared):
    rows = [*LOG, ("007", 1, "buy", 3)]
    store = prepared(write_csv(tmp_path / "train.csv", rows), tasks=TASKS, split="last")
    assert store.user_ids.to_list() == ["007", "10", "2", "33"]
    assert store.item_ids.to_list() == list(range(1, 7))
    assert store.user_rows["10"] == 1


def test_the_splits_of_a_store(store):
    assert store.interactions("test", "buy").items.tolist() == [5, 0, 1]
    assert store.interactions("validation", "buy").items.tolist() == [4, 1, 0]
    assert store.interactions("train", "buy").of(1).tolist() == [2, 3, 4, 5]
    assert store.interactions("train", "click").of(1).tolist() == [2, 3, 4, 5]
    assert store.manifest["splits"] == {"train": 12, "validation": 3, "test": 3}


def test_arrays_are_mapped_and_opened_once(store):
    pairs = store.interactions("train", "buy")
    assert isinstance(pairs.items, np.memmap)
    assert pairs.items.dtype == np.int32
    assert store.interactions("train", "buy") is pairs


@pytest.mark.parametrize(
    ("split", "behaviour", "message"),
    [
        (
            "tests",
            "buy",
            r"no split is called 'tests' \(did you mean 'test'\?\); known: train, validation, test",
        ),
        ("test", "click", "the test split has no pairs of 'click', only of buy"),
        ("train", "clicks", r"has no pairs of 'clicks' \(did you mean 'click'\?\), only of buy, click"),
    ],
)
def test_splits_and_behaviours_that_are_not_there(split, behaviour, message, store):
    with pytest.raises(UsageError, match=message):
        store.interactions(split, behaviour)


def test_a_store_serves_the_recipes_it_was_made_for(store):
    store.require(recipe())
    store.require(recipe(tasks=("buy",)))
    # A share at random has no part in a split by time.
    store.require(recipe(test_share=0.3, ignore=("cart",)))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            recipe(("click", "buy")),
            "prepared for the target 'buy', the recipe's is 'click'; prepare the data again",
        ),
        (
            recipe(("buy", "clik")),
            r"prepared with buy, click, the recipe has the task 'clik' \(did you mean 'click'",
        ),
        (recipe(least_bought=2), "with data.least_bought = 1, the recipe has 2; .* or set data.least_bought"),
        (recipe(split="random"), "prepared with data.split = last, the recipe has random"),
        (recipe(filter="core"), "prepared with data.filter = once, the recipe has core"),
        (recipe(split_seed=5), "prepared with data.split_seed = 0, the recipe has 5"),
    ],
)
def test_a_store_refuses_other_recipes(asked, message, store):
    with pytest.raises(CounterpointError, match=message):
        store.require(asked)


def test_a_store_of_another_version_is_refused(store):
    write_json(store.path / "manifest.json", {**store.manifest, "format": FORMAT - 1})
    with pytest.raises(
        CounterpointError, match="a store of version 0, this program reads version 1; prepare"
    ):
        Store(store.path)


def test_a_store_of_news_is_refused_whatever_its_version(store):
    plain = {name: value for name, value in store.manifest.items() if name != "workload"}
    for made_for, said in (({"workload": "news"}, "'news'"), ({}, "None")):
        write_json(store.path / "manifest.json", {**plain, **made_for})
        with pytest.raises(CounterpointError) as caught:
            Store(store.path)
        assert str(caught.value) == (
            f"{store.path}: a prepared store of the workload {said}, the recipe is of 'behaviors'; choose a "
            "recipe of the same workload or other data."
        )


def test_a_damaged_store_is_told_in_one_sentence(store, tmp_path):
    with pytest.raises(CounterpointError, match="not a prepared store"):
        Store(tmp_path)
    (store.path / "users.parquet").write_bytes(b"PAR1")
    (store.path / "arrays" / "train_0_items.npy").write_bytes(b"\x93NUMPY")
    for use in (lambda: store.user_ids, lambda: store.interactions("train", "buy")):
        with pytest.raises(CounterpointError, match="missing or cut short") as caught:
            use()
        assert "\n" not in str(caught.value)
