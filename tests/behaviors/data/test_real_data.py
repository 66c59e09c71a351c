"""The real samples: what their README files count, and an independent reading with pandas."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from counterpoint.behaviors.data.store import Store
from counterpoint.errors import CounterpointError

from .shop_logs import by_id

TASKS = ("buy", "click", "cart", "favourite")


def at(root: Path, *place: str) -> Path:
    path = root.joinpath(*place)
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def test_userbehavior_as_published(data_root, prepared: Callable[..., Store]):
    file = at(data_root, "userbehavior", "UserBehavior_first815users.csv")
    store = prepared(file, least_bought=3, least_buyers=1, filter="core")
    assert store.counts["rows read"] == 84_475
    assert store.counts["rows outside the window"] == 35

    raw = pd.read_csv(file, names=["user", "item", "category", "behaviour", "time"])
    raw = raw[raw.time.between(1_511_539_200, 1_512_316_799)]
    raw["behaviour"] = raw.behaviour.replace({"pv": "click", "fav": "favourite"})
    shifted = raw.groupby("user").time.shift()
    assert store.counts["rows out of time order"] == (raw.time < shifted).sum()
    bought = raw[raw.behaviour == "buy"]
    items = bought.groupby("user").item.nunique()
    users = items.index[items >= 3]
    kept = raw[raw.user.isin(users) & raw.item.isin(bought[bought.user.isin(users)].item)]
    distinct = kept.drop_duplicates(["user", "item", "behaviour"])
    assert store.counts["rows dropped by the filter"] == len(raw) - len(kept)
    assert store.counts["repeats merged"] == len(kept) - len(distinct)
    sizes = distinct.behaviour.value_counts()
    assert {task: store.counts[f"pairs of {task}"] for task in TASKS} == {task: sizes[task] for task in TASKS}
    assert (store.counts["users"], store.counts["items"]) == (kept.user.nunique(), kept.item.nunique())

    pairs = {
        task: set(map(tuple, own[["user", "item"]].to_numpy())) for task, own in distinct.groupby("behaviour")
    }
    held_out = set(by_id(store, "test", "buy")) | set(by_id(store, "validation", "buy"))
    train = {task: set(by_id(store, "train", task)) for task in TASKS}
    assert held_out < pairs["buy"] - train["buy"]
    for task in TASKS[1:]:
        assert not train[task] & held_out
        # What leaves besides are held-out pairs whose user or item does not train at all.
        assert train[task] | (pairs[task] & (pairs["buy"] - train["buy"])) == pairs[task]


def test_userbehavior_s_thresholds_of_the_paper_leave_nothing_of_815_users(data_root, prepared):
    file = at(data_root, "userbehavior", "UserBehavior_first815users.csv")
    raw = pd.read_csv(file, names=["user", "item", "category", "behaviour", "time"])
    raw = raw[raw.time.between(1_511_539_200, 1_512_316_799) & (raw.behaviour == "buy")]
    items = raw.groupby("user").item.nunique()
    left = raw[raw.user.isin(items.index[items >= 10])]
    most = left.groupby("item").user.nunique().max()
    message = rf"= 10 leaves {(items >= 10).sum()} users, and no item has 10 of them \(the most is {most}\)"
    with pytest.raises(CounterpointError, match=message):
        prepared(file, least_bought=10, least_buyers=10)


def test_ijcai15_as_published(data_root, prepared):
    store = prepared(at(data_root, "ijcai15", "raw_user_log_100users.csv"))
    assert store.counts["rows read"] == 13_260
    raw = pd.read_csv(at(data_root, "ijcai15", "raw_user_log_100users.csv"))
    names = dict(enumerate(("click", "cart", "buy", "favourite")))
    assert raw.action_type.map(names).value_counts().to_dict() == {
        "click": 11_891,
        "buy": 839,
        "favourite": 493,
        "cart": 37,
    }
    kept = raw[raw.item_id.isin(raw[raw.action_type == 2].item_id)]
    distinct = kept.drop_duplicates(["user_id", "item_id", "action_type"])
    assert store.counts["rows dropped by the filter"] == len(raw) - len(kept)
    for number, task in names.items():
        assert store.counts[f"pairs of {task}"] == (distinct.action_type == number).sum()


def test_ijcai15_as_a_table_brings_its_own_test_split(data_root, prepared):
    folder = at(data_root, "ijcai15")
    store = prepared(folder, least_bought=20, least_buyers=10)
    counts = store.counts
    assert (counts["users"], counts["items"]) == (17_435, 35_920)
    assert [counts[f"pairs of {task}"] for task in TASKS] == [131_685, 606_728, 751, 60_204]
    assert counts["rows read"] == 799_368
    assert counts["repeats merged"] == counts["rows dropped by the filter"] == 0
    assert counts["leaks removed from buy"] == 0
    assert counts["test rows read"] == 6_102
    dropped = counts["test pairs of users or items without training pairs"]
    assert store.manifest["splits"]["test"] + dropped == 6_102
    table = pd.read_csv(folder / "test_buy_leave_one_out.csv")
    assert set(by_id(store, "test", "buy")) <= set(map(tuple, table.to_numpy()))
    drawn = len(set(by_id(store, "train", "buy")))
    assert 131_685 - drawn == round(131_685 / 8)

    log = pl.read_parquet(folder / "train_interactions.parquet").filter(pl.col("behavior") == "click")
    click = store.interactions("train", "click")
    raw = set(log.select("user", "item").iter_rows())
    ours = set(
        zip(store.user_ids.to_numpy()[click.users()], store.item_ids.to_numpy()[click.items], strict=True)
    )
    assert ours < raw
    assert len(raw) - len(ours) == counts["leaks removed from click"]


def test_userbehavior_as_a_table_has_three_behaviours(data_root, prepared):
    folder = at(data_root, "userbehavior")
    tasks = ("buy", "cart", "favourite")
    store = prepared(folder, tasks=tasks)
    counts = store.counts
    assert [counts[f"pairs of {task}"] for task in tasks] == [167_862, 140_068, 49_482]
    assert (counts["users"], counts["items"]) == (31_882, 30_985)
    assert counts["test rows read"] == 10_000
    assert counts["leaks removed from buy"] == 0
    assert np.all(np.diff(store.user_ids.to_numpy()) > 0)
    test = store.interactions("test", "buy")
    assert test.counts().max() == 1
    assert len(test) + counts["test pairs of users or items without training pairs"] == 10_000
