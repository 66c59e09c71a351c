import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare
from counterpoint.behaviors.data.store import Store
from counterpoint.errors import CounterpointError
from counterpoint.storage import rows
from counterpoint.workload import Preparation

from .shop_logs import shop_recipe, write, write_csv

ROWS = [
    (user, item, behaviour, 1_511_582_400 + item)
    for user in range(10, 15)
    for item in range(20, 30)
    for behaviour in ("buy", "pv")
]
SPICE = [
    b",",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff",
    b"\xc3",
    b'"',
    b"{}",
    b"-",
    b" ",
    b"9" * 30,
    b"\xf0\x9f\x98\x80",
]
MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 2500), st.integers(0, 40), st.one_of(st.sampled_from(SPICE), st.binary(max_size=6))
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=settings.default.max_examples // 4, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["UserBehavior.csv", "train.csv", "train.jsonl"]),
    mutations=MUTATIONS,
    block=st.sampled_from([64, 1000, 1 << 20]),
    policy=st.sampled_from(["stop", "skip"]),
)
def test_any_damage_gives_a_store_or_one_sentence(name, mutations, block, policy):
    """Bytes cut out of and put into valid files, anywhere: no other error, and no inconsistent store."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK_BYTES", block)
        file = Path(place) / name
        if name == "UserBehavior.csv":
            write(file, [f"{user},{item},7,{behaviour},{time}" for user, item, behaviour, time in ROWS])
        elif name == "train.csv":
            write_csv(file, ROWS)
        else:
            keys = ("user", "item", "behaviour", "time")
            write(file, [json.dumps(dict(zip(keys, row, strict=True))) for row in ROWS])
        for start, length, put in mutations:
            raw = file.read_bytes()
            file.write_bytes(raw[:start] + put + raw[start + length :])
        try:
            recipe = shop_recipe(("buy", "click"), least_bought=1, least_buyers=1)
            store = prepare(find(file), Path(place) / "store", recipe, Preparation(on_bad_row=policy))
        except CounterpointError as error:
            message = str(error)
        else:
            message = ""
            _check(store)
        if message:
            assert "\n" not in message
            assert [path.name for path in Path(place).iterdir()] == [name]


def _check(store: Store) -> None:
    counts = store.counts
    assert counts["rows read"] == sum(
        counts[name]
        for name in (
            "bad rows set aside",
            "rows outside the window",
            "rows of ignored behaviours",
            "rows dropped by the filter",
            "repeats merged",
            "pairs of buy",
            "pairs of click",
        )
    )
    assert len(store.user_rows) == store.user_count
    assert len(store.item_rows) == store.item_count
    pairs = [store.interactions("train", name) for name in store.behaviours]
    assert set(np.concatenate([own.users() for own in pairs])) == set(range(store.user_count))
    assert set(np.concatenate([own.items for own in pairs])) == set(range(store.item_count))
