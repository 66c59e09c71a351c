import codecs
import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.progress import silent
from counterpoint.storage import rows
from counterpoint.storage.rows import BadRows, Check, drop_bad, line_blocks, parquet_blocks, parquet_schema

LONG = Check("name", pl.col("name").str.len_chars() > 3, pl.format("'{}' is long", "name"), "shorten it")
ODD = Check("number", pl.col("number") % 2 == 1, pl.format("{} is odd", "number"), "double it")


@pytest.fixture
def bad(tmp_path):
    return lambda policy="skip": BadRows(policy, tmp_path / "aside.jsonl")


def read(file, bad):
    return [row for block in line_blocks(file, bad, silent) for row in block.iter_rows()]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\xc3\xa9", b"\xff", b"\t", b""])).map(b"".join),
    mark=st.booleans(),
    block=st.integers(1, 12),
)
def test_lines_are_those_between_line_feeds_whatever_the_blocks(content, mark, block, tmp_path, bad):
    file, content = tmp_path / "file.txt", content + b"z"
    file.write_bytes(codecs.BOM_UTF8 * mark + content)
    expected = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if b"\xff" not in line:
            expected.append((number, line.removesuffix(b"\r").decode()))
    with pytest.MonkeyPatch.context() as patch:
        # A byte-order mark is looked for in the first block.
        patch.setattr(rows, "BLOCK_BYTES", max(block, 3))
        assert read(file, bad()) == expected


def test_a_line_feed_ends_a_line_and_begins_none(tmp_path, bad):
    file = tmp_path / "file.txt"
    for content, lines in ((b"\n", [(1, "")]), (b"a\n", [(1, "a")]), (b"a\n\n", [(1, "a"), (2, "")])):
        file.write_bytes(content)
        assert read(file, bad()) == lines


def test_progress_counts_bytes(tmp_path, bad, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_BYTES", 4)
    (tmp_path / "file.txt").write_bytes(b"ab\ncd\nef")
    told = []
    list(line_blocks(tmp_path / "file.txt", bad(), lambda *told_now: told.append(told_now)))
    label = f"reading {tmp_path.name}/file.txt"
    assert told == [(label, 4, 8), (label, 8, 8)]


def test_a_bad_row_is_reported_once_and_by_its_first_fault(tmp_path, bad):
    block = pl.DataFrame(
        {
            "line": [4, 5, 6, 7],
            "row": ["fine,2", "odd,3", "longer,5", ",4"],
            "name": ["abc", "odd", "longer", None],
            "number": [2, 3, 5, 4],
        }
    )
    aside = bad()
    kept = drop_bad(block, [LONG, ODD], aside, tmp_path / "file")
    assert kept.equals(block[:1])
    entries = [json.loads(line) for line in aside.aside.read_text().splitlines()]
    assert [(entry["line"], entry["field"], entry["row"]) for entry in entries] == [
        (5, "number", "odd,3"),
        (6, "name", "longer,5"),
        (7, "name", ",4"),
    ]
    assert (
        entries[1]["problem"] == f"{tmp_path / 'file'}, line 6, field 'name': 'longer' is long; shorten it."
    )
    assert aside.count == 3
    with pytest.raises(BadRowError, match="line 5, field 'number': 3 is odd; double it"):
        drop_bad(block, [LONG, ODD], bad("stop"), tmp_path / "file")


def test_a_bad_row_without_its_text_is_set_aside_as_json(tmp_path, bad):
    block = pl.DataFrame({"line": [1], "number": [3], "items": [["a", "b"]], "_made": [0]})
    aside = bad()
    assert drop_bad(block, [ODD], aside, tmp_path / "file").is_empty()
    assert json.loads(json.loads(aside.aside.read_text())["row"]) == {"number": 3, "items": ["a", "b"]}


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_parquet_is_read_in_blocks_that_know_their_first_row(size, tmp_path):
    table = pl.DataFrame({"a": range(5), "line": list("vwxyz")})
    table.write_parquet(tmp_path / "file.parquet")
    blocks = list(parquet_blocks(tmp_path / "file.parquet", size, silent))
    assert [first for first, _ in blocks] == list(range(1, 6, size))
    assert pl.concat([block for _, block in blocks]).equals(table)
    _, alone = next(parquet_blocks(tmp_path / "file.parquet", size, silent, ["line"]))
    assert alone.columns == ["line"]
    assert parquet_schema(tmp_path / "file.parquet") == table.schema


def test_files_that_are_missing_empty_or_broken(tmp_path, bad):
    file = tmp_path / "file"
    with pytest.raises(CounterpointError, match=r"file: cannot be read \(No such file or directory\); check"):
        read(file, bad())
    file.write_bytes(b"")
    with pytest.raises(CounterpointError, match="the file is empty; put the data there or name another one"):
        read(file, bad())
    file.write_bytes(b"PAR1 and no more")
    for use in (lambda: parquet_schema(file), lambda: list(parquet_blocks(file, 3, silent))):
        with pytest.raises(
            CounterpointError, match=r"file: cannot be read as Parquet \(.*\); check the"
        ) as caught:
            use()
        assert "\n" not in str(caught.value)
