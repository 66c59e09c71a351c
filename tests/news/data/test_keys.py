import hashlib

import numpy as np
import pytest

from counterpoint.errors import CounterpointError
from counterpoint.news.data.fingerprints import digests
from counterpoint.storage.keys import key, keys
from samples import ARTICLES, IMPRESSIONS, behaviors_row, news_row


def test_keys_are_blake2b_of_the_ids(small_mind, prepared):
    store = prepared(small_mind)
    shown = store.impressions(np.arange(20))
    expected = [
        int.from_bytes(hashlib.blake2b(reader.encode(), digest_size=8).digest(), "little")
        for _, _, reader, _, _ in IMPRESSIONS
    ]
    assert store.reader_keys()[shown.reader].tolist() == expected
    assert store.reader_keys().dtype == np.uint64
    assert len(store.reader_keys()) == 9
    assert keys(["U1", "Ø"]).tolist() == [key("U1"), key("Ø")]


def test_readers_keep_their_number_over_folders(mind_folder, prepared):
    rows = [behaviors_row(number, *row) for number, row in enumerate(IMPRESSIONS, 1)]
    mind_folder("both/train", behaviors=rows[:15])
    folder = mind_folder("both/dev", behaviors=rows[15:]).parent
    store = prepared(folder)
    whole = prepared(mind_folder("one"), "one-store")
    assert store.impressions(np.arange(20)).reader.tolist() == (
        whole.impressions(np.arange(20)).reader.tolist()
    )


def fingerprints(prepared, folder, **options):
    return prepared(folder, folder.name + "-store", **options).manifest["fingerprints"]


def test_fingerprints_tell_splits_apart_and_nothing_else(mind_folder, prepared):
    rows = [behaviors_row(number, *row) for number, row in enumerate(IMPRESSIONS, 1)]
    first = fingerprints(prepared, mind_folder("first"))
    assert sorted(first) == ["test", "train", "validation"]
    assert len(set(first.values())) == 3
    assert all(len(digits) == 16 and int(digits, 16) for digits in first.values())

    retold = [news_row(*row[:3], row[3] + " again", []) for row in reversed(ARTICLES)]
    other = mind_folder("retold", news=retold)
    assert fingerprints(prepared, other, max_title_tokens=5, sentiment="vader") == first

    def changed(name, place, old, new):
        assert old in rows[place]
        altered = [*rows[:place], rows[place].replace(old, new), *rows[place + 1 :]]
        return fingerprints(prepared, mind_folder(name, behaviors=altered))

    for name, place, old, new in (
        ("click", 0, "N4-0", "N4-1"),
        ("article", 0, "N4-0", "N6-0"),
        ("unknown", 0, "N4-0", "N99-0"),
        ("order", 0, "N3-1 N4-0", "N4-0 N3-1"),
        ("time", 0, "8:00:00", "8:00:01"),
    ):
        now = changed(name, place, old, new)
        assert now["train"] != first["train"]
        assert now["test"] == first["test"]
    assert changed("history", 0, "\tN1 N2\t", "\tN1\t") == first
    swapped = mind_folder("swapped", behaviors=[rows[1], rows[0], *rows[2:]])
    assert fingerprints(prepared, swapped)["train"] != first["train"]


def test_a_digest_is_the_formula_worked_by_hand():
    articles = np.array([5, 7, 11], dtype=np.uint64)
    clicked = np.array([1, 0, -1], dtype=np.int8)
    found = digests(articles, clicked, np.array([2, 1]), np.array([3, -4]))
    f, g, h = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93
    expected = [
        ((5 + f * 3) * g + (7 + f * 2) * g**2 + h * 3) % 2**64,
        ((11 + f * 1) * g - h * 4) % 2**64,
    ]
    assert found.tolist() == expected


def test_mind_tells_nothing_of_the_clicks_of_histories(small_mind, prepared):
    store = prepared(small_mind)
    history = store.impressions(np.arange(20)).history
    assert not store.has_history_values("read_time")
    assert not store.has_history_values("scroll")
    assert np.isnan(store.history_values("scroll", history, 2)).all()
    assert len(store.history_values("scroll", history, 2)) == store.histories(history, 2)[1].sum()
    assert store.beyond().tolist() == [False] * 20


def test_mind_without_news_is_refused_unless_ids_are_enough(small_mind, prepared):
    (small_mind / "news.tsv").unlink()
    with pytest.raises(
        CounterpointError,
        match=r"there is behaviors.tsv but no news.tsv; put the articles beside it, or use a recipe without",
    ):
        prepared(small_mind)
    store = prepared(small_mind, needs_text=False)
    assert store.articles["article"].to_list() == ["", *(f"N{number}" for number in range(1, 13))]
    assert store.counts["clicks"] == 21


def test_ids_of_impressions_in_any_order(small_mind, prepared):
    store = prepared(small_mind)
    assert store.impression_ids(np.array([7, 3, 3, 19])) == ["8", "4", "4", "20"]
    assert store.impression_ids(np.array([], dtype=int)) == []
    assert store.candidate_counts(np.array([2, 0])).tolist() == [5, 3]
