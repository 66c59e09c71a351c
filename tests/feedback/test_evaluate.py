from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from counterpoint.api import read_recipe
from counterpoint.errors import CounterpointError
from counterpoint.feedback.baselines import PRIOR, floors
from counterpoint.feedback.evaluate import evaluate
from counterpoint.feedback.models.building import network
from counterpoint.feedback.workload import trainee
from counterpoint.metrics.evaluated import OPTIMUM
from counterpoint.runs.records import read_per_unit
from small_feedback import SETTINGS as SMALL

RECIPE = read_recipe("gradcraft", SMALL)


@pytest.fixture(scope="module")
def model(store):
    torch.manual_seed(0)
    return network(store.schema, RECIPE.network)


@pytest.fixture(scope="module")
def evaluated(model, store):
    return evaluate(model, RECIPE, store, "test")


def logits_of(model, store, split):
    """Score one row at a time."""
    from counterpoint.feedback.batches import gathered

    rows = store.rows(split)
    model.eval()
    with torch.no_grad():
        return np.concatenate(
            [model.logits(gathered(rows, np.array([row]), [])).numpy() for row in range(len(rows))]
        )


def test_metrics_are_scikit_learns_task_by_task(model, store, evaluated):
    rows, metrics = store.rows("test"), evaluated.record["metrics"]
    logits = logits_of(model, store, "test").astype(np.float64)
    for place, task in enumerate(store.schema.labels):
        labels = rows.labels[:, place]
        assert metrics[f"{task}/auc"] == pytest.approx(roc_auc_score(labels, logits[:, place]), abs=1e-6)
        predicted = 1 / (1 + np.exp(-logits[:, place]))
        assert metrics[f"{task}/loss"] == pytest.approx(log_loss(labels, predicted), abs=1e-6)
        total, weight = 0.0, 0
        for user in np.unique(rows.users):
            own = rows.users == user
            if 0 < labels[own].sum() < own.sum():
                total += own.sum() * roc_auc_score(labels[own], logits[own, place])
                weight += own.sum()
        assert metrics[f"{task}/gauc"] == pytest.approx(total / weight, abs=1e-6)
        assert evaluated.record["counts"][f"{task}: their rows"] == weight
    for name in ("auc", "gauc", "loss", "ece"):
        of_tasks = [metrics[f"{task}/{name}"] for task in store.schema.labels]
        assert metrics[name] == pytest.approx(np.mean(of_tasks))


@pytest.mark.parametrize("weight", ["impressions", "positives", "uniform"])
def test_what_is_kept_of_each_user_averages_to_the_metrics(model, store, weight):
    recipe = read_recipe("gradcraft", [*SMALL, f"evaluation.gauc_weight={weight}"])
    found = evaluate(model, recipe, store, "test")
    users = len(np.unique(store.rows("test").users))
    for name, values in found.per_unit.items():
        assert len(values) == users
        assert values.mean() == pytest.approx(found.record["metrics"][name])
    assert {"auc", "gauc", "loss", "like/auc", "like/gauc"} <= found.per_unit.keys()
    low, high = found.record["intervals"]["auc"]
    assert low < found.record["metrics"]["auc"] < high


def test_floors_are_rates_of_training(store):
    train, test = store.rows("train"), store.rows("test")
    found = floors(train, test, [1, 2], users=True)
    rate = train.labels[:, [1, 2]].mean(axis=0)
    assert (found["global rate"] == rate).all()
    for name, trained, scored in (
        ("item rate", train.items, test.items),
        ("user rate", train.users, test.users),
    ):
        for row in (0, 7, 31):
            own = trained == scored[row]
            wanted = (train.labels[own][:, [1, 2]].sum(axis=0) + PRIOR * rate) / (own.sum() + PRIOR)
            assert found[name][row] == pytest.approx(wanted)


def test_who_never_trained_has_the_global_rate(store):
    train = store.rows("train")
    stranger = replace(
        store.rows("test"), users=np.full(1, 10_000), items=np.full(1, 10_000), labels=train.labels[:1]
    )
    found = floors(train, stranger, [0], users=True)
    assert found["item rate"] == pytest.approx(found["global rate"])
    assert found["user rate"] == pytest.approx(found["global rate"])


def test_the_optimum_is_that_of_the_true_probabilities_and_beats_every_floor(store, evaluated):
    rows, record = store.rows("test"), evaluated.record
    for place, task in enumerate(store.schema.labels):
        wanted = roc_auc_score(rows.labels[:, place], rows.truth[:, place])
        assert record["floors"][OPTIMUM][f"{task}/auc"] == pytest.approx(wanted)
    for name in ("global rate", "item rate", "user rate"):
        assert record["floors"][name]["auc"] < record["floors"][OPTIMUM]["auc"]
        assert record["floors"][name]["loss"] > record["floors"][OPTIMUM]["loss"]
        assert "ece" not in record["floors"][name]
    assert record["floors"]["global rate"]["gauc"] == record["floors"]["user rate"]["gauc"] == 0.5


def test_calibration_has_all_rows_and_the_error_of_its_curve(evaluated, store):
    for task, curve in evaluated.record["calibration"].items():
        rows = np.array(curve["rows"])
        gaps = np.abs(np.subtract(curve["predicted"], curve["observed"]))
        assert rows.sum() == len(store.rows("test"))
        assert evaluated.record["metrics"][f"{task}/ece"] == pytest.approx((rows * gaps).sum() / rows.sum())


def test_slices_go_by_training_rows(evaluated):
    names = [name.split()[0] for name in evaluated.record["slices"]]
    assert set(names) <= {"users", "items"}
    assert all({"auc", "gauc", "users"} == part.keys() for part in evaluated.record["slices"].values())


def test_a_label_that_does_not_vary_in_the_split_is_left_out_of_the_means(model, store):
    rows = store.rows("test")
    labels = np.array(rows.labels)
    labels[:, 1] = 0
    store._opened["test"] = replace(rows, labels=labels)
    try:
        record = evaluate(model, RECIPE, store, "test").record
    finally:
        store._opened["test"] = rows
    metrics = record["metrics"]
    assert f"have the same label {store.schema.labels[1]!r}" in record["warnings"][0]
    task = store.schema.labels[1]
    assert metrics[f"{task}/auc"] is metrics[f"{task}/gauc"] is None
    others = [metrics[f"{each}/auc"] for each in store.schema.labels if each != task]
    assert metrics["auc"] == pytest.approx(np.mean(others))


def test_a_diverged_model_is_told(store):
    model = network(store.schema, RECIPE.network)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(CounterpointError, match="scores are not finite"):
        evaluate(model, RECIPE, store, "test")


def test_evaluating_tells_its_progress_and_validation_says_so(model, store):
    told = {}

    def progress(label, done, total):
        told[label] = done, total

    evaluate(model, RECIPE, store, "test", progress)
    rows = len(store.rows("test"))
    assert told == {"scoring rows": (rows, rows), "scoring floors": (4, 4), "scoring slices": (2, 2)}
    told.clear()
    trainee(RECIPE, store, progress).validate()
    rows = len(store.rows("validation"))
    assert told == {"validation: scoring rows": (rows, rows)}


def test_evaluating_leaves_the_models_mode_as_it_was(model, store):
    model.train()
    evaluate(model, RECIPE, store, "validation", with_floors=False)
    assert model.training


def test_a_run_keeps_what_the_users_contributed(trained):
    kept = read_per_unit(trained.path, "test")
    assert kept["auc"].mean() == pytest.approx(counts_metric(trained, "auc"), abs=1e-6)


def counts_metric(run, name):
    from counterpoint.storage.files import read_json

    return read_json(run.path / "evaluation-test.json")["metrics"][name]
