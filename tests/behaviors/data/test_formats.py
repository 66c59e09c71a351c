"""The formats of the shop: each is known by its file's name, and somebody else's is as good as ours."""

import importlib

import pytest

from counterpoint import api
from counterpoint.behaviors.data.formats import FORMATS
from counterpoint.errors import BadRowError, UsageError

THEIRS = """
import polars as pl

from counterpoint.behaviors.data.formats import Format
from counterpoint.storage.rows import Check, drop_bad, line_blocks


def rows(file, bad, counts, progress):
    for lines in line_blocks(file, bad, progress):
        names = ["user", "behaviour", "item"]
        fields = pl.col("row").str.split("|").list.to_struct(fields=names)
        block = lines.with_columns(fields.alias("fields")).unnest("fields")
        missing = Check("item", pl.col("item") == "", pl.lit("nothing was shown"), "remove the row")
        yield drop_bad(block, [missing], bad, file).select("user", "item", "behaviour")


def pairs(file, split, target, bad, counts, progress):
    for block in rows(file, bad, counts, progress):
        yield block.filter(pl.col("behaviour") == target).select("user", "item")


FORMAT = Format(
    name="theirs",
    summary="bars between fields",
    patterns=("sold.bars",),
    rows=rows,
    suffixes=(".bars",),
    pairs=pairs,
)
"""
SETTINGS = ['tasks=["buy", "click"]', "training.epochs=1", "data.least_bought=1", "data.least_buyers=1"]
LOG = [(f"u{user}", kind, f"i{item}") for user in range(8) for item in range(12) for kind in ("click", "buy")]


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A folder in a format that only a module of somebody else's can read; it holds out pairs of its own."""
    (tmp_path / "their_sales.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "sold.bars").write_text("\n".join("|".join(row) for row in LOG))
    (folder / "test.bars").write_text("\n".join(f"u{user}|buy|i{user}" for user in range(8)))
    return folder


def test_a_format_is_called_as_its_file():
    assert FORMATS.names == ("ijcai15", "interactions", "userbehavior")
    for name in FORMATS.names:
        module = importlib.import_module(f"counterpoint.behaviors.data.formats.{name.replace('-', '_')}")
        assert module.FORMAT.name == name
        assert FORMATS.named(name) is module.FORMAT
        assert module.FORMAT.summary


def test_a_format_of_somebody_else_is_prepared_trained_on_and_brings_its_split(theirs, tmp_path):
    with pytest.raises(UsageError, match="no log found"):
        api.prepare(theirs, recipe="metabalance", settings=SETTINGS)
    given = {"format": "their_sales:FORMAT", "settings": SETTINGS}
    store = api.prepare(theirs, recipe="metabalance", out=tmp_path / "store", **given)
    assert store.manifest["source"]["format"] == "theirs"
    assert store.counts["rows read"] == len(LOG)
    assert store.manifest["splits"]["test"] == 8
    assert store.counts["leaks removed from buy"] == 8
    run = api.train("metabalance", data=theirs, out=tmp_path / "run", **given)
    assert api.evaluate(run.path)["counts"]["scored"] == 8


def test_a_bad_row_of_somebody_else_s_format_is_set_aside(theirs, tmp_path):
    with (theirs / "sold.bars").open("a") as file:
        file.write("\nu1|buy|")
    given = {"recipe": "metabalance", "format": "their_sales:FORMAT", "settings": SETTINGS}
    with pytest.raises(BadRowError, match=f"line {len(LOG) + 1}, field 'item': nothing was shown; remove"):
        api.prepare(theirs, out=tmp_path / "stopped", **given)
    store = api.prepare(theirs, out=tmp_path / "skipped", on_bad_row="skip", **given)
    assert store.counts["bad rows set aside"] == 1
