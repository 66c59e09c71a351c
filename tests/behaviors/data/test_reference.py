"""A second implementation of filter, split and leak guard, with dictionaries, over random logs."""

import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare
from counterpoint.behaviors.recipe import BehaviorsRecipe, Data
from counterpoint.errors import CounterpointError
from counterpoint.storage import rows
from counterpoint.workload import Preparation

from .shop_logs import contents, write_csv

TASKS = ("buy", "click", "cart")
NAMES = {"buy": "buy", "pv": "click", "cart": "cart"}
USERS, ITEMS = st.integers(0, 11), st.integers(0, 8)
# Buys are most of it, or little would be left by the thresholds.
BEHAVIOURS = st.sampled_from(["buy", "buy", "buy", "pv", "cart"])
LOGS = st.lists(st.tuples(USERS, ITEMS, BEHAVIOURS, st.integers(0, 6)), min_size=20, max_size=120)
SETTINGS = st.builds(
    Data,
    least_bought=st.integers(1, 3),
    least_buyers=st.integers(1, 3),
    filter=st.sampled_from(["once", "core"]),
    split=st.sampled_from(["random", "last"]),
    validation_share=st.sampled_from([0.1, 0.2]),
    test_share=st.sampled_from([0.2, 0.4]),
    split_seed=st.integers(0, 3),
)
HELD_OUT = st.none() | st.lists(st.tuples(USERS, ITEMS), max_size=12)


def expected(log, data: Data, given_test, given_validation) -> dict | None:
    """Return the pairs of each split and the counts; None where a split is empty."""
    first: dict[str, dict] = {task: {} for task in TASKS}
    rows_of = defaultdict(int)
    for user, item, behaviour, time in log:
        pairs = first[NAMES[behaviour]]
        pairs[user, item] = min(time, pairs.get((user, item), time))
        rows_of[NAMES[behaviour], user, item] += 1
    if given_test is None:
        kept = bought(set(first["buy"]), data)
        users, items = kept
        first = {
            task: {pair: time for pair, time in pairs.items() if pair[0] in users and pair[1] in items}
            for task, pairs in first.items()
        }
    target = sorted(first["buy"])
    if len({user for pairs in first.values() for user, _ in pairs}) < 2 or not target:
        return None
    train, validation, test = divided(target, first["buy"], data, given_test, given_validation)
    held_out = validation | test
    trains = {task: set(pairs) - held_out for task, pairs in first.items()} | {"buy": train}
    known_users = {user for pairs in trains.values() for user, _ in pairs}
    known_items = {item for pairs in trains.values() for _, item in pairs}

    def known(pairs: set) -> set:
        return {pair for pair in pairs if pair[0] in known_users and pair[1] in known_items}

    found = {f"train {task}": sorted(pairs) for task, pairs in trains.items()}
    found |= {"validation": sorted(known(validation)), "test": sorted(known(test))}
    if not (found["train buy"] and found["validation"] and found["test"]):
        return None
    kept_rows = sum(count for (task, *pair), count in rows_of.items() if tuple(pair) in first[task])
    pairs = sum(map(len, first.values()))
    return found | {
        "counts": {
            **{f"pairs of {task}": len(own) for task, own in first.items()},
            **{f"leaks removed from {task}": len(set(first[task]) - trains[task]) for task in TASKS[1:]},
            "rows dropped by the filter": len(log) - kept_rows,
            "repeats merged": kept_rows - pairs,
            "users": len({user for own in first.values() for user, _ in own}),
            "items": len({item for own in first.values() for _, item in own}),
            "users with training pairs": len(known_users),
            "items with training pairs": len(known_items),
            "validation pairs of users or items without training pairs": len(validation - known(validation)),
            "test pairs of users or items without training pairs": len(test - known(test)),
            "rows out of time order": sum(any_earlier(times) for times in times_by_user(log).values()),
        }
    }


def times_by_user(log) -> dict[int, list[int]]:
    times = defaultdict(list)
    for user, _, _, time in log:
        times[user].append(time)
    return times


def any_earlier(times: list[int]) -> int:
    return sum(later < earlier for earlier, later in pairwise(times))


def bought(pairs: set, data: Data) -> tuple[set, set]:
    while True:
        items_of, users_of = defaultdict(set), defaultdict(set)
        for user, item in pairs:
            items_of[user].add(item)
        users = {user for user, items in items_of.items() if len(items) >= data.least_bought}
        for user, item in pairs:
            if user in users:
                users_of[item].add(user)
        items = {item for item, own in users_of.items() if len(own) >= data.least_buyers}
        left = {(user, item) for user, item in pairs if user in users and item in items}
        if data.filter == "once" or left == pairs:
            return users, items
        pairs = left


def divided(target, times, data: Data, given_test, given_validation) -> tuple[set, set, set]:
    random = np.random.default_rng(data.split_seed)
    if given_test is not None:
        test = set(given_test)
        left = [pair for pair in target if pair not in test]
        if given_validation is not None:
            validation = set(given_validation) - test
        else:
            order = random.permutation(len(left))
            share = data.validation_share / (1 - data.test_share)
            validation = {left[place] for place in order[: round(share * len(left))]}
        return set(left) - validation, validation, test
    order = random.permutation(len(target))
    if data.split == "random":
        tested, validated = round(data.test_share * len(target)), round(data.validation_share * len(target))
        test = {target[place] for place in order[:tested]}
        validation = {target[place] for place in order[tested : tested + validated]}
    else:
        test, validation = set(), set()
        for owner in {user for user, _ in target}:
            own = [place for place, (user, _) in enumerate(target) if user == owner]
            own.sort(key=lambda place: (times[target[place]], order[place]))
            if len(own) >= 3:
                test.add(target[own[-1]])
                validation.add(target[own[-2]])
    return set(target) - test - validation, validation, test


def known_to(log, pairs) -> list:
    """Return the pairs whose ids the log has, each once: all others are dropped before anything else."""
    users, items = {row[0] for row in log}, {row[1] for row in log}
    return sorted({(user, item) for user, item in pairs if user in users and item in items})


@pytest.mark.slow
@settings(max_examples=settings.default.max_examples // 4, suppress_health_check=list(HealthCheck))
@given(
    log=LOGS,
    data=SETTINGS,
    test=HELD_OUT,
    validation=HELD_OUT,
    text=st.booleans(),
    block=st.sampled_from([40, 300, 1 << 20]),
)
def test_the_store_holds_what_dictionaries_hold(log, data, test, validation, text, block):
    validation = None if test is None else validation
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK_BYTES", block)
        folder = Path(place)
        # Letters in front make ids text; all have two digits, or text would ascend in another order.
        name = (lambda number: f"n{number:02}") if text else str
        write_csv(folder / "train.csv", [(name(u), name(i), b, t) for u, i, b, t in log])
        for role, pairs in (("test", test), ("validation", validation)):
            if pairs is not None:
                write_csv(folder / f"{role}.csv", [(name(u), name(i)) for u, i in pairs], "user,item")
        recipe = BehaviorsRecipe(name="shop", tasks=TASKS, data=data)
        present = {NAMES[behaviour] for _, _, behaviour, _ in log}
        wanted = None
        if present == set(TASKS):
            given_test, given_validation = (
                None if pairs is None else known_to(log, pairs) for pairs in (test, validation)
            )
            wanted = expected(log, data, given_test, given_validation)
        event("refused" if wanted is None else "prepared")
        if wanted is None:
            with pytest.raises(CounterpointError) as caught:
                prepare(find(folder), folder / "store", recipe, Preparation())
            assert "\n" not in str(caught.value)
            return
        store = prepare(find(folder), folder / "store", recipe, Preparation())
        counts = wanted.pop("counts")
        for role, pairs in (("test", test), ("validation", validation)):
            if pairs is not None:
                strangers = len(set(pairs)) - len(known_to(log, pairs))
                counts[f"{role} pairs of users or items without training pairs"] += strangers
        found = contents(store)
        if text:
            found = {split: [(int(u[1:]), int(i[1:])) for u, i in pairs] for split, pairs in found.items()}
        assert found == wanted
        assert {name: store.counts[name] for name in counts} == counts
        assert (
            store.counts["rows read"]
            == len(log)
            == (
                store.counts["rows dropped by the filter"]
                + store.counts["repeats merged"]
                + sum(store.counts[f"pairs of {task}"] for task in TASKS)
            )
        )
        assert store.user_count == counts["users with training pairs"] == len(store.user_ids)
        assert store.item_count == counts["items with training pairs"] == len(store.item_ids)
