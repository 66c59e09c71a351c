import numpy as np
import polars as pl
import pytest


@pytest.mark.slow
def test_joined(data_root, prepared):
    store = prepared(data_root / "mind" / "joined")

    assert store.counts["articles"] == 2_335
    assert store.counts["impressions"] == 1_536
    assert store.counts["candidates"] == 17_398
    assert store.counts["clicks"] == 1_804
    assert store.counts["readers"] == 1_503
    assert store.counts["empty histories"] == 337
    assert store.counts["unknown ids among candidates"] == 0
    assert store.counts["unknown ids in histories"] == 0
    assert store.manifest["splits"] == {"train": 1_060, "validation": 165, "test": 311, "unlabelled": 0}
    assert len(store.labels["category"]) == 15
    assert len(store.labels["subcategory"]) == 155
    shown = store.impressions(np.arange(1_536))
    assert len(np.unique(shown.candidates)) == 377
    assert (
        store.counts["entity spans searched"] + store.counts["entity spans lost"]
        < 0.02 * (store.counts["entity spans found"])
    )


@pytest.mark.slow
def test_farabi_tells_of_its_unknown_candidates(data_root, prepared):
    store = prepared(data_root / "mind" / "farabi_raw")

    assert store.counts["articles"] == 2_000
    assert store.counts["impressions"] == 5_000
    assert store.counts["candidates"] == 189_359
    assert store.counts["clicks"] == 7_542
    assert store.counts["readers"] == 4_637
    assert store.counts["empty histories"] == 107
    assert store.counts["unknown ids among candidates"] == 184_049


def test_the_ebnerd_demo_without_its_articles(data_root, prepared):
    folder = data_root / "ebnerd"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    store = prepared(folder, needs_text=False)
    logs = [pl.read_parquet(folder / name / "behaviors.parquet") for name in ("train", "validation")]
    # The README counts what the lists of clicks hold; 59 and 61 of those are the same article told again.
    assert [log["article_ids_clicked"].list.len().sum() for log in logs] == [24_888, 25_505]

    splits = store.manifest["splits"]
    since = pl.col("impression_time") >= pl.datetime(2023, 5, 24, 7)
    assert splits["validation"] == len(logs[0].filter(since)) == 3_406
    assert splits["train"] + splits["validation"] == 24_724
    assert splits["test"] == 25_356
    shown = store.impressions(np.arange(24_724))
    assert (shown.clicked == 1).sum() == 24_888 - 59
    assert len(np.unique(shown.reader)) == 1_590
    shown = store.impressions(store.split("test"))
    assert (shown.clicked == 1).sum() == 25_505 - 61
    assert len(np.unique(shown.reader)) == 1_562
    assert len(shown.candidates) == 304_915
    assert store.counts["bad rows set aside"] == 0  # so every click is in view
    assert store.counts["unknown ids among candidates"] == store.counts["unknown ids in histories"] == 0
    assert store.counts["histories"] == 1_590 + 1_562
    assert store.counts["readers without a history row"] == store.counts["empty histories"] == 0
    assert store.counts["impression ids used again"] == 0
    assert not store.beyond().any()

    rows = np.unique(shown.history)
    raw = pl.read_parquet(folder / "validation" / "history.parquet")
    articles, lengths = store.histories(rows, 1 << 30)
    assert lengths.sum() == 240_058
    seconds = store.history_values("read_time", rows, 1 << 30)
    assert seconds.tolist() == raw["read_time_fixed"].explode().to_list()
    percent = store.history_values("scroll", rows, 1 << 30)
    assert int(np.isnan(percent).sum()) == raw["scroll_percentage_fixed"].explode().null_count() == 22_953
    ids = store.articles["article"].to_numpy()[articles].astype(int)
    assert ids.tolist() == raw["article_id_fixed"].explode().to_list()


def test_kim_is_complete(data_root, prepared):
    store = prepared(data_root / "mind" / "kim_complete")

    assert store.manifest["splits"]["train"] + store.manifest["splits"]["validation"] == 5
    assert store.manifest["splits"]["test"] == 2
    assert store.counts["articles"] == 344
    assert store.counts["candidates"] == 230
    assert store.counts["clicks"] == 8
    assert store.counts["unknown ids among candidates"] == store.counts["unknown ids in histories"] == 0


def test_real_relation_vectors(data_root, small_mind, prepared):
    (small_mind / "relation_embedding.vec").symlink_to(data_root / "mind" / "relation_embedding.vec")
    store = prepared(small_mind)
    assert store.counts["relation vectors"] == 1_091
    assert np.load(store.path / "relation_vectors.npy").shape == (1_091, 100)
