import csv
import json
from datetime import datetime

import polars as pl
import pytest

from counterpoint.errors import BadRowError, CounterpointError
from samples import ARTICLES, ENTITIES, IMPRESSIONS, entity

ARTICLE_ROWS = [
    {
        "article": article,
        "title": title,
        "abstract": f"About {title}",
        "category": category,
        "subcategory": subcategory,
        "entities": [entity(*one) for one in ENTITIES.get(article, [])],
    }
    for article, category, subcategory, title in ARTICLES
]
IMPRESSION_ROWS = [
    {
        "impression": str(number),
        "reader": reader,
        "time": f"2019-11-{day}T{hour:02}:00:00",
        "history": history.split(),
        "candidates": [shown[:-2] for shown in candidates.split()],
        "clicked": [shown[:-2] for shown in candidates.split() if shown.endswith("-1")],
    }
    for number, (day, hour, reader, history, candidates) in enumerate(IMPRESSIONS, 1)
]


def write_csv(folder, articles=ARTICLE_ROWS, impressions=IMPRESSION_ROWS):
    def flat(value):
        if isinstance(value, list):
            return json.dumps(value) if value and isinstance(value[0], dict) else " ".join(value)
        return value

    folder.mkdir()
    for name, rows in (("articles", articles), ("impressions", impressions)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({field: flat(value) for field, value in row.items()} for row in rows)
    return folder


def write_jsonl(folder, articles=ARTICLE_ROWS, impressions=IMPRESSION_ROWS):
    folder.mkdir()
    for name, rows in (("articles", articles), ("impressions", impressions)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_parquet(folder, articles=ARTICLE_ROWS, impressions=IMPRESSION_ROWS):
    folder.mkdir()
    timed = [{**row, "time": datetime.fromisoformat(row["time"])} for row in impressions]
    for name, rows in (("articles", articles), ("impressions", timed)):
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_every_form_gives_the_store_that_mind_gives(write, small_mind, prepared, contents, tmp_path):
    assert contents(prepared(write(tmp_path / "logs"), "logs-store")) == contents(prepared(small_mind))


def test_times_with_a_zone_are_kept_in_utc(prepared, tmp_path):
    zoned = [{**row, "time": row["time"] + "+02:00"} for row in IMPRESSION_ROWS]
    store = prepared(write_jsonl(tmp_path / "zoned", impressions=zoned))
    assert store._array("time")[0] == 1573459200_000000 - 2 * 3600 * 1_000_000


def test_quoted_fields_may_hold_commas_quotes_and_line_breaks(prepared, tmp_path):
    odd = [{**ARTICLE_ROWS[0], "title": 'Trams, "buses"\nand bikes'}, *ARTICLE_ROWS[1:]]
    store = prepared(write_csv(tmp_path / "odd", articles=odd))
    assert store.articles["title"][1:3].to_list() == ['Trams, "buses"\nand bikes', ARTICLES[1][3]]


def test_numbers_are_ids_too_and_other_columns_are_ignored(prepared, tmp_path):
    numbered = [
        {"article": number, "title": row["title"], "mood": 3} for number, row in enumerate(ARTICLE_ROWS)
    ]
    shown = {"reader": 7, "candidates": [0, 1], "clicked": [1]}
    store = prepared(
        write_jsonl(
            tmp_path / "numbers",
            numbered,
            [{"impression": day, "time": f"2019-11-{day}", **shown} for day in range(11, 16)],
        )
    )
    assert store.impressions(store.split("train")).candidates[:2].tolist() == [1, 2]
    assert store.labels["category"] == []
    assert store.counts["empty histories"] == 5


def test_publication_times_are_kept(prepared, tmp_path):
    dated = [{**ARTICLE_ROWS[0], "published": "2019-11-10T06:00:00"}, *ARTICLE_ROWS[1:]]
    store = prepared(write_jsonl(tmp_path / "dated", articles=dated))
    assert store.articles["published"].to_list()[:3] == [None, datetime(2019, 11, 10, 6), None]


def test_a_test_file_without_clicks_is_unlabelled(prepared, tmp_path):
    folder = write_jsonl(tmp_path / "logs")
    (folder / "impressions.jsonl").rename(folder / "impressions_train.jsonl")
    untold = [{field: row[field] for field in row if field != "clicked"} for row in IMPRESSION_ROWS[:3]]
    (folder / "impressions_test.jsonl").write_text("\n".join(map(json.dumps, untold)), encoding="utf-8")
    store = prepared(folder)

    assert store.manifest["splits"] == {"train": 15, "validation": 5, "test": 0, "unlabelled": 3}
    assert set(store.impressions(store.split("unlabelled")).clicked.tolist()) == {-1}


def changed(place, **fields):
    """The impressions with some fields of one row changed; None removes a field."""
    row = {field: value for field, value in (IMPRESSION_ROWS[place] | fields).items() if value is not None}
    return [*IMPRESSION_ROWS[:place], row, *IMPRESSION_ROWS[place + 1 :]]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("impression", None, "the column is missing"),
        ("clicked", None, "the column is missing"),
        ("reader", " ", "it is empty"),
        ("time", "yesterday", "'yesterday' is not a time"),
        ("candidates", [], "there are none"),
        ("candidates", {"N1": 1}, "is no list of ids"),
        ("candidates", ["N1", None], "is no list of ids"),
        ("clicked", ["N9", "N99"], "'N99' is no candidate"),
        ("history", 5, "5 is no list of ids"),
        ("history", ["\ud800"], "half of a surrogate pair"),
    ],
)
def test_a_malformed_impression_is_named_or_set_aside(field, value, problem, prepared, tmp_path):
    folder = write_jsonl(tmp_path / "logs", impressions=changed(2, **{field: value}))

    with pytest.raises(BadRowError, match=problem) as caught:
        prepared(folder)
    assert str(caught.value).startswith(f"{folder / 'impressions.jsonl'}, line 3, field '{field}': ")
    assert not (tmp_path / "store").exists()

    store = prepared(folder, on_bad_row="skip")
    assert store.counts["impressions"] == 19
    assert store.counts["bad rows set aside"] == 1
    aside = json.loads((store.path / "bad_rows.jsonl").read_text())
    assert (aside["line"], aside["field"]) == (3, field)
    assert "U3" in aside["row"] or field == "reader"


@pytest.mark.parametrize("line", ["{", "[]", "", "[" * 100_000])
def test_a_line_that_is_no_object_is_named(line, prepared, tmp_path):
    folder = write_jsonl(tmp_path / "logs", impressions=[*IMPRESSION_ROWS, line])
    with pytest.raises(BadRowError, match="line 21, field 'line': not a JSON object"):
        prepared(folder)
    assert prepared(folder, on_bad_row="skip").counts["impressions"] == 20


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("article", None, "the column is missing"),
        ("title", "", "it is empty"),
        ("published", "soon", "is not a time"),
        ("entities", "[{", "Invalid JSON"),
        ("entities", [{"Type": "P"}], "Field required"),
        ("title", "\ud83d", "half of a surrogate pair"),
    ],
)
def test_a_malformed_article_is_named_or_set_aside(field, value, problem, prepared, tmp_path):
    row = {name: item for name, item in (ARTICLE_ROWS[1] | {field: value}).items() if item is not None}
    folder = write_jsonl(tmp_path / "logs", articles=[ARTICLE_ROWS[0], row, *ARTICLE_ROWS[2:]])

    with pytest.raises(BadRowError, match=problem) as caught:
        prepared(folder)
    assert (caught.value.line, caught.value.field) == (2, field)
    store = prepared(folder, on_bad_row="skip")
    assert store.counts["articles"] == 11
    assert store.counts["unknown ids among candidates"] == 4  # N2 was shown four times


def test_csv_rows_are_counted_from_where_they_begin(prepared, tmp_path):
    odd = [{**ARTICLE_ROWS[0], "title": "Two\nlines"}, {**ARTICLE_ROWS[1], "title": ""}, *ARTICLE_ROWS[2:]]
    with pytest.raises(BadRowError, match=r"articles.csv, line 4, field 'title': it is empty"):
        prepared(write_csv(tmp_path / "logs", articles=odd))


def test_csv_with_a_wrong_number_of_columns_is_named_and_blank_lines_are_not_rows(prepared, tmp_path):
    folder = write_csv(tmp_path / "logs")
    with (folder / "impressions.csv").open("a", encoding="utf-8") as file:
        file.write("\n21,U1\n\n")
    with pytest.raises(BadRowError, match="line 23, field 'columns': 2 columns instead of 6"):
        prepared(folder)
    assert prepared(folder, on_bad_row="skip").counts["impressions"] == 20


def test_an_open_quote_names_the_line_where_it_opens(prepared, tmp_path):
    folder = write_csv(tmp_path / "logs")
    with (folder / "articles.csv").open("a", encoding="utf-8") as file:
        file.write('N13,"Open,a,b,c,\nN14,next,,,,\n')
    with pytest.raises(CounterpointError, match=r"articles.csv, line 14: not valid CSV"):
        prepared(folder)


@pytest.mark.parametrize("damage", ["not parquet", "cut short"])
def test_broken_parquet_is_one_sentence(damage, prepared, tmp_path):
    folder = write_parquet(tmp_path / "logs")
    whole = (folder / "impressions.parquet").read_bytes()
    (folder / "impressions.parquet").write_bytes(b"hello" if damage == "not parquet" else whole[:-40])
    with pytest.raises(CounterpointError, match=r"impressions.parquet: cannot be read as Parquet"):
        prepared(folder)


def test_parquet_rows_are_counted_from_1(prepared, tmp_path):
    with pytest.raises(BadRowError, match=r"line 4, field 'clicked': 'N1' is no candidate"):
        prepared(write_parquet(tmp_path / "logs", impressions=changed(3, clicked=["N1"])))
