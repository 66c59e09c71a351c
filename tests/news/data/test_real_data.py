import numpy as np
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
