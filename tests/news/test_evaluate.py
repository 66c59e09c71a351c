import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from counterpoint.evaluation.tables import OPTIMUM
from counterpoint.news import evaluate as evaluation
from counterpoint.news.data.store import UNKNOWN
from counterpoint.news.evaluate import evaluate
from counterpoint.news.models.recommender import build, pretrained_encoder
from counterpoint.news.scoring import encode_articles, score_impressions
from counterpoint.tasks.classification import IGNORE


@pytest.fixture
def model_of(make_recipe):
    def make(store, recipe):
        torch.manual_seed(1)
        return build(recipe, store.labels, encoder=pretrained_encoder(recipe))

    return make


def official(clicked, ranks):
    """The metrics of one impression from its ranks, as MIND's script defines them; AUC by scikit-learn."""
    scores = 1 / ranks
    order = np.argsort(ranks)
    gains = clicked[order] / np.log2(np.arange(2, len(ranks) + 2))
    best = np.sort(clicked)[::-1] / np.log2(np.arange(2, len(ranks) + 2))
    return {
        "auc": roc_auc_score(clicked, scores),
        "mrr": (clicked * scores).sum() / clicked.sum(),
        "ndcg@5": gains[:5].sum() / best[:5].sum(),
        "ndcg@10": gains[:10].sum() / best[:10].sum(),
    }


def test_metrics_are_the_official_ones_on_real_logs(data_root, store_of, make_recipe, model_of):
    store = store_of(data_root / "mind" / "joined")
    recipe = make_recipe()
    outcome = evaluate(model_of(store, recipe), recipe, store, "test")
    shown = store.impressions(store.split("test"))
    expected = []
    for row in range(len(shown)):
        place = slice(shown.offsets[row], shown.offsets[row + 1])
        ranks, clicked = outcome.ranks[place], (shown.clicked[place] == 1).astype(int)
        assert sorted(ranks) == list(range(1, len(ranks) + 1))
        if 0 < clicked.sum() < len(clicked):
            expected.append(official(clicked, ranks))
            for metric, value in expected[-1].items():
                assert outcome.ranking.per_impression[metric][row] == pytest.approx(value)
    assert len(expected) > 100
    for metric in expected[0]:
        mean = np.mean([each[metric] for each in expected])
        assert outcome.record["metrics"][metric] == pytest.approx(mean)
        low, high = outcome.record["intervals"][metric]
        assert low < mean < high
    counts = outcome.record["counts"]
    assert counts["impressions"] == len(shown)
    assert counts["scored"] == len(expected)
    assert counts["scored"] + counts["skipped (no click, or only clicks)"] == len(shown)
    assert counts["candidates"] == len(shown.candidates)
    assert counts["candidates without an article"] == (shown.candidates == UNKNOWN).sum()
    json.dumps(outcome.record, allow_nan=False)


def test_a_random_model_is_warned_about(simulated, make_recipe, model_of):
    recipe = make_recipe(encoder={"random_weights": True})
    record = evaluate(model_of(simulated, recipe), recipe, simulated, "test").record
    assert set(record["floors"]) == {"random", "popularity", "recency", "content", OPTIMUM}
    assert any("does not beat the recency floor: auc" in warning for warning in record["warnings"])
    assert not any("optimum" in warning for warning in record["warnings"])


def test_the_truth_ranks_best(simulated, make_recipe, model_of):
    recipe = make_recipe()
    record = evaluate(model_of(simulated, recipe), recipe, simulated, "test").record
    optimum = record["floors"][OPTIMUM]["auc"]
    assert 0.6 < optimum < 1
    assert optimum > max(floor["auc"] for name, floor in record["floors"].items() if name != OPTIMUM)
    assert optimum > record["metrics"]["auc"]


def test_slices_are_the_impressions_they_name(simulated, make_recipe, model_of, monkeypatch):
    monkeypatch.setattr(evaluation, "_SMALLEST_SLICE", 3)
    recipe = make_recipe()
    outcome = evaluate(model_of(simulated, recipe), recipe, simulated, "test")
    slices, scored = outcome.record["slices"], outcome.record["counts"]["scored"]
    shown = simulated.impressions(simulated.split("test"))
    cold = simulated.histories(shown.history, 1)[1] == 0
    assert slices["readers with a history"]["impressions"] == (~cold).sum()
    assert slices["cold readers"]["impressions"] == cold.sum() >= 3
    train = simulated.impressions(simulated.split("train"))
    seen = set(train.candidates) | set(simulated.histories(train.history, 10**6)[0])
    unseen = [
        any(article not in seen for article in shown.candidates[start:stop][shown.clicked[start:stop] == 1])
        for start, stop in zip(shown.offsets[:-1], shown.offsets[1:], strict=True)
    ]
    assert 10 < sum(unseen) < scored - 10
    assert slices["clicked article unseen in training"]["impressions"] == sum(unseen)
    assert slices["clicked article seen in training"]["impressions"] == scored - sum(unseen)
    chosen = outcome.ranking.per_impression["auc"][np.array(unseen)]
    assert slices["clicked article unseen in training"]["auc"] == pytest.approx(chosen.mean())
    for name, values in slices.items():
        assert values["impressions"] >= 3, name


def test_auxiliary_metrics_are_over_the_distinct_candidates(simulated, make_recipe, model_of):
    recipe = make_recipe()
    model = model_of(simulated, recipe)
    with torch.no_grad():  # always says the class 2 and the tag "outside"
        model.category.output.weight.zero_()
        model.category.output.bias.copy_(torch.eye(len(model.category.output.bias))[2])
        model.entities.output.weight.zero_()
        model.entities.output.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    metrics = evaluate(model, recipe, simulated, "test", with_floors=False).record["metrics"]
    candidates = np.unique(simulated.impressions(simulated.split("test")).candidates)
    labels = simulated.labels_of("category")[candidates]
    assert metrics["category/accuracy"] == pytest.approx((labels[labels != IGNORE] == 2).mean())
    assert metrics["entities/f1"] == 0


def test_validation_costs_no_floors_and_no_randomness(simulated, make_recipe, model_of):
    recipe = make_recipe(encoder={"dropout": 0.3})
    model = model_of(simulated, recipe).train()
    state = torch.get_rng_state()
    first, second = (evaluate(model, recipe, simulated, "validation", with_floors=False) for _ in range(2))
    assert set(first.record) == {"split", "metrics"}
    assert first.record == second.record
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_floors_of_random_weights_are_the_same_each_time(simulated, make_recipe, model_of):
    recipe = make_recipe(encoder={"random_weights": True})
    model = model_of(simulated, recipe)
    first, second = (evaluate(model, recipe, simulated, "test").record["floors"] for _ in range(2))
    assert first == second


def test_what_cannot_be_measured_is_absent_not_nan(mind_folder, store_of, make_recipe, model_of):
    behaviors = [f"{day}\tU1\t11/{day}/2019 8:00:00 AM\tN1\tN3-1 N4-0" for day in (11, 12)]
    behaviors += ["13\tU1\t11/13/2019 8:00:00 AM\tN1\tN3-1 N4-1"]
    store = store_of(mind_folder("all-clicked", behaviors=behaviors))
    recipe = make_recipe()
    record = evaluate(model_of(store, recipe), recipe, store, "test").record
    assert record["metrics"]["auc"] is None
    assert record["counts"]["scored"] == 0
    assert record["intervals"] == {}
    json.dumps(record, allow_nan=False)


def test_ties_are_counted(simulated, make_recipe, model_of):
    recipe = make_recipe()
    model = model_of(simulated, recipe)
    record = evaluate(model, recipe, simulated, "test").record
    shown = simulated.impressions(simulated.split("test"))
    history, _ = simulated.histories(shown.history, 50)
    index = encode_articles(model, simulated, np.concatenate((shown.candidates, history)))
    scores = score_impressions(model.eval(), index, simulated, shown, 50)
    tied = 0
    for start, stop in zip(shown.offsets[:-1], shown.offsets[1:], strict=True):
        _, counts = np.unique(scores[start:stop], return_counts=True)
        tied += counts[counts > 1].sum()
    assert record["counts"]["tied candidates"] == tied
    # The cold vector starts at zero, so all candidates of cold readers tie.
    assert tied >= np.diff(shown.offsets)[simulated.histories(shown.history, 1)[1] == 0].sum() > 0
