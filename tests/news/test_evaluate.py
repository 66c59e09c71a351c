import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from counterpoint.metrics.evaluated import OPTIMUM
from counterpoint.news import editorial
from counterpoint.news import evaluate as evaluation
from counterpoint.news.data.store import IGNORE, UNKNOWN
from counterpoint.news.evaluate import evaluate
from counterpoint.news.models.building import fresh
from counterpoint.news.models.texts import untrained_titles
from counterpoint.news.scoring import encode_articles, features_of, score_impressions
from samples import ARTICLES, news_row

FLOORS = {"random", "popularity", "popularity, 24 h", "recency", "content"}


@pytest.fixture
def model_of(make_recipe):
    def make(store, recipe):
        torch.manual_seed(1)
        return fresh(recipe, store)

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
    assert set(record["floors"]) == FLOORS | {OPTIMUM}
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
    monkeypatch.setattr(evaluation, "SMALLEST_SLICE", 3)
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
        category, entities = model.heads["category"].output, model.heads["entities"].output
        category.weight.zero_()
        category.bias.copy_(torch.eye(len(category.bias))[2])
        entities.weight.zero_()
        entities.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
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
    assert set(first.record) == {"split", "unit", "metrics"}
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
    features = features_of(model, recipe, simulated)
    index = encode_articles(model, features, np.concatenate((shown.candidates, history)))
    scores = score_impressions(model.eval(), index, simulated, shown, 50)
    tied = 0
    for start, stop in zip(shown.offsets[:-1], shown.offsets[1:], strict=True):
        _, counts = np.unique(scores[start:stop], return_counts=True)
        tied += counts[counts > 1].sum()
    assert record["counts"]["tied candidates"] == tied
    # The cold vector starts at zero, so all candidates of cold readers tie.
    assert tied >= np.diff(shown.offsets)[simulated.histories(shown.history, 1)[1] == 0].sum() > 0


MEASURES = {
    f"{name}@{depth}{more}"
    for depth in (5, 10)
    for name, more in (
        ("diversity", ""),
        ("novelty", ""),
        ("coverage", ""),
        ("exposure gini", ""),
        ("category calibration", ""),
        ("category calibration", " left out"),
    )
}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_record_holds_all_that_a_report_needs_and_no_nan(
    split, small_mind, store_of, make_recipe, model_of
):
    store, recipe = store_of(small_mind), make_recipe()
    record = evaluate(model_of(store, recipe), recipe, store, split).record
    assert set(record) == {
        *("split", "unit", "metrics", "intervals", "floors", "slices", "editorial", "counts", "warnings")
    }
    assert set(record["metrics"]) == {*official_names(), "category/accuracy", "entities/f1"}
    assert set(record["intervals"]) == official_names()
    assert set(record["floors"]) == FLOORS
    assert set(record["editorial"]) == {"model", "clicks", *FLOORS}
    for measures in record["editorial"].values():
        assert set(measures) == MEASURES
    assert all(set(floor) == official_names() for floor in record["floors"].values())
    assert set(record["counts"]) == {
        "impressions",
        "scored",
        "skipped (no click, or only clicks)",
        "candidates",
        "candidates without an article",
        "tied candidates",
    }
    json.dumps(record, allow_nan=False)


def official_names():
    return {"auc", "mrr", "ndcg@5", "ndcg@10"}


def editorial_by_hand(outcome, store, shown, vectors, before, most, rows):
    """Novelty, diversity, coverage and calibration left out of the model's five first, by loops."""
    surprise, diversity, listed, candidates, left_out = [], [], set(), set(), 0
    category = store.labels_of("category")
    pool = set()
    for row in rows:
        place = slice(shown.offsets[row], shown.offsets[row + 1])
        history = store.histories(shown.history[row : row + 1], most)[0].tolist()
        pool |= set(shown.candidates[place].tolist()) | set(history)
    total = sum(before.get(article, 0) for article in pool)
    for row in rows:
        place = slice(shown.offsets[row], shown.offsets[row + 1])
        articles, ranked = shown.candidates[place], outcome.ranks[place]
        top = [int(articles[np.flatnonzero(ranked == rank)[0]]) for rank in range(1, min(5, len(ranked)) + 1)]
        listed |= set(top)
        candidates |= set(articles.tolist())
        surprise.append(np.mean([-np.log2((before.get(a, 0) + 1) / (total + len(pool))) for a in top]))
        pairs = [
            1 - float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))
            for place, a in enumerate(top)
            for b in top[:place]
        ]
        if pairs:
            diversity.append(np.mean(pairs))
        history = store.histories(shown.history[row : row + 1], most)[0]
        left_out += not ((category[history] >= 0).any() and (category[top] >= 0).any())
    return {
        "novelty@5": np.mean(surprise),
        "diversity@5": np.mean(diversity),
        "coverage@5": len(listed) / len(candidates),
        "category calibration@5 left out": left_out,
    }


@pytest.mark.parametrize("most_lists", [100_000, 7])
def test_editorial_measures_are_those_of_the_lists_the_model_would_show(
    most_lists, simulated, make_recipe, model_of, monkeypatch
):
    monkeypatch.setattr(editorial, "MOST_LISTS", most_lists)
    recipe = make_recipe()
    outcome = evaluate(model_of(simulated, recipe), recipe, simulated, "test")
    shown = simulated.impressions(simulated.split("test"))
    before = {}
    for split in ("train", "validation"):
        part = simulated.impressions(simulated.split(split))
        for article in part.candidates[part.clicked == 1].tolist():
            before[article] = before.get(article, 0) + 1
    bert = untrained_titles(recipe).texts["title"].model
    tokens, _, lengths = simulated.titles(np.arange(len(simulated.articles)))
    with torch.no_grad():
        vectors = [
            bert(input_ids=torch.tensor(title[None].astype(np.int64))).last_hidden_state[0, 0].numpy()
            for title in np.split(tokens, np.cumsum(lengths)[:-1])
        ]
    rows = np.arange(len(shown))
    if len(rows) > most_lists:
        rows = np.linspace(0, len(rows) - 1, most_lists).round().astype(int)
        assert len(rows) == most_lists
    expected = editorial_by_hand(outcome, simulated, shown, vectors, before, 50, rows)
    found = outcome.record["editorial"]["model"]
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_floors_know_what_came_before_the_split_and_nothing_else(small_mind, store_of, make_recipe, model_of):
    store, recipe = store_of(small_mind), make_recipe(tasks=["click"])
    assert store.splits_before("train") == []
    assert store.splits_before("validation") == ["train"]
    assert store.splits_before("test") == ["train", "validation"]
    assert store.splits_before("unlabelled") == ["train", "validation", "test"]
    outcome = evaluate(model_of(store, recipe), recipe, store, "validation")
    log = []
    for split in ("train", "validation"):
        part = store.impressions(store.split(split))
        times = np.repeat(part.time, np.diff(part.offsets))
        log += zip(times.tolist(), part.candidates.tolist(), part.clicked.tolist(), strict=True)
    shown = store.impressions(store.split("validation"))
    for name, hours in (("popularity", 10**6), ("popularity, 24 h", 24)):
        for row in range(len(shown)):
            place, now = slice(shown.offsets[row], shown.offsets[row + 1]), int(shown.time[row])
            clicks = [
                sum(
                    one == article and clicked == 1 and now - hours * 3_600_000_000 <= time < now
                    for time, one, clicked in log
                )
                for article in shown.candidates[place].tolist()
            ]
            if len(set(clicks)) == len(clicks):  # ties are broken by lot
                expected = official(
                    (shown.clicked[place] == 1).astype(int), np.argsort(np.argsort(-np.array(clicks))) + 1
                )
                for metric, value in expected.items():
                    assert outcome.floors[name].per_impression[metric][row] == pytest.approx(value)


def test_data_without_texts_and_categories_has_neither_content_floor_nor_diversity(
    small_mind, store_of, make_recipe, model_of
):
    (small_mind / "news.tsv").unlink()
    store = store_of(small_mind, needs_text=False)
    recipe = make_recipe(tasks=["click"], articles={"fields": ["article"]}, reader={"kind": "everyone"})
    record = evaluate(model_of(store, recipe), recipe, store, "test").record
    assert set(record["floors"]) == FLOORS - {"content"}
    assert not [warning for warning in record["warnings"] if "left out" in warning]
    measures = record["editorial"]["model"]
    assert {"novelty@5", "coverage@5"} < measures.keys()
    assert not [name for name in measures if "calibration" in name or "diversity" in name]
    json.dumps(record, allow_nan=False)


def test_an_encoder_that_is_gone_costs_the_content_floor_alone(
    small_mind, store_of, make_recipe, model_of, tiny_encoder, tmp_path
):
    copy = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    recipe = make_recipe(encoder={"name": str(copy)})
    store = store_of(small_mind)
    model = model_of(store, recipe)
    before = evaluate(model, recipe, store, "test").record
    shutil.rmtree(copy)
    after = evaluate(model, recipe, store, "test").record
    assert set(before["floors"]) - set(after["floors"]) == {"content"}
    assert before["metrics"] == after["metrics"]
    (sentence,) = [warning for warning in after["warnings"] if "left out" in warning]
    assert sentence.startswith(f"The content floor is left out: encoder '{copy}' cannot be loaded from ")
    json.dumps(after, allow_nan=False)


def test_categories_that_the_model_does_not_know_are_told(mind_folder, store_of, make_recipe, model_of):
    recipe = make_recipe()
    model = model_of(store_of(mind_folder("own")), recipe)
    news = [
        news_row(article, f"new{place % 7}" if place % 2 else category, subcategory, title)
        for place, (article, category, subcategory, title) in enumerate(ARTICLES)
    ]
    other = store_of(mind_folder("other", news=news))
    other.use_labels(dict(model.vocabulary.labels))
    record = evaluate(model, recipe, other, "test").record
    names = ("new1", "new3", "new5", "new0", "new2", "new4")
    (sentence,) = [warning for warning in record["warnings"] if "unknown to the model" in warning]
    start, _, rest = sentence.partition(" (")
    told, _, end = rest.partition("): ")
    assert start == "6 categories of this data are unknown to the model"
    assert told.split(", ")[5] == "…"
    assert set(told.split(", ")[:5]) < set(names)
    assert end == "their articles count as having none."


def test_slices_of_categories_and_hours_are_the_impressions_they_name(
    simulated, make_recipe, model_of, monkeypatch
):
    monkeypatch.setattr(evaluation, "SMALLEST_SLICE", 1)
    recipe = make_recipe(tasks=["click"])
    outcome = evaluate(model_of(simulated, recipe), recipe, simulated, "test")
    slices = outcome.record["slices"]
    shown = simulated.impressions(simulated.split("test"))
    auc, names = outcome.ranking.per_impression["auc"], simulated.labels["category"]
    hours, of_category = {}, {name: [] for name in names}
    for row in range(len(shown)):
        if np.isnan(auc[row]):
            continue
        hour = int(shown.time[row]) // 3_600_000_000 % 24
        hours.setdefault(hour // 6, []).append(auc[row])
        place = slice(shown.offsets[row], shown.offsets[row + 1])
        clicked = shown.candidates[place][shown.clicked[place] == 1]
        for label in set(simulated.labels_of("category")[clicked].tolist()) - {IGNORE}:
            of_category[names[label]].append(auc[row])
    quarters = ("night, 0 to 6 h", "morning, 6 to 12 h", "afternoon, 12 to 18 h", "evening, 18 to 24 h")
    assert sum(slices[name]["impressions"] for name in quarters if name in slices) == len(auc[~np.isnan(auc)])
    for quarter, values in hours.items():
        assert slices[quarters[quarter]]["auc"] == pytest.approx(np.mean(values))
    told = {name.removeprefix("category "): part for name, part in slices.items() if "category " in name}
    assert 1 < len(told) <= 8
    for name, part in told.items():
        assert part["impressions"] == len(of_category[name])
        assert part["auc"] == pytest.approx(np.mean(of_category[name]))
