import json
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import BadRowError, CounterpointError, UsageError
from counterpoint.news.data.formats import ebnerd
from counterpoint.news.data.impressions import ImpressionWriter
from counterpoint.news.data.layout import find
from counterpoint.news.data.store import UNKNOWN, UNKNOWN_TIME
from counterpoint.news.recipe import LEAKING, Click
from counterpoint.storage.files import write_json
from news_stores import prepared_store

from .bundles import (
    ARTICLE_ROWS,
    BEYOND,
    TEST_ROWS,
    TRAIN_HISTORIES,
    TRAIN_ROWS,
    article,
    read,
    write_bundle,
)


@pytest.fixture
def store(prepared, tmp_path):
    return prepared(write_bundle(tmp_path / "ebnerd_demo", test=TEST_ROWS))


def test_the_validation_folder_tests_and_the_last_training_day_from_7_to_7_validates(store):
    assert store.manifest["source"]["format"] == "ebnerd"
    assert store.manifest["splits"] == {"train": 3, "validation": 2, "test": 2, "unlabelled": 6}
    assert store.manifest["split rule"] == (
        "last 1 training day(s): validation, days from 07:00; "
        "validation folder: test; test folder: unlabelled"
    )
    assert store.impression_ids(store.split("train")) == ["11", "12", "13"]
    assert store.impression_ids(store.split("validation")) == ["14", "15"]


def test_impressions_with_several_clicks_unknown_candidates_and_a_click_told_twice(store):
    shown = store.impressions(np.arange(7))
    assert shown.candidates[:5].tolist() == [1, 2, 3, 4, 5]
    assert shown.clicked[:5].tolist() == [0, 1, 0, 0, 0]
    assert shown.clicked[5:10].tolist() == [1, 0, 0, 0, 1]
    assert shown.clicked[10:15].tolist() == [0, 0, 1, 0, 0]
    assert shown.candidates[20:25].tolist() == [1, UNKNOWN, 2, 3, 7]
    assert shown.clicked[20:25].tolist() == [0, 1, 0, 0, 0]
    assert shown.time[0] == 1684400400_000000  # 2023-05-18 09:00 UTC
    assert store.counts["clicks"] == 9
    assert store.counts["unknown ids among candidates"] == 1


def test_histories_are_the_reader_s_own_row_of_the_split(store):
    shown = store.impressions(np.arange(len(store.beyond())))
    articles, lengths = store.histories(shown.history, 50)
    by_impression = np.split(articles, np.cumsum(lengths)[:-1])
    first, second = [1, 3, 5], [6]
    assert [one.tolist() for one in by_impression[:5]] == [first, second, first, second, []]
    assert [one.tolist() for one in by_impression[5:7]] == [[5, 2], []]
    assert [one.tolist() for one in by_impression[7:]] == [[4], [4], [7], [7], [4], [4]]
    assert store.counts["histories"] == 7
    assert store.counts["readers without a history row"] == 1  # reader 3
    assert store.counts["empty histories"] == 2  # readers 3 and 4
    assert store.counts["unknown ids in histories"] == 1


def test_what_is_known_of_clicks_stays_beside_them(store):
    history = store.impressions(np.arange(5)).history
    seconds = store.history_values("read_time", history, 50)
    percent = store.history_values("scroll", history, 50)
    np.testing.assert_array_equal(seconds[:4], np.float32([10, np.nan, 0, 3.5]))
    np.testing.assert_array_equal(percent[:4], np.float32([100, 50, np.nan, 20]))
    np.testing.assert_array_equal(
        store.history_values("scroll", history[:2], 2), np.float32([50, np.nan, 20])
    )
    assert store.has_history_values("read_time")
    assert store.has_history_values("scroll")
    assert not store.has_history_values("dwell")


def test_readers_are_numbered_over_all_splits(store):
    reader = store.impressions(np.arange(len(store.beyond()))).reader
    assert reader.tolist() == [0, 1, 0, 1, 2, 0, 3, 0, 0, 4, 4, 0, 0]
    assert store.counts["readers"] == len(store.reader_keys()) == 5


def test_articles_with_all_their_nulls(store):
    assert store.articles["article"].to_list() == ["", *(str(row["article_id"]) for row in ARTICLE_ROWS)]
    assert store.articles["title"].to_list()[4] == ""
    assert store.counts["articles without a title"] == 1
    assert store.labels["category"] == ["nyheder", "sport", "457", "rejser"]
    assert store.labels_of("category").tolist() == [-100, 0, 1, 2, 0, 0, 3, 1]
    assert store.labels["subcategory"] == ["133", "196"]
    assert store.labels_of("subcategory").tolist() == [-100, 0, 1, -100, -100, -100, -100, -100]
    assert store.published().tolist() == [UNKNOWN_TIME, 1684303200_000000, *[UNKNOWN_TIME] * 6]
    assert store.manifest["texts"] == ["title", "subtitle", "body"]
    assert store.manifest["text"] is True


def test_entities_are_listed_once_and_tagged_where_the_title_has_them(store):
    assert store.entities == ["Folketinget", "Anna Holm"]
    numbers, lengths = store.entity_lists(np.array([1, 2, 3, 6]))
    assert numbers.tolist() == [0, 1, 1]
    assert lengths.tolist() == [2, 1, 0, 0]
    assert store.labels["entity_types"] == ["ORG", "PER"]
    _, tags, _ = store.titles(np.array([2]))
    assert tags[0] == -100
    assert tags[1] == 1 + 2 * 1  # Anna begins a PER


def test_the_score_is_the_confidence_with_the_sign_of_the_label(store):
    assert store.labels["sentiment"] == ["negative", "neutral", "positive"]
    assert store.labels_of("sentiment").tolist() == [-100, 2, 0, 1, -100, 0, -100, -100]
    expected = np.float32([np.nan, 0.75, -0.5, 0, np.nan, -1, np.nan, np.nan])
    np.testing.assert_array_equal(store.sentiment_scores(), expected)
    assert store.counts["sentiment negative"] == 2
    assert store.counts["sentiment unknown"] == 3


def test_beyond_accuracy_rows_stay_in_their_place(store):
    rows = store.split("unlabelled")
    assert store.impression_ids(rows) == ["31", "0", "32", "0", "32", "0"]
    assert store.beyond()[rows].tolist() == [False, True, False, True, False, True]
    assert store.candidate_counts(rows).tolist() == [5, len(BEYOND), 5, len(BEYOND), 5, len(BEYOND)]
    assert set(store.impressions(rows).clicked.tolist()) == {-1}
    assert store.counts["beyond-accuracy impressions"] == 3
    assert store.counts["impression ids used again"] == 1  # 32; that 0 comes again is expected


def test_a_test_bundle_alone(prepared, tmp_path):
    write_bundle(tmp_path / "ebnerd_testset", train=None, validation=None, test=TEST_ROWS)
    store = prepared(tmp_path / "ebnerd_testset")
    assert store.manifest["splits"] == {"train": 0, "validation": 0, "test": 0, "unlabelled": 6}
    with pytest.raises(CounterpointError, match="no impressions in split 'train'; choose among unlabelled"):
        store.split("train")


def test_a_bundle_beside_the_test_bundle(prepared, tmp_path):
    write_bundle(tmp_path / "all" / "ebnerd_small")
    write_bundle(tmp_path / "all" / "ebnerd_testset", train=None, validation=None, test=TEST_ROWS)
    store = prepared(tmp_path / "all")
    assert store.manifest["splits"] == {"train": 3, "validation": 2, "test": 2, "unlabelled": 6}
    assert store.counts["duplicate articles"] == len(ARTICLE_ROWS)

    write_bundle(tmp_path / "all" / "ebnerd_large")
    with pytest.raises(
        UsageError, match="ebnerd_large and ebnerd_small all have training impressions; give one"
    ):
        find(tmp_path / "all")


def test_a_labelled_test_folder_tests_and_validation_validates(prepared, tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    (folder / "test").mkdir()
    for name in ("behaviors", "history"):
        (folder / "test" / f"{name}.parquet").write_bytes(
            (folder / "validation" / f"{name}.parquet").read_bytes()
        )
    assert prepared(folder).manifest["splits"] == {"train": 5, "validation": 2, "test": 2, "unlabelled": 0}


def test_without_articles_texts_are_refused_and_ids_are_enough(prepared, tmp_path):
    folder = write_bundle(tmp_path / "bare", articles=None)
    with pytest.raises(UsageError) as caught:
        prepared(folder)
    assert str(caught.value) == (
        f"{folder}: there is behaviors.parquet but no articles.parquet; put the articles beside it, use a "
        "recipe without texts, or write simulated articles with counterpoint simulate ebnerd --like "
        f"{folder} --out NEW."
    )

    store = prepared(folder, needs_text=False)
    assert store.manifest["text"] is False
    assert store.articles["article"].to_list() == ["", *map(str, range(101, 108)), "999"]
    assert set(store.articles["title"]) == {""}
    assert store.counts["unknown ids among candidates"] == store.counts["unknown ids in histories"] == 0
    assert set(store.labels_of("category").tolist()) == {-100}
    assert not any(map(store.has_text, ("title", "subtitle", "abstract", "body")))
    with pytest.raises(CounterpointError, match=r"no article of .* has the text 'title', only ids; leave it"):
        store.texts("title", np.array([1]))


def test_fingerprints_do_not_depend_on_the_articles(prepared, tmp_path):
    whole = prepared(write_bundle(tmp_path / "whole"), "a").manifest["fingerprints"]
    bare = write_bundle(tmp_path / "bare", articles=None)
    few = write_bundle(tmp_path / "few", articles=ARTICLE_ROWS[:2])
    assert prepared(bare, "b", needs_text=False).manifest["fingerprints"] == whole
    assert prepared(few, "c").manifest["fingerprints"] == whole


def test_simulated_articles_are_said_to_be_simulated(prepared, tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    assert prepared(folder).manifest["simulated articles"] is False
    write_json(folder / "simulation.json", {"simulated": "articles"})
    manifest = prepared(folder).manifest
    assert manifest["simulated articles"] is True
    assert manifest["simulated"] is False


def test_an_unordered_history_is_put_in_order_with_its_values(prepared, tmp_path):
    backwards = read(2, (106, 1.0, 10.0), (102, 2.0, None), (105, 3.0, 30.0))
    backwards["impression_time_fixed"] = backwards["impression_time_fixed"][::-1]
    folder = write_bundle(tmp_path / "bundle", histories=[TRAIN_HISTORIES[0], backwards])
    store = prepared(folder)
    history = store.impressions(np.arange(2)).history
    assert store.histories(history, 50)[0].tolist() == [1, 3, 5, 5, 2, 6]
    np.testing.assert_array_equal(
        store.history_values("scroll", history[1:], 50), np.float32([30, np.nan, 10])
    )


def test_values_of_a_history_may_be_null_altogether(prepared, tmp_path):
    untold = TRAIN_HISTORIES[1] | {"read_time_fixed": None, "scroll_percentage_fixed": None}
    store = prepared(write_bundle(tmp_path / "bundle", histories=[untold, TRAIN_HISTORIES[0]]))
    history = store.impressions(np.arange(2)).history
    values = store.history_values("read_time", history, 50)
    np.testing.assert_array_equal(values, np.float32([10, np.nan, 0, np.nan]))


def changed(rows, place, **columns):
    return [*rows[:place], rows[place] | columns, *rows[place + 1 :]]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("impression_id", None, "it is null; fill it in"),
        ("user_id", None, "it is null; fill it in"),
        ("impression_time", None, "it is null; fill it in"),
        ("article_ids_inview", [], "there are none; remove the row or name the articles shown"),
        ("article_ids_inview", None, "there are none; remove the row or name the articles shown"),
        ("article_ids_inview", [101, None, 104], "a null among the ids; remove it"),
        ("article_ids_clicked", None, "it is null; give a list, empty where nothing was clicked"),
        ("article_ids_clicked", [104, 107], "107 is not in view; clicks must be among article_ids_inview"),
    ],
)
def test_a_malformed_impression_is_named_or_set_aside(field, value, problem, prepared, tmp_path):
    folder = write_bundle(tmp_path / "bundle", train=changed(TRAIN_ROWS, 2, **{field: value}))
    with pytest.raises(BadRowError) as caught:
        prepared(folder)
    file = folder / "train" / "behaviors.parquet"
    assert str(caught.value) == f"{file}, line 3, field {field!r}: {problem}."

    store = prepared(folder, on_bad_row="skip")
    assert store.counts["impressions"] == 6
    assert store.counts["bad rows set aside"] == 1
    aside = json.loads((store.path / "bad_rows.jsonl").read_text())
    assert (aside["line"], aside["field"]) == (3, field)
    assert "article_ids_inview" in json.loads(aside["row"])


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        (TRAIN_HISTORIES[0] | {"read_time_fixed": [1.0]}, "read_time_fixed", "1 for 4 articles"),
        (
            TRAIN_HISTORIES[0] | {"scroll_percentage_fixed": []},
            "scroll_percentage_fixed",
            "0 for 4 articles",
        ),
        (TRAIN_HISTORIES[0] | {"impression_time_fixed": None}, "impression_time_fixed", "0 for 4 articles"),
        (TRAIN_HISTORIES[0] | {"article_id_fixed": [1, None, 2, 3]}, "article_id_fixed", "a null in the"),
        (TRAIN_HISTORIES[0] | {"user_id": None}, "user_id", "it is null"),
        (TRAIN_HISTORIES[1], "reader", "'2' came before"),
    ],
)
def test_a_malformed_history_is_named_or_set_aside(row, field, problem, prepared, tmp_path):
    folder = write_bundle(tmp_path / "bundle", histories=[TRAIN_HISTORIES[1], row])
    with pytest.raises(BadRowError) as caught:
        prepared(folder)
    file = folder / "train" / "history.parquet"
    assert str(caught.value).startswith(f"{file}, line 2, field {field!r}: {problem}")
    store = prepared(folder, on_bad_row="skip")
    assert store.counts["bad rows set aside"] == 1
    assert store.counts["impressions"] == 7


@pytest.mark.parametrize(
    ("columns", "field", "problem"),
    [
        ({"article_id": None}, "article_id", "it is null"),
        ({"ner_clusters": ["a", "b"], "entity_groups": ["PER"]}, "entity_groups", "not as many as ner"),
        ({"sentiment_label": "Glad"}, "sentiment_label", "'Glad' is no sentiment"),
        ({"sentiment_label": "Positive", "sentiment_score": 1.5}, "sentiment_score", "1.5 is no confidence"),
    ],
)
def test_a_malformed_article_is_named_or_set_aside(columns, field, problem, prepared, tmp_path):
    folder = write_bundle(
        tmp_path / "bundle", articles=[*ARTICLE_ROWS, article(108, "Ny", **columns) | columns]
    )
    with pytest.raises(BadRowError) as caught:
        prepared(folder)
    assert str(caught.value).startswith(f"{folder / 'articles.parquet'}, line 8, field {field!r}: {problem}")
    store = prepared(folder, on_bad_row="skip")
    assert store.counts["articles"] == 7


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("articles", "title"),
        ("articles", "entity_groups"),
        ("train/behaviors", "article_ids_inview"),
        ("train/behaviors", "article_ids_clicked"),
        ("validation/behaviors", "user_id"),
        ("train/history", "impression_time_fixed"),
    ],
)
def test_a_missing_column_is_named(file, column, prepared, tmp_path):
    path = write_bundle(tmp_path / "bundle") / f"{file}.parquet"
    pl.read_parquet(path).drop(column).write_parquet(path)
    with pytest.raises(CounterpointError) as caught:
        prepared(tmp_path / "bundle")
    assert str(caught.value) == (
        f"{path}: the column {column!r} is missing; restore the original file or add the column."
    )


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("article_ids_inview", 5, "has the type Int32, expected lists"),
        ("impression_time", "soon", "has the type String, expected times"),
        ("user_id", datetime(2023, 5, 1), "expected ids or text"),
    ],
)
def test_a_column_of_another_type_is_named(column, value, expected, prepared, tmp_path):
    path = write_bundle(tmp_path / "bundle") / "train" / "behaviors.parquet"
    pl.read_parquet(path).with_columns(pl.lit(value).alias(column)).write_parquet(path)
    with pytest.raises(CounterpointError, match=f"the column '{column}' .*{expected}; restore"):
        prepared(tmp_path / "bundle")


def test_columns_that_are_optional_or_leak_may_be_absent(prepared, tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    before = prepared(folder, "before")
    for file, kept in (
        ("articles", ["article_id", "title"]),
        ("train/behaviors", [*ebnerd._BEHAVIORS, "article_ids_clicked"]),
        ("train/history", list(ebnerd._HISTORY)),
        ("validation/history", list(ebnerd._HISTORY)),
    ):
        path = folder / f"{file}.parquet"
        pl.read_parquet(path).select(kept).write_parquet(path)
    store = prepared(folder, "after")
    assert store.manifest["fingerprints"] == before.manifest["fingerprints"]
    assert store.manifest["history values"] == []
    assert np.isnan(store.history_values("read_time", np.array([0]), 50)).tolist() == [True] * 3
    assert store.labels["category"] == []


@pytest.mark.parametrize("name", LEAKING)
def test_what_leaks_is_refused_as_an_input_and_never_read(name, store):
    with pytest.raises(UsageError, match=rf"'{name}' cannot be an input: .*; leave it out\."):
        Click(context=["age", name])
    with pytest.raises(UsageError, match="cannot be an input"):
        Click(context=name)
    assert all(name not in pl.read_parquet_schema(file) for file in store.path.glob("*.parquet"))


def test_times_of_any_unit_and_zone_are_utc_microseconds(prepared, tmp_path):
    path = write_bundle(tmp_path / "bundle") / "train" / "behaviors.parquet"
    rows = pl.read_parquet(path)
    zoned = pl.col("impression_time").dt.replace_time_zone("Europe/Copenhagen").dt.cast_time_unit("ns")
    rows.with_columns(zoned).write_parquet(path)
    assert prepared(tmp_path / "bundle").impressions(np.array([0])).time[0] == 1684393200_000000


def test_memory_holds_one_block_whatever_the_length_of_the_file(prepared, tmp_path, monkeypatch):
    folder = write_bundle(tmp_path / "large")
    number = np.arange(300_000)
    many = pl.DataFrame(
        {
            "impression_id": np.where(number % 1000, number, 0),
            "impression_time": np.datetime64("2023-06-01", "us") + number.astype("timedelta64[s]"),
            "user_id": number % 5_000,
            "is_beyond_accuracy": number % 1000 == 0,
        }
    ).with_columns(
        article_ids_inview=pl.when("is_beyond_accuracy")
        .then([101, 102, 103, 104, 105] * 50)
        .otherwise([101, 107])
    )
    (folder / "test").mkdir()
    many.write_parquet(folder / "test" / "behaviors.parquet", row_group_size=40_000)
    readers = pl.DataFrame({"user_id": np.arange(5_000)}).with_columns(
        article_id_fixed=pl.lit([102, 103]),
        impression_time_fixed=pl.lit([datetime(2023, 5, 1), datetime(2023, 5, 2)]),
    )
    readers.write_parquet(folder / "test" / "history.parquet")
    monkeypatch.setattr(ebnerd, "_VALUES", 50_000)
    candidates = []
    add = ImpressionWriter.add

    def watched(self, part, block):
        candidates.append(block["candidates"].list.len().sum())
        add(self, part, block)

    monkeypatch.setattr(ImpressionWriter, "add", watched)
    store = prepared(folder)

    assert max(candidates) <= 50_000
    assert store.counts["impressions"] == 300_007
    assert store.counts["beyond-accuracy impressions"] == 300
    assert store.counts["impression ids used again"] == 0
    assert store.counts["histories"] == 5_005
    rows = store.split("unlabelled")
    assert store.candidate_counts(rows[[0, 1, 1000]]).tolist() == [250, 2, 250]
    assert store.impression_ids(rows[[1, 299_999]]) == ["1", "299999"]


CLICKS = st.lists(
    st.tuples(st.sampled_from([101, 102, 105, 106, 999]), st.integers(0, 1800), st.booleans()), max_size=9
)


@settings(max_examples=25, deadline=None)
@given(histories=st.lists(CLICKS, min_size=1, max_size=4), most=st.integers(1, 10))
def test_values_stand_beside_the_articles_they_are_of(histories, most, tokenizer, tmp_path_factory):
    place = tmp_path_factory.mktemp("aligned")
    rows = [
        read(reader, *((article, float(seconds), None if odd else 10.0) for article, seconds, odd in clicks))
        for reader, clicks in enumerate(histories, 1)
    ]
    shown = [row | {"user_id": number % len(histories) + 1} for number, row in enumerate(TRAIN_ROWS)]
    folder = write_bundle(place / "bundle", train=shown, validation=None, histories=rows)
    store = prepared_store(folder, place / "store", tokenizer)
    history = store.impressions(np.arange(len(shown))).history

    articles, lengths = store.histories(history, most)
    expected = [
        [(article, seconds) for article, seconds, _ in histories[row["user_id"] - 1] if article != 999][
            -most:
        ]
        for row in shown
    ]
    assert lengths.tolist() == [len(clicks) for clicks in expected]
    ids = [int(store.articles["article"][row]) for row in articles.tolist()]
    seconds = store.history_values("read_time", history, most)
    assert list(zip(ids, seconds.tolist(), strict=True)) == [pair for clicks in expected for pair in clicks]
    assert len(store.history_values("scroll", history, most)) == len(articles)
