import json

import pytest

from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare
from counterpoint.errors import BadRowError, CounterpointError, UsageError
from counterpoint.storage import rows
from counterpoint.workload import Preparation

from .shop_logs import by_id, contents, shop_recipe, write, write_csv

NOON = 1511582400  # 25 November 2017 in Beijing

RAW = [
    "1,10,buy,0",
    "1,11,buy,20",
    "1,11,pv,10",  # out of order, and a leak: 1 with 11 validates
    "1,12,buy,30",  # 12 has no second buyer
    "1,14,buy,35",
    "1,10,buy,40",  # a repeat: 1 first bought 10 at 0
    "1,13,cart,50",  # 13 was never bought
    "1,14,pv,60",  # a leak: 1 with 14 tests
    "1,10,pv,70",
    "2,14,buy,0",
    "2,10,buy,1",
    "2,12,pv,2",
    "2,12,pv,3",
    "2,11,buy,4",
    "3,10,buy,0",  # 3 bought only this
    "3,10,fav,0",
    "2,11,pv,-1511582400",  # 1970
    "4,14,buy,0",
    "4,11,buy,-5",  # out of order
    "4,10,fav,0",  # a leak: 4 with 10 tests
    "4,10,buy,6",
    "4,11,fav,7",
]


@pytest.fixture
def raw(tmp_path):
    lines = [row.split(",") for row in RAW]
    return write(tmp_path / "UserBehavior.csv", [f"{u},{i},5,{b},{NOON + int(t)}" for u, i, b, t in lines])


def test_everything_is_counted_and_stands_in_its_split(raw, prepared):
    store = prepared(raw, least_bought=2, least_buyers=2, split="last")

    assert contents(store) == {
        "train buy": [(1, 10), (2, 14), (4, 11)],
        "train click": [(1, 10)],
        "train cart": [],
        "train favourite": [(4, 11)],
        "validation": [(1, 11), (2, 10), (4, 14)],
        "test": [(1, 14), (2, 11), (4, 10)],
    }
    assert store.counts == {
        "rows read": 22,
        "bad rows set aside": 0,
        "rows outside the window": 1,
        "rows of ignored behaviours": 0,
        "rows out of time order": 2,
        "rows dropped by the filter": 6,
        "repeats merged": 1,
        "users": 3,
        "items": 3,
        "pairs of buy": 9,
        "pairs of click": 3,
        "pairs of cart": 0,
        "pairs of favourite": 2,
        "leaks removed from buy": 0,
        "leaks removed from click": 2,
        "leaks removed from cart": 0,
        "leaks removed from favourite": 1,
        "training pairs of buy": 3,
        "training pairs of click": 1,
        "training pairs of cart": 0,
        "training pairs of favourite": 1,
        "users with training pairs": 3,
        "items with training pairs": 3,
        "validation pairs of users or items without training pairs": 0,
        "test pairs of users or items without training pairs": 0,
    }
    manifest = store.manifest
    assert manifest["source"] == {"format": "userbehavior", "files": [str(raw)]}
    assert (manifest["target"], manifest["behaviours"]) == ("buy", ["buy", "click", "cart", "favourite"])
    assert manifest["settings"] == {
        "least_bought": 2,
        "least_buyers": 2,
        "filter": "once",
        "split": "last",
        "split_seed": 0,
    }
    assert manifest["simulated"] is False
    assert sorted(path.name for path in store.path.iterdir()) == [
        "arrays",
        "items.parquet",
        "manifest.json",
        "users.parquet",
    ]


@pytest.mark.parametrize("block_bytes", [1, 50, 200])
def test_the_size_of_the_blocks_changes_nothing(block_bytes, raw, prepared, monkeypatch):
    settings = {"least_bought": 2, "least_buyers": 2, "split": "last"}
    whole = prepared(raw, **settings)
    monkeypatch.setattr(rows, "BLOCK_BYTES", block_bytes)
    streamed = prepared(raw, name="streamed", **settings)
    assert streamed.manifest == whole.manifest
    assert contents(streamed) == contents(whole)


def test_the_data_s_own_split_is_read_as_it_is(tmp_path, prepared):
    bought = [(user, item, "buy", 0) for user in "abc" for item in ("i", "j", "k", "l")]
    clicked = [("a", "i", "pv", 0), ("b", "x", "pv", 0), ("d", "i", "pv", 0)]
    write_csv(tmp_path / "train.csv", [*bought, *clicked])
    # d never bought but clicked; e is nowhere else, and neither is z; a with l is in training too.
    test = [("a", "l"), ("b", "x"), ("d", "j"), ("e", "i"), ("a", "z"), ("d", "j")]
    write_csv(tmp_path / "test.csv", test, "user,item")
    write_csv(tmp_path / "validation.csv", [("b", "i"), ("c", "x"), ("d", "j"), ("d", "k")], "user,item")
    store = prepared(tmp_path, tasks=("buy", "click"), least_bought=50)
    assert contents(store) == {
        "train buy": [(u, i) for u, i, _, _ in bought if (u, i) not in {("a", "l"), ("b", "i")}],
        "train click": [("a", "i"), ("d", "i")],
        "validation": [("b", "i"), ("d", "k")],
        "test": [("a", "l"), ("d", "j")],
    }
    counts = store.counts
    assert (counts["leaks removed from buy"], counts["leaks removed from click"]) == (2, 1)
    # b with x tests, and so x has no training pair any more.
    assert counts["test pairs of users or items without training pairs"] == 3
    assert counts["validation pairs of users or items without training pairs"] == 1
    assert (counts["test rows read"], counts["test repeats merged"]) == (6, 1)
    assert (counts["validation rows read"], counts["rows dropped by the filter"]) == (4, 0)
    assert counts["validation pairs that test too"] == 1
    assert "x" not in store.item_rows
    assert store.manifest["settings"] == {}


def test_ids_of_the_test_split_take_the_log_s_type(tmp_path, prepared):
    log = [(user, item, "buy") for user in (1, 2, 10) for item in range(5)]
    write_csv(tmp_path / "train.csv", log, "user,item,behaviour")
    write_csv(tmp_path / "test.csv", [(10, 3), ("010", 3), ("u", 3), (2, 99999999999999999999)], "user,item")
    store = prepared(tmp_path, tasks=("buy",))
    assert by_id(store, "test", "buy") == [(10, 3)]
    assert store.counts["test pairs of users or items without training pairs"] == 3


def test_behaviours_that_are_ignored_leave_no_trace(tmp_path, prepared):
    log = [(user, item, "buy", (item + user) % 5) for user in range(3) for item in range(5)]
    plain = prepared(write_csv(tmp_path / "train.csv", log), tasks=("buy",), split="last")
    noisy = write_csv(tmp_path / "train2.csv", [*log, (9, 9, "rate", 3), (0, 0, "rate", 1), (0, 1, "pv", 1)])
    store = prepared(noisy, tasks=("buy",), split="last", ignore=("rate", "pv"), name="noisy")
    assert contents(store) == contents(plain)
    assert store.counts["rows of ignored behaviours"] == 3
    assert store.counts["users"] == 3


def test_the_auxiliary_tasks_do_not_change_the_target_s_split(tmp_path, prepared):
    bought = [(user, item, "buy", 0) for user in range(6) for item in range(8)]
    log = write_csv(tmp_path / "train.csv", [*bought, (0, 3, "pv", 0), (7, 99, "pv", 0)])
    both = contents(prepared(log, tasks=("buy", "click")))
    alone = contents(prepared(log, tasks=("buy",), ignore=("click",), name="alone"))
    assert all(alone[split] == both[split] for split in ("train buy", "validation", "test"))


def test_equal_splits_have_equal_fingerprints(raw, prepared, tmp_path):
    settings = {"least_bought": 2, "least_buyers": 2, "split": "last"}
    first = prepared(raw, **settings).manifest["fingerprints"]
    shuffled = write(tmp_path / "UserBehavior2.csv", reversed(raw.read_text().splitlines()))
    assert prepared(shuffled, name="again", **settings).manifest["fingerprints"] == first
    fewer = ("buy", "click", "cart")
    alone = prepared(raw, tasks=fewer, ignore=("favourite",), name="fewer", **settings).manifest[
        "fingerprints"
    ]
    assert (alone["test"], alone["validation"]) == (first["test"], first["validation"])
    assert alone["train"] != first["train"]
    assert len(set(first.values())) == 3


def test_a_simulated_log_makes_a_simulated_store(raw, prepared):
    (raw.parent / "simulation.json").write_text('{"simulated": true}')
    assert prepared(raw, least_bought=2, split="last").manifest["simulated"] is True


BUYS = [(user, item, "buy", item) for user in range(4) for item in range(5)]


@pytest.mark.parametrize(
    ("log", "settings", "error", "message"),
    [
        (
            [*BUYS, (0, 0, "carts", 0), (1, 0, "carts", 0)],
            {},
            UsageError,
            r"train.csv: 2 rows of 'carts', neither a task of the recipe nor in data.ignore \(did you mean "
            r"'cart'\?\); add 'carts' to tasks or to data.ignore\.$",
        ),
        (
            [*BUYS, (0, 0, "rate", 0), (1, 0, "zoom", 0), (2, 0, "zoom", 0)],
            {},
            UsageError,
            "2 rows of 'zoom' and 1 more behaviours, neither a task of the recipe nor in data.ignore; add",
        ),
        (
            BUYS,
            {"tasks": ("buy", "cart")},
            UsageError,
            "not a single row of 'cart', a task of the recipe; it has buy: leave 'cart' out of tasks",
        ),
        (
            BUYS,
            {"tasks": ("buy", "pv")},
            UsageError,
            "not a single row of 'pv', a task of the recipe; it has buy: leave 'pv' out of tasks or bring a",
        ),
        (
            [(0, 0, "cart", 0), (1, 0, "pv", 0)],
            {"tasks": ("buy", "cart", "click")},
            UsageError,
            "train.csv: not a single row of 'buy', the target; it has cart, click: put another behaviour "
            r"first in tasks, or bring a log that has it\.$",
        ),
        (
            BUYS,
            {"tasks": ("cart",), "ignore": ("buy",)},
            UsageError,
            "train.csv: none of 20 rows is of a task of the recipe; bring a log of cart, or set tasks anew",
        ),
        ([], {"tasks": ("buy",)}, UsageError, r"train.csv: the log has no rows; bring one that has some\.$"),
        (
            BUYS,
            {"least_bought": 6},
            CounterpointError,
            r"train.csv: no user has 6 items or more \(the most is 5\); lower data.least_bought\.$",
        ),
        (
            BUYS,
            {"least_buyers": 5},
            CounterpointError,
            r"data.least_bought = 1 leaves 4 users, and no item has 5 of them \(the most is 4\)",
        ),
        (
            BUYS[:5],
            {},
            CounterpointError,
            "train.csv: all buy rows are of one user, 0; a ranking is learned from several, so bring more",
        ),
        (
            [*BUYS[:5], (1, 3, "buy", 4)],
            {"least_bought": 2},
            CounterpointError,
            "only one user is left, 0; a ranking is learned from several, so bring more or lower",
        ),
        (
            [row[:3] for row in BUYS],
            {"split": "last", "header": "user,item,behaviour"},
            CounterpointError,
            "the log has no times, which data.split = 'last' needs; add a column time or set data.split to",
        ),
        (
            [row for row in BUYS if row[1] < 2],
            {"split": "last"},
            CounterpointError,
            "no buy pair is left for validation; bring more, lower data.least_bought and data.least_buyers",
        ),
        (
            [(0, 0, "buy", 0), (1, 0, "buy", 0), (1, 1, "buy", 0)],
            {"test_share": 0.1},
            CounterpointError,
            "no buy pair is left for validation",
        ),
    ],
)
def test_a_log_that_cannot_be_learned_from(log, settings, error, message, tmp_path, prepared):
    header = settings.get("header", "user,item,behaviour,time")
    settings = {"tasks": ("buy",), **{key: value for key, value in settings.items() if key != "header"}}
    if "carts" in {row[2] for row in log}:
        log = [*log, (0, 0, "cart", 0)]
        settings["tasks"] = ("buy", "cart")
    write_csv(tmp_path / "train.csv", log, header)
    with pytest.raises(error, match=message) as caught:
        prepared(tmp_path / "train.csv", **settings)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (
            {
                "test": [(0, 1, "buy")],
                "validation": [(0, 1, "buy"), (9, 9, "buy"), (0, 1, "buy"), (0, 2, "pv")],
            },
            r"validation.csv: no buy pair is left for validation \(1 pairs of users or items without "
            r"training pairs, 1 pairs that test too, 1 rows of other behaviours than buy were dropped\); ",
        ),
        (
            {
                "test": [(0, 1, "buy"), (1, 1, "buy")],
                "validation": [(0, 1, "buy"), (1, 1, "buy"), (9, 9, "buy")],
            },
            r"validation.csv must hold pairs that do not test\.$",
        ),
        (
            {"test": [(0, 1, "pv"), (1, 1, "pv")], "validation": [(0, 1, "buy"), (0, 2, "cart")]},
            r"test.csv: no buy pair is left for testing \(2 rows of other behaviours than buy were "
            r"dropped\); test.csv must hold rows of buy\.$",
        ),
        (
            {"test": [], "validation": [(0, 1, "buy"), (0, 2, "pv")]},
            "test.csv: no buy pair is left for testing; test.csv must hold pairs of users and items that the",
        ),
    ],
)
def test_the_cause_of_an_empty_split_is_told(held_out, message, tmp_path, prepared):
    write_csv(tmp_path / "train.csv", BUYS)
    for split, pairs in held_out.items():
        write_csv(tmp_path / f"{split}.csv", pairs, "user,item,behaviour")
    with pytest.raises(CounterpointError, match=message):
        prepared(tmp_path, tasks=("buy",))


@pytest.mark.parametrize(
    ("name", "pairs", "message"),
    [
        (
            "test.csv",
            [(77, 1), (1, 77)],
            r"test.csv: no buy pair is left for testing \(2 pairs of users or items without training pairs "
            r"were dropped\); test.csv must hold pairs of users and items that the log has\.$",
        ),
        (
            "test.csv",
            [(user, item) for user, item, _, _ in BUYS],
            "train.csv: no buy pair is left for training",
        ),
        ("test.csv", [], r"test.csv: no buy pair is left for testing; test.csv must hold"),
    ],
)
def test_held_out_pairs_that_leave_nothing(name, pairs, message, tmp_path, prepared):
    write_csv(tmp_path / "train.csv", BUYS)
    write_csv(tmp_path / name, pairs, "user,item")
    with pytest.raises(CounterpointError, match=message):
        prepared(tmp_path, tasks=("buy",))


def test_bad_rows_are_set_aside_in_the_store(raw, prepared):
    raw.write_text("1,x,5,pv,1\n" + raw.read_text() + "1,2\n")
    with pytest.raises(BadRowError, match="line 24, field 'columns'"):
        prepared(raw, split="last")
    store = prepared(raw, split="last", on_bad_row="skip")
    assert (store.counts["bad rows set aside"], store.counts["rows read"]) == (2, 24)
    aside = [json.loads(line) for line in (store.path / "bad_rows.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in aside] == ["1,2", "1,x,5,pv,1"]


def test_only_a_store_is_replaced(raw, tmp_path, prepared):
    (tmp_path / "store").mkdir()
    prepared(raw, split="last")
    prepared(raw, split="last", tasks=("buy", "click", "cart"), ignore=("favourite",))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="mine: there is something else already; choose another place"):
        prepared(raw, split="last", name="mine")


def test_progress_tells_of_every_long_step(raw, tmp_path):
    told = []
    source = find(raw)
    recipe = shop_recipe(("buy", "click", "cart", "favourite"), least_bought=2, least_buyers=2, split="last")
    prepare(source, tmp_path / "store", recipe, Preparation(progress=lambda *step: told.append(step)))
    size = raw.stat().st_size
    assert told == [
        (f"reading {raw.parent.name}/UserBehavior.csv", size, size),
        *(("finding distinct pairs", done, 4) for done in range(5)),
        ("writing the store", 0, 1),
        ("writing the store", 1, 1),
    ]
