import pytest

from counterpoint import balance
from counterpoint.news import workload
from counterpoint.news.evaluate import evaluate
from counterpoint.runs.folder import Run
from counterpoint.simulation.news.mind import simulate
from counterpoint.training.loop import fit


@pytest.fixture(scope="package")
def site(store_of, tmp_path_factory):
    """Few clicks on many articles, driven by categories that the titles show."""
    folder = tmp_path_factory.mktemp("learning") / "site"
    simulate(folder, readers=300, articles=1000, category_strength=2.0, candidates=(6, 12), seed=1)
    return store_of(folder)


@pytest.fixture
def train(make_recipe, tmp_path):
    """Train from random weights; return the model's AUC on the test split and the run."""

    def go(store, tasks, method, seed=0, epochs=4, batch_size=16, **options):
        training = {
            "seed": seed,
            "batch_size": batch_size,
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
