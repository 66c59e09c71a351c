import json
import resource

import pytest

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.news.data.layout import find
from counterpoint.news.data.prepare import prepare
from counterpoint.news.recipe import Data
from counterpoint.workload import Preparation
from samples import ARTICLES, IMPRESSIONS, behaviors_row, entity, news_row

NEWS = [news_row(*row) for row in ARTICLES]
BEHAVIORS = [behaviors_row(number, *row) for number, row in enumerate(IMPRESSIONS, 1)]
OUTSIDE = news_row("N2", "sports", "cycling", "Short", [entity("P", "Q1", "Ada Holm", 5)])


@pytest.mark.parametrize(
    ("row", "field", "problem", "remedy"),
    [
        ("N2\tsports\tcycling\tTitle", "columns", "4 columns instead of 8", "separated by tabs"),
        (NEWS[1] + "\tmore", "columns", "9 columns instead of 8", "article, category, subcategory, title"),
        ("", "columns", "1 columns instead of 8", "separated by tabs"),
        (
            NEWS[1].replace("Ada Holm wins the mountain stage\t", "\t", 1),
            "title",
            "it is empty",
            "fill it in",
        ),
        (NEWS[1].replace("N2", " "), "article", "it is empty", "fill it in"),
        (NEWS[1].replace("[{", "[", 1), "entities", "Invalid JSON", "correct the entities"),
        (OUTSIDE, "entities", "offset 5 of 'Ada Holm' lies beyond the title of 5 characters", "correct"),
        (
            NEWS[0].replace("news", "nwes"),
            "article",
            "'N1' came before with other content",
            "keep one of the two",
        ),
    ],
)
def test_a_malformed_article_stops_or_is_set_aside(
    row, field, problem, remedy, mind_folder, prepared, tmp_path
):
    folder = mind_folder("mind", news=[NEWS[0], row, *NEWS[2:]], behaviors=BEHAVIORS)

    with pytest.raises(BadRowError) as caught:
        prepared(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'news.tsv'}, line 2, field {field!r}: {problem}")
    assert remedy in message
    assert message.endswith(".")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mind"]

    store = prepared(folder, on_bad_row="skip")
    assert store.counts["articles"] == 11
    assert store.counts["bad rows set aside"] == 1
    aside = json.loads((store.path / "bad_rows.jsonl").read_text())
    assert (aside["file"], aside["line"], aside["field"]) == (str(folder / "news.tsv"), 2, field)
    assert aside["problem"] == message


@pytest.mark.parametrize(
    ("row", "field", "problem", "remedy"),
    [
        ("3\tU3\t11/11/2019 10:00:00 AM\tN6", "columns", "4 columns instead of 5", "separated by tabs"),
        (
            BEHAVIORS[2].replace("11/11/2019", "2019-11-11"),
            "time",
            "'2019-11-11 10:00:00 AM' is not a time",
            "11/",
        ),
        (BEHAVIORS[2].replace("11/11/2019", "13/31/2019"), "time", "is not a time", "write it like"),
        (BEHAVIORS[2].replace("10:00:00", "25:00:00"), "time", "is not a time", "write it like"),
        (
            BEHAVIORS[2].replace("N9-0", "N9"),
            "candidates",
            "'N9' does not end in -0 or -1",
            "mark each candidate",
        ),
        (BEHAVIORS[2].replace("N9-0", "N9-2"), "candidates", "'N9-2' does not end", "mark each candidate"),
        (BEHAVIORS[2].rpartition("\t")[0] + "\t ", "candidates", "there are none", "remove the row"),
    ],
)
def test_a_malformed_impression_stops_or_is_set_aside(
    row, field, problem, remedy, mind_folder, prepared, tmp_path
):
    folder = mind_folder("mind", behaviors=[*BEHAVIORS[:2], row, *BEHAVIORS[3:]])

    with pytest.raises(BadRowError) as caught:
        prepared(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'behaviors.tsv'}, line 3, field {field!r}: ")
    assert problem in message
    assert remedy in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mind"]

    store = prepared(folder, on_bad_row="skip")
    assert store.counts["impressions"] == 19
    assert store.counts["bad rows set aside"] == 1
    assert json.loads((store.path / "bad_rows.jsonl").read_text())["row"] == row


def test_the_first_bad_row_is_named_and_all_are_set_aside(mind_folder, prepared):
    behaviors = [*BEHAVIORS, "bad", "worse\t", BEHAVIORS[0].replace("AM", "XM")]
    folder = mind_folder("mind", behaviors=behaviors)
    with pytest.raises(BadRowError, match="line 21"):
        prepared(folder)
    store = prepared(folder, on_bad_row="skip")
    lines = [json.loads(line)["line"] for line in (store.path / "bad_rows.jsonl").read_text().splitlines()]
    assert lines == [21, 22, 23]
    assert store.counts["impressions"] == 20


def test_of_bad_rows_the_first_in_the_file_is_named_whatever_is_wrong_with_it(mind_folder, prepared):
    behaviors = [BEHAVIORS[0], BEHAVIORS[1].rpartition("\t")[0] + "\t ", BEHAVIORS[2].replace("AM", "XM")]
    with pytest.raises(BadRowError, match="line 2, field 'candidates': there are none"):
        prepared(mind_folder("mind", behaviors=behaviors))


@pytest.mark.parametrize("file", ["news.tsv", "behaviors.tsv"])
def test_bytes_that_are_not_utf8(file, small_mind, prepared):
    raw = (small_mind / file).read_bytes().split(b"\n")
    raw[3] = raw[3][:7] + b"\xff" + raw[3][7:]
    (small_mind / file).write_bytes(b"\n".join(raw))

    with pytest.raises(
        BadRowError, match=f"{file}, line 4, field 'text': byte 8 of the line is not UTF-8; save"
    ):
        prepared(small_mind)
    store = prepared(small_mind, on_bad_row="skip")
    kept = {"news.tsv": ("articles", 11), "behaviors.tsv": ("impressions", 19)}[file]
    assert store.counts[kept[0]] == kept[1]


def test_all_rows_bad(mind_folder, prepared):
    folder = mind_folder("mind", behaviors=["nothing", "but", "noise"])
    with pytest.raises(CounterpointError, match=r"behaviors.tsv: no clicks at all"):
        prepared(folder, on_bad_row="skip")


def test_no_clicks_at_all(mind_folder, prepared, tmp_path):
    folder = mind_folder("mind", behaviors=[row.replace("-1", "-0") for row in BEHAVIORS])
    with pytest.raises(CounterpointError, match=r"behaviors.tsv: no clicks at all; training needs"):
        prepared(folder)
    assert not (tmp_path / "store").exists()


def test_all_at_one_time(mind_folder, prepared):
    folder = mind_folder("mind", behaviors=[behaviors_row(n, 11, 8, "U1", "", "N1-1 N2-0") for n in range(9)])
    with pytest.raises(CounterpointError, match="all at one time, which leaves none to train on"):
        prepared(folder)


@pytest.mark.parametrize("file", ["news.tsv", "behaviors.tsv"])
def test_an_empty_file(file, small_mind, prepared):
    (small_mind / file).write_bytes(b"")
    with pytest.raises(CounterpointError, match=f"{file}: the file is empty; put the data there"):
        prepared(small_mind)


def test_a_file_that_went_away(small_mind, tokenizer, tmp_path):
    source = find(small_mind)
    (small_mind / "behaviors.tsv").unlink()
    with pytest.raises(
        CounterpointError, match=r"behaviors.tsv: cannot be read \(No such file or directory\)"
    ):
        prepare(source, tmp_path / "store", tokenizer, Data(), Preparation())


@pytest.mark.parametrize("room", [200, 2_500, 30_000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(room, mind_folder, prepared, tmp_path):
    # Enough rows that a small limit on the size of files strikes numpy's files and Polars' alike.
    behaviors = [behaviors_row(n, 11 + n % 4, 8, f"U{n}", f"N{n % 12}", "N1-1 N2-0") for n in range(10_000)]
    folder = mind_folder("mind", behaviors=behaviors)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(CounterpointError) as caught:
            prepared(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value).startswith(f"{tmp_path / 'store'}: writing failed (")
    assert "free some space" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mind"]
