import json
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from counterpoint.news.batches import TrainingBatches
from counterpoint.news.data.store import UNKNOWN
from counterpoint.news.recipe import NewsRecipe
from counterpoint.storage import rows
from samples import ARTICLES, IMPRESSIONS, behaviors_row, entity, news_row


def test_every_number_of_the_little_site(small_mind, prepared):
    store = prepared(small_mind)

    # Counted by hand from the rows: U1, U3, U4, U5 and U6 keep their history; three readers never had one.
    assert store.counts == {
        "articles": 12,
        "articles without a title": 0,
        "bad rows set aside": 0,
        "beyond-accuracy impressions": 0,
        "candidates": 54,
        "clicks": 21,
        "duplicate articles": 0,
        "empty histories": 4,
        "entities": 4,
        "entity spans cut off with the title": 0,
        "entity spans found": 4,
        "entity spans lost": 0,
        "entity spans overlapping": 0,
        "entity spans searched": 0,
        "histories": 9,
        "histories left empty by unknown ids": 0,
        "histories of more than 50 articles": 0,
        "impression ids used again": 0,
        "impressions": 20,
        "impressions without a click": 0,
        "impressions without a non-click": 0,
        "readers": 9,
        "readers without a history row": 0,
        "sentiment negative": 0,
        "sentiment neutral": 0,
        "sentiment positive": 0,
        "sentiment unknown": 12,
        "truncated abstracts": 0,
        "truncated bodies": 0,
        "truncated subtitles": 0,
        "truncated titles": 0,
        "unknown ids among candidates": 0,
        "unknown ids in histories": 0,
    }
    assert store.manifest["splits"] == {"train": 11, "validation": 4, "test": 5, "unlabelled": 0}
    assert store.manifest["split rule"] == "last 1 day(s): test, the 1 before: validation"
    assert store.labels["category"] == ["news", "sports", "food", "finance", "travel"]
    assert store.labels["entity_types"] == ["P", "G", "L"]
    assert store.labels_of("category").tolist() == [-100, 0, 1, 2, 0, 1, 3, 0, 2, 3, 4, 4, 1]


def test_impressions_are_those_of_the_file(small_mind, prepared):
    store = prepared(small_mind)
    shown = store.impressions(store.split("train"))

    assert shown.candidates[:3].tolist() == [3, 4, 5]
    assert shown.clicked[:3].tolist() == [1, 0, 0]
    assert shown.offsets[:4].tolist() == [0, 3, 5, 10]
    assert shown.time[0] == 1573459200_000000  # 2019-11-11 08:00 UTC
    assert store.impression_ids(shown.rows) == [str(number) for number in range(1, 12)]
    afternoon = store.impressions(store.split("test")).time[-1]
    assert afternoon == 1573732800_000000 + 0  # 2019-11-14 12:00 PM is noon
    assert pl.read_parquet(store.path / "impressions.parquet")["split"].to_list()[10:16] == [
        "train", "validation", "validation", "validation", "validation", "test",
    ]  # fmt: skip


def test_a_history_is_kept_once_per_reader(small_mind, prepared):
    store = prepared(small_mind)
    history = store.impressions(np.arange(20)).history

    assert history[[0, 3, 11, 15]].tolist() == [0, 0, 0, 0]
    assert len(store._array("history_offsets")) == 10
    articles, lengths = store.histories(np.array([history[5], history[1]]), 50)
    assert articles.tolist() == [2, 5, 12]
    assert lengths.tolist() == [3, 0]
    articles, lengths = store.histories(np.array([history[5]]), 2)
    assert articles.tolist() == [5, 12]  # the most recent ones, oldest first


def test_unknown_ids_leave_histories_and_become_row_0_among_candidates(mind_folder, prepared):
    behaviors = [
        behaviors_row(1, 11, 8, "U1", "N1 X1 N2 X2", "X3-1 N3-0 X4-0 N4-1"),
        behaviors_row(2, 11, 9, "U2", "X1 X2", "N5-1 N6-0"),
        behaviors_row(3, 11, 10, "U2", "X1 X2", "N5-1 N6-0"),
    ]
    store = prepared(mind_folder("unknown", behaviors=behaviors))
    shown = store.impressions(np.arange(3))

    assert shown.candidates.tolist() == [UNKNOWN, 3, UNKNOWN, 4, 5, 6, 5, 6]
    assert store.histories(shown.history[:1], 50)[0].tolist() == [1, 2]
    assert store.counts["unknown ids in histories"] == 4
    assert store.counts["unknown ids among candidates"] == 2
    assert store.counts["histories left empty by unknown ids"] == 1
    assert store.counts["empty histories"] == 0
    kept = pl.read_parquet(store.path / "impressions.parquet")["candidates"][0].to_list()
    assert kept == ["X3", "N3", "X4", "N4"]


def test_odd_impressions_are_kept_and_counted(mind_folder, prepared):
    behaviors = [
        behaviors_row(1, 11, 8, "U1", "", "N1-0 N2-0"),
        behaviors_row(2, 11, 9, "U2", "", "N1-1 N2-1 N3-1"),
        behaviors_row(2, 11, 10, "U3", "  N3   N4 ", " N1-1  N2-0 "),
    ]
    store = prepared(mind_folder("odd", behaviors=behaviors))

    assert store.counts["impressions without a click"] == 1
    assert store.counts["impressions without a non-click"] == 1
    assert store.counts["impression ids used again"] == 1
    assert store.impressions(np.array([2])).candidates.tolist() == [1, 2]
    assert store.histories(np.array([2]), 50)[0].tolist() == [3, 4]


def test_small_blocks_give_the_same_store(small_mind, prepared, contents, monkeypatch):
    whole = contents(prepared(small_mind))
    monkeypatch.setattr(rows, "BLOCK_BYTES", 97)
    assert contents(prepared(small_mind, "small-blocks")) == whole


@pytest.mark.parametrize("change", ["crlf", "byte-order mark", "no final newline"])
def test_line_ends_and_byte_order_marks_change_nothing(change, small_mind, prepared, contents):
    whole = contents(prepared(small_mind))
    for file in small_mind.iterdir():
        raw = file.read_bytes()
        file.write_bytes(
            {
                "crlf": raw.replace(b"\n", b"\r\n"),
                "byte-order mark": b"\xef\xbb\xbf" + raw,
                "no final newline": raw.removesuffix(b"\n"),
            }[change]
        )
    assert contents(prepared(small_mind, "changed")) == whole


def test_duplicates_with_the_same_content_count_once(mind_folder, prepared):
    rows_twice = [news_row(*row) for row in ARTICLES] + [news_row(*ARTICLES[0])]
    store = prepared(mind_folder("twice", news=rows_twice))
    assert store.counts["articles"] == 12
    assert store.counts["duplicate articles"] == 1


def test_quotes_are_plain_characters(mind_folder, prepared):
    news = [news_row("N1", "news", "", 'He said "no'), *(news_row(*row) for row in ARTICLES[1:])]
    store = prepared(mind_folder("quotes", news=news))
    assert store.articles["title"][1] == 'He said "no'
    assert store.labels_of("subcategory")[1] == -100


def test_a_title_of_5000_words_is_cut_and_counted(mind_folder, prepared):
    title = "tram " * 4999 + "Oslo"
    news = [news_row("N1", "news", "", title, [entity("G", "Q585", "Oslo", 5 * 4999)])]
    news += [news_row(*row) for row in ARTICLES[1:]]
    store = prepared(mind_folder("long", news=news), max_title_tokens=20)

    assert store.title_lengths()[1] == 20
    assert store.counts["truncated titles"] == 1
    assert store.counts["entity spans cut off with the title"] == 1
    assert store.articles["title"][1] == title


def test_a_reader_with_10000_clicks_keeps_them_and_is_seen_by_the_last_50(mind_folder, prepared):
    history = " ".join(f"N{number % 12 + 1}" for number in range(10_000))
    behaviors = [
        behaviors_row(1, 11, 8, "U1", history, "N1-1 N2-0"),
        behaviors_row(2, 12, 8, "U2", "", "N1-1 N2-0"),
    ]
    store = prepared(mind_folder("heavy", behaviors=behaviors), validation_days=1, test_days=0)
    recipe = NewsRecipe.model_validate({"name": "heavy", "training": {"batch_size": 1}})

    assert store.counts["histories of more than 50 articles"] == 1
    articles, lengths = store.histories(np.array([0]), 1 << 30)
    assert lengths.tolist() == [10_000]
    assert articles[:3].tolist() == [1, 2, 3]
    batch = TrainingBatches(store, recipe).batch(0, 0)
    assert batch.history.shape == (1, 50)
    titles = [store.titles(np.array([article]))[0].tolist() for article in articles[-50:]]
    pack = batch.packs[0].texts["title"].texts
    starts = np.cumsum([0, *pack.lengths])
    packed = [pack.tokens[first:last].tolist() for first, last in pairwise(starts)]
    assert [packed[place] for place in batch.history[0]] == titles


def test_manifest_names_what_was_read(small_mind, prepared):
    manifest = json.loads((prepared(small_mind).path / "manifest.json").read_text())
    assert manifest["source"]["format"] == "mind"
    assert manifest["source"]["files"] == [str(small_mind / "news.tsv"), str(small_mind / "behaviors.tsv")]
    assert manifest["simulated"] is False
    assert len(IMPRESSIONS) == manifest["counts"]["impressions"]
