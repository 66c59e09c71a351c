import json
import shutil

import numpy as np
import pytest

from counterpoint.news.data.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture
def shuffled(site, tmp_path_factory):
    """The same site with the categories of articles exchanged at random."""
    folder = shutil.copytree(site.path, tmp_path_factory.mktemp("shuffled") / "store")
    file = folder / "arrays" / "category_labels.npy"
    labels = np.load(file)
    labels[1:] = np.random.default_rng(0).permutation(labels[1:])
    np.save(file, labels)
    return Store(folder)


def test_the_defaults_limit_the_harm_of_shuffled_labels(shuffled, train):
    """MTRec as it comes (λ = 0.3 and surgery) against the plain sum of the losses."""
    tasks = ["click", "category"]
    spared = [
        train(shuffled, tasks, "mtrec", seed)[0] - train(shuffled, tasks, "equal", seed)[0]
        for seed in range(3)
    ]
    assert np.mean(spared) > 0
    assert sum(gain > 0 for gain in spared) >= 2


def test_surgery_leaves_the_clicks_their_part_of_every_step_even_beside_nonsense(shuffled, train):
    """In conflict ⟨g, g_t⟩ = ‖g_t‖² (1 - cos²), whatever the weight of the auxiliary task."""
    _, run = train(shuffled, ["click", "category"], "mtrec", epochs=2, scale=10.0)
    steps = [json.loads(line) for line in (run.path / "balance.jsonl").read_text().splitlines()]
    clicks = np.array([step["norms"]["click"] for step in steps])
    cosines = np.array([step["cosines"]["click|category"] for step in steps])
    effects = np.array([step["effects"]["click"] for step in steps])
    conflict = cosines < 0
    assert 0.2 < conflict.mean() < 0.8
    np.testing.assert_allclose(effects[conflict], (clicks**2 * (1 - cosines**2))[conflict], rtol=1e-4)
    assert (effects[~conflict] >= clicks[~conflict] ** 2 * (1 - 1e-4)).all()
