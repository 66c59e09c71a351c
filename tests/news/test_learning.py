import json
import shutil

import numpy as np
import pytest

from counterpoint import balance
from counterpoint.news import workload
from counterpoint.news.data.store import Store
from counterpoint.news.evaluate import evaluate
from counterpoint.runs.folder import Run
from counterpoint.simulation.news.mind import simulate
from counterpoint.training.loop import fit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(store_of, tmp_path_factory):
    """Few clicks on many articles, driven by categories that the titles show."""
    folder = tmp_path_factory.mktemp("learning") / "site"
    simulate(folder, readers=300, articles=1000, category_strength=2.0, candidates=(6, 12), seed=1)
    return store_of(folder)


@pytest.fixture
def train(make_recipe, tmp_path):
    """Train from random weights; return the model's AUC on the test split and the run."""

    def go(store, tasks, method, seed=0, epochs=4, **options):
        training = {
            "seed": seed,
            "batch_size": 16,
            "epochs": epochs,
            "learning_rate": 3e-3,
        }
        recipe = make_recipe(tasks=tasks, encoder={"pooling": "mean"}, training=training)
        trainee = workload.trainee(recipe, store)
        run = Run.create(tmp_path / f"{method}-{seed}", recipe, {})
        balancer = balance.make(method, **options)
        fit(
            trainee.model,
            trainee.batches,
            recipe.training,
            balancer,
            run,
            target=trainee.target,
            save=lambda folder: None,
        )
        record = evaluate(trainee.model, recipe, store, "test", with_floors=False).record
        return record["metrics"]["auc"], run

    return go


def test_categories_help_to_rank_where_they_drive_the_clicks(site, train):
    gains = [
        train(site, ["click", "category"], "mtrec", seed, scale=0.3)[0]
        - train(site, ["click"], "equal", seed)[0]
        for seed in range(3)
    ]
    assert np.mean(gains) > 0.02
    assert sum(gain > 0 for gain in gains) >= 2


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
