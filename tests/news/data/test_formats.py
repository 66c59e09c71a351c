"""The formats of news: each is known by its file's name, and somebody else's is as good as ours."""

import importlib

import pytest

from counterpoint import api
from counterpoint.errors import BadRowError, UsageError
from counterpoint.news.data.formats import FORMATS
from samples import ARTICLES, IMPRESSIONS

THEIRS = """
import polars as pl

from counterpoint.errors import BadRowError
from counterpoint.news.data.formats import Format
from counterpoint.news.data.rows import ARTICLE_SCHEMA, IMPRESSION_SCHEMA, in_schema
from counterpoint.storage.rows import line_blocks


def articles(file, bad, progress):
    for lines in line_blocks(file, bad, progress):
        article, title = zip(*(row.split("|") for row in lines["row"]))
        rows = lines.with_columns(article=pl.Series(article), title=pl.Series(title))
        yield in_schema(rows, ARTICLE_SCHEMA)


def impressions(file, bad, progress, *, labelled):
    for lines in line_blocks(file, bad, progress):
        parsed = []
        for line, row in lines.iter_rows():
            day, reader, history, shown = row.split("|")
            if not shown:
                bad.add(BadRowError(file, line, "shown", "nothing was", "remove the row"), row)
                continue
            pairs = [one.rsplit("-", 1) for one in shown.split()]
            parsed.append(
                {
                    "line": line, "impression": str(line), "reader": reader, "history": history.split(),
                    "time": pl.datetime(2019, 11, int(day)).dt.cast_time_unit("us"),
                    "candidates": [article for article, _ in pairs],
                    "clicked": [int(click) for _, click in pairs],
                }
            )
        times = pl.select(pl.concat_list([one.pop("time") for one in parsed]).explode()).to_series()
        yield in_schema(pl.DataFrame(parsed).with_columns(time=times), IMPRESSION_SCHEMA)


FORMAT = Format(
    name="theirs",
    summary="bars between fields",
    article_files=("stories.bars",),
    impression_files=("shown.bars",),
    without_articles="write stories.bars",
    articles=articles,
    impressions=impressions,
)
"""


def test_a_format_is_called_as_its_file():
    assert list(FORMATS.names) == ["ebnerd", "logs", "mind"]
    for name in FORMATS.names:
        module = importlib.import_module(f"counterpoint.news.data.formats.{name.replace('-', '_')}")
        assert module.FORMAT.name == name
        assert FORMATS.named(name) is module.FORMAT
        assert module.FORMAT.summary


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A folder in a format that only a module of somebody else's can read."""
    (tmp_path / "their_stories.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "site"
    folder.mkdir()
    stories = [f"{article}|{title}" for article, _, _, title in ARTICLES]
    shown = [f"{day}|{reader}|{history}|{candidates}" for day, _, reader, history, candidates in IMPRESSIONS]
    (folder / "stories.bars").write_text("\n".join(stories))
    (folder / "shown.bars").write_text("\n".join(shown))
    return folder


def test_a_format_of_somebody_else_is_prepared_and_trained_on(theirs, tiny_encoder, tmp_path):
    settings = [f"encoder.name={tiny_encoder}", "training.precision=fp32", "training.epochs=1"]
    with pytest.raises(UsageError, match="no data found"):
        api.prepare(theirs, settings=settings)
    given = {"format": "their_stories:FORMAT", "settings": settings}
    store = api.prepare(theirs, out=tmp_path / "store", **given)
    assert store.manifest["source"]["format"] == "theirs"
    assert store.counts["articles"] == len(ARTICLES)
    assert store.counts["clicks"] == sum(one[-1].count("-1") for one in IMPRESSIONS)
    assert store.manifest["splits"] == {"train": 11, "validation": 4, "test": 5, "unlabelled": 0}
    run = api.train("bert", data=theirs, out=tmp_path / "run", **given)
    assert 0 <= api.evaluate(run.path)["metrics"]["auc"] <= 1


def test_a_bad_row_of_somebody_else_s_format_is_set_aside(theirs, tiny_encoder, tmp_path):
    with (theirs / "shown.bars").open("a") as file:
        file.write("\n14|U1|N1|")
    given = {"format": "their_stories:FORMAT", "settings": [f"encoder.name={tiny_encoder}"]}
    with pytest.raises(BadRowError, match="line 21, field 'shown': nothing was; remove the row"):
        api.prepare(theirs, out=tmp_path / "stopped", **given)
    store = api.prepare(theirs, out=tmp_path / "skipped", on_bad_row="skip", **given)
    assert store.counts["bad rows set aside"] == 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("their_stories:NOTHING", "format: their_stories:NOTHING cannot be imported"),
        ("nobodys:FORMAT", "format: nobodys:FORMAT cannot be imported"),
        (
            "their_stories:articles",
            "their_stories:articles is no counterpoint.news.data.formats.Format",
        ),
    ],
)
def test_what_is_no_format_is_named(name, problem, theirs):
    with pytest.raises(UsageError, match=problem):
        api.prepare(theirs, format=name)
