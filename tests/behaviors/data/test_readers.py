import json
import re
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from counterpoint.behaviors.data.formats import ijcai15, interactions, userbehavior
from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.progress import silent
from counterpoint.storage import rows
from counterpoint.storage.rows import BadRows

from .shop_logs import write, write_csv

HEADER = "user,item,behaviour,time"


def read(reader, file: Path, policy: str = "stop") -> tuple[list[tuple], Counter, BadRows]:
    bad, counts = BadRows(policy, file.parent / "bad.jsonl"), Counter()
    blocks = [block.rows() for block in reader.FORMAT.rows(file, bad, counts, silent)]
    return [row for block in blocks for row in block], counts, bad


def test_userbehavior_keeps_the_nine_days_of_beijing(tmp_path):
    def seconds(*moment: int) -> int:
        return int(datetime(*moment, tzinfo=UTC).timestamp())

    first, last = seconds(2017, 11, 24, 16), seconds(2017, 12, 3, 15, 59, 59)
    file = write(
        tmp_path / "UserBehavior.csv",
        [
            f"1,10,7,pv,{first}",
            f"1,10,7,pv,{first - 1}",
            f"2,10,7,fav,{last}",
            f"2,10,7,buy,{last + 1}",
            "2,10,7,buy,-2134949234",
            f"3,11,,cart,{last}",
        ],
    )
    found, counts, _ = read(userbehavior, file)
    assert found == [(1, 10, "click", first), (2, 10, "favourite", last), (3, 11, "cart", last)]
    assert counts == {"rows outside the window": 3}


def test_ijcai15_reads_its_columns_by_name(tmp_path):
    file = write(
        tmp_path / "user_log.csv",
        [
            "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type",
            "1,20,3,4,,0829,0",
            "1,20,3,4,5,829,1",
            "1,21,,4,5,1111,2",
            "2,21,3,,5,511,3",
        ],
    )
    found, _, _ = read(ijcai15, file)
    assert found == [
        (1, 20, "click", 829),
        (1, 20, "cart", 829),
        (1, 21, "buy", 1111),
        (2, 21, "favourite", 511),
    ]


ROWS = [("u1", "7", "view", "2024-03-01T00:00:00"), ("u2", "8", "purchase", "2024-03-01T01:00:01+01:00")]
MARCH = 1_709_251_200_000_000


@pytest.mark.parametrize("form", ["csv", "quoted.csv", "crlf.csv", "jsonl", "parquet", "datetimes.parquet"])
def test_forms_of_a_log_of_one_s_own_are_equal(form, tmp_path):
    file = tmp_path / f"interactions.{form}"
    if form.endswith("csv"):
        lines = [HEADER + ",page", *(",".join([*row, "x"]) for row in ROWS)]
        if form == "quoted.csv":
            lines = [
                '"user",item,behavior,time,page',
                *(f'"{a}",{b},"{c}",{d},"x, y"' for a, b, c, d in ROWS),
            ]
        file.write_bytes(
            ("\r\n" if form == "crlf.csv" else "\n").join(["\ufeff" + lines[0], *lines[1:]]).encode()
        )
    elif form == "jsonl":
        keys = ("user", "item", "behavior", "time", "page")
        write(file, [json.dumps(dict(zip(keys, [*row, None], strict=True))) for row in ROWS])
    else:
        table = pl.DataFrame(ROWS, schema=["user", "item", "behavior", "time"], orient="row")
        if form == "datetimes.parquet":
            times = pl.Series(
                [datetime(2024, 3, 1), datetime(2024, 3, 1, 0, 0, 1)], dtype=pl.Datetime("ms", "UTC")
            )
            table = table.with_columns(pl.col("behavior").cast(pl.Categorical), time=times)
        table.write_parquet(file)
    found, _, _ = read(interactions, file)
    assert found == [("u1", "7", "click", MARCH), ("u2", "8", "buy", MARCH + 1_000_000)]


def test_numbers_and_days_are_times_too_and_none_is_needed(tmp_path):
    file = write_csv(tmp_path / "train.csv", [(1, 2, "buy", 511), (1, 3, "wishlist", 20171125)])
    assert read(interactions, file)[0] == [("1", "2", "buy", 511), ("1", "3", "wishlist", 20171125)]
    file = write_csv(tmp_path / "train2.csv", [(1, 2, "buy")], "item,user,behavior")
    assert read(interactions, file)[0] == [("2", "1", "buy")]
    file = tmp_path / "train.parquet"
    table = {"user": [1, 2], "item": [5, 6], "behavior": ["buy", "fav"], "time": [date(1970, 1, 2)] * 2}
    pl.DataFrame(table, schema_overrides={"user": pl.UInt8}).write_parquet(file)
    day = 86_400_000_000
    assert read(interactions, file)[0] == [(1, 5, "buy", day), (2, 6, "favourite", day)]


def test_only_the_target_s_rows_are_held_out(tmp_path):
    file = write_csv(
        tmp_path / "test.csv", [(1, 2, "purchase"), (1, 3, "pv"), (2, 3, "buy")], "user,item,behavior"
    )
    counts: Counter[str] = Counter()
    blocks = interactions.FORMAT.pairs(file, "test", "buy", BadRows("stop", tmp_path / "bad"), counts, silent)
    assert [row for block in blocks for row in block.rows()] == [("1", "2"), ("2", "3")]
    assert counts == {"test rows of other behaviours than buy": 1}


def test_texts_that_only_begin_like_numbers_are_ids(tmp_path):
    ids = ["-1Lr0G", "1.5", "1.0.0", "v1.0", "-", "007", "3.", "-x"]
    file = write_csv(
        tmp_path / "train.csv", [(name, 1, "buy") for name in ids if name != "3."], "user,item,behaviour"
    )
    assert [row[0] for row in read(interactions, file)[0]] == [name for name in ids if name != "3."]


@pytest.mark.parametrize("written", ["-3.0", "-0.5", "-.5", "-1e+16", "-3."])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_id_below_0_is_refused_in_every_form(written, form, tmp_path):
    file = tmp_path / f"train.{form}"
    if form == "csv":
        write_csv(file, [("a", written, "buy")], "user,item,behaviour")
    elif form == "jsonl":
        write(file, [json.dumps({"user": "a", "item": written, "behaviour": "buy"})])
    else:
        pl.DataFrame({"user": ["a"], "item": [written], "behaviour": ["buy"]}).write_parquet(file)
    with pytest.raises(BadRowError, match=f"field 'item': '{re.escape(written)}' is below 0; give every row"):
        read(interactions, file)


IN_TIME = "1511544070"


@pytest.mark.parametrize(
    ("reader", "row", "field", "problem"),
    [
        (userbehavior, f"-1,2,3,pv,{IN_TIME}", "user", "'-1' is no whole number of 0 or more"),
        (userbehavior, f"u1,2,3,pv,{IN_TIME}", "user", "'u1' is no whole number of 0 or more"),
        (userbehavior, f"1,,3,pv,{IN_TIME}", "item", "it is missing"),
        (userbehavior, f"1,2.0,3,pv,{IN_TIME}", "item", "'2.0' is no whole number of 0 or more"),
        (userbehavior, f"1,99999999999999999999,3,pv,{IN_TIME}", "item", "is no whole number of 0 or more"),
        (
            userbehavior,
            f"1,2,3,view,{IN_TIME}",
            "behaviour",
            "'view' is unknown; known are pv, buy, cart, fav",
        ),
        (userbehavior, f"1,2,3,,{IN_TIME}", "behaviour", "it is missing"),
        (userbehavior, "1,2,3,pv,today", "time", "'today' is no whole number; correct it or remove the row"),
        (userbehavior, "1,2,3,pv", "columns", "4 columns instead of 5; separate them by commas"),
        (userbehavior, f"1,2,3,pv,{IN_TIME},", "columns", "6 columns instead of 5"),
        (userbehavior, f'"1",2,3,pv,{IN_TIME}', "user", "'\"1\"' is no whole number"),
        (ijcai15, "1,2,1301,0", "time_stamp", "'1301' is no day; write month and day as MMDD"),
        (ijcai15, "1,2,832,0", "time_stamp", "'832' is no day"),
        (ijcai15, "1,2,831,4", "action_type", "'4' is unknown; known are 0, 1, 2, 3"),
        (ijcai15, "1,2,831", "columns", "3 columns instead of 4"),
        (interactions, ",2,buy,3", "user", "it is missing; give every row an id"),
        (interactions, "1, ,buy,3", "item", "it is missing"),
        (interactions, "1,-2,buy,3", "item", "'-2' is below 0"),
        (interactions, "1,-2.0,buy,3", "item", "'-2.0' is below 0"),
        (
            interactions,
            "0.0,2,buy,3",
            "user",
            "'0.0' is written with a decimal point; write ids as whole numbers.",
        ),
        (
            interactions,
            "1,12.,buy,3",
            "item",
            "'12.' is written with a decimal point; write ids as whole numbers.",
        ),
        (interactions, "1,2,,3", "behaviour", "it is missing; fill it in or remove the row"),
        (interactions, "1,2,buy,", "time", "it is missing"),
        (
            interactions,
            "1,2,buy,noon",
            "time",
            "'noon' is no time; write a whole number or 2026-03-01T08:15:00",
        ),
        (interactions, "1,2,buy,1.5", "time", "'1.5' is no time"),
        (interactions, '1,"2,buy,3', "columns", "the quotes do not fit"),
        (
            interactions,
            '"1,2",buy,3',
            "columns",
            "3 columns instead of 4; keep each row on a line of its own",
        ),
    ],
)
@pytest.mark.parametrize("block_bytes", [16, 1 << 20])
def test_a_malformed_row_stops_or_is_set_aside(
    reader, row, field, problem, block_bytes, tmp_path, monkeypatch
):
    monkeypatch.setattr(rows, "BLOCK_BYTES", block_bytes)
    good, header = {
        userbehavior: (f"1,2,3,pv,{IN_TIME}", []),
        ijcai15: ("1,2,0831,0", ["user_id,item_id,time_stamp,action_type"]),
        interactions: ("1,2,buy,3", [HEADER]),
    }[reader]
    file = write(tmp_path / "log.csv", [*header, good, "", row, good])
    line = len(header) + 3

    with pytest.raises(BadRowError) as caught:
        read(reader, file)
    message = str(caught.value)
    assert message.startswith(f"{file}, line {line}, field {field!r}: ")
    assert problem in message
    assert message.endswith(".")

    found, _, bad = read(reader, file, "skip")
    assert len(found) == 2
    assert bad.count == 1
    aside = json.loads(bad.aside.read_text())
    assert aside == {"file": str(file), "line": line, "field": field, "problem": message, "row": row}


@pytest.mark.parametrize(
    ("line", "field", "problem"),
    [
        ("[1, 2]", "line", "not a JSON object; write one object a line"),
        ('{"user": 1', "line", "not a JSON object"),
        ('{"user": 1, "item": 2.5, "behaviour": "buy"}', "item", "'2.5' is neither a whole number nor text"),
        (
            '{"user": true, "item": 2, "behaviour": "buy"}',
            "user",
            "'True' is neither a whole number nor text",
        ),
        ('{"user": null, "item": 2, "behaviour": "buy"}', "user", "it is missing"),
        ('{"user": 1, "behaviour": "buy"}', "item", "it is missing"),
        ('{"user": "\\ud83d", "item": 2, "behaviour": "buy"}', "user", "neither a whole number nor text"),
    ],
)
def test_a_malformed_line_of_json(line, field, problem, tmp_path):
    good = '{"user": 1, "item": "b", "behaviour": "buy"}'
    file = write(tmp_path / "train.jsonl", [good, line, good])
    with pytest.raises(BadRowError, match=f"line 2, field {field!r}: ") as caught:
        read(interactions, file)
    assert problem in str(caught.value)
    assert read(interactions, file, "skip")[0] == [("1", "b", "buy")] * 2


def test_a_malformed_row_of_parquet_is_named_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(interactions, "PARQUET_ROWS", 2)
    file = tmp_path / "train.parquet"
    table = {"user": [1, 2, 3, -4, 5], "item": ["a", "b", None, "d", "e"], "behaviour": ["buy"] * 5}
    pl.DataFrame(table).write_parquet(file)
    found, _, bad = read(interactions, file, "skip")
    assert found == [(1, "a", "buy"), (2, "b", "buy"), (5, "e", "buy")]
    aside = [json.loads(line) for line in bad.aside.read_text().splitlines()]
    assert [(entry["line"], entry["field"]) for entry in aside] == [(3, "item"), (4, "user")]
    assert json.loads(aside[1]["row"]) == {"user": -4, "item": "d", "behaviour": "buy"}


def test_bytes_that_are_no_text(tmp_path):
    file = tmp_path / "train.csv"
    file.write_bytes(b"user,item,behaviour\n1,2,buy\n1,\xff,buy\n1,3,buy\n")
    with pytest.raises(BadRowError, match=r"line 3, field 'text': byte 3 of the line is not UTF-8"):
        read(interactions, file)
    assert read(interactions, file, "skip")[0] == [("1", "2", "buy"), ("1", "3", "buy")]


@pytest.mark.parametrize(
    ("reader", "lines", "message"),
    [
        (
            interactions,
            ["user,item,time", "1,2,3"],
            "no columns are called behaviour or behavior .there are user, ",
        ),
        (
            interactions,
            ["user,item,behaviour,behavior", "1,2,a,b"],
            "2 columns are called behaviour or behavior",
        ),
        (interactions, ["user,user,item,behavior", "1,2,a,b"], "2 columns are called user"),
        (
            interactions,
            [HEADER, "1,2,a,3", "1,2,a,2024-01-01"],
            "the times are ISO 8601 and whole numbers; write all",
        ),
        (interactions, ['"user,item'], "line 1: no header"),
        (interactions, [], "the file is empty; put the data there or name another one"),
        (
            ijcai15,
            ["user_id,item_id,action_type", "1,2,3"],
            "no column is called 'time_stamp', or more than one",
        ),
        (userbehavior, [], "the file is empty"),
    ],
)
def test_a_file_that_cannot_be_a_log(reader, lines, message, tmp_path):
    with pytest.raises(CounterpointError, match=message):
        read(reader, write(tmp_path / "train.csv", lines))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("train.jsonl", b"1\n2\n", "there is no JSON object in it; write one on each line"),
    ],
)
def test_a_broken_file(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CounterpointError, match=message) as caught:
        read(interactions, tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_column_of_fractions_is_refused(tmp_path):
    file = tmp_path / "train.parquet"
    pl.DataFrame({"user": [1.0], "item": [2], "behaviour": ["buy"]}).write_parquet(file)
    with pytest.raises(CounterpointError, match="column 'user' is Float64; write whole numbers or text"):
        read(interactions, file)
