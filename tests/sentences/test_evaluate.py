"""Metrics, floors, units, confusions and what is missed most, against scikit-learn, scipy and plain loops."""

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from counterpoint.comparison.significance import bootstraps
from counterpoint.errors import UsageError
from counterpoint.sentences.baselines import floors, threshold
from counterpoint.sentences.data.layout import find
from counterpoint.sentences.data.prepare import prepare
from counterpoint.sentences.data.store import Rows
from counterpoint.sentences.evaluate import by_unit, evaluate
from counterpoint.sentences.model import fresh
from counterpoint.sentences.scoring import Answers, answers
from counterpoint.workload import Preparation
from sentences.simulated import write_course


@pytest.fixture(scope="module")
def model(recipe):
    torch.manual_seed(0)
    return fresh(recipe()).eval()


@pytest.fixture(scope="module")
def evaluated(model, recipe, store):
    return evaluate(model, recipe(), store, "test")


def test_metrics_are_those_of_scikit_learn_and_scipy(evaluated, model, recipe, store):
    rows = {name: store.rows(name, "test") for name in store.tasks}
    given = answers(model, store, recipe().task, rows)
    metrics = evaluated.record["metrics"]
    labels = {name: of_task.labels for name, of_task in rows.items()}
    expected = {
        "paraphrase/accuracy": accuracy_score(labels["paraphrase"], given["paraphrase"].values),
        "paraphrase/f1": f1_score(labels["paraphrase"], given["paraphrase"].values, zero_division=0.0),
        "sentiment/accuracy": accuracy_score(labels["sentiment"], given["sentiment"].values),
        "similarity/pearson": stats.pearsonr(given["similarity"].values, labels["similarity"]).statistic,
        "similarity/spearman": stats.spearmanr(given["similarity"].values, labels["similarity"]).statistic,
    }
    three = ("paraphrase/accuracy", "sentiment/accuracy", "similarity/pearson")
    assert metrics == pytest.approx({"overall": np.mean([expected[name] for name in three]), **expected})
    assert next(iter(metrics)) == "overall"
    assert (
        evaluated.record["confusions"]["sentiment"]
        == confusion_matrix(labels["sentiment"], given["sentiment"].values, labels=range(5)).tolist()
    )
    assert set(evaluated.record["confusions"]) == {"paraphrase", "sentiment"}


def test_units_are_the_rows_of_all_tasks(evaluated):
    assert evaluated.record["counts"] == {
        "examples": 72, "paraphrase rows": 24, "sentiment rows": 24, "similarity rows": 24,
    }  # fmt: skip
    for name, values in evaluated.per_unit.items():
        assert len(values) == 72
        if not name.startswith("floor/"):
            assert np.nanmean(values) == pytest.approx(evaluated.record["metrics"][name], abs=1e-12)
    scored = {name: np.flatnonzero(~np.isnan(values)) for name, values in evaluated.per_unit.items()}
    assert scored["paraphrase/f1"].tolist() == list(range(24))
    assert scored["sentiment/accuracy"].tolist() == list(range(24, 48))
    assert scored["similarity/pearson"].tolist() == list(range(48, 72))
    assert len(scored["overall"]) == 72
    for name, (low, high) in evaluated.record["intervals"].items():
        assert low <= evaluated.record["metrics"][name] <= high


def made_up(sizes, seed=0):
    draw = np.random.default_rng(seed)
    rows, given = {}, {}
    for name, size in sizes.items():
        labels = np.round(draw.uniform(0, 5, size), 1) if name == "similarity" else draw.integers(0, 2, size)
        told = labels + draw.normal(0, 1.5, size)
        values = told if name == "similarity" else (told > 0.5).astype(float)
        rows[name] = Rows(pl.Series(range(size)), np.zeros((1, size), int), labels.astype(float))
        given[name] = Answers(values)
    return rows, given


def test_the_overall_mean_varies_as_it_does_when_each_tasks_rows_are_drawn_anew(recipe):
    sizes = {"paraphrase": 900, "sentiment": 150, "similarity": 80}
    rows, given = made_up(sizes)
    resolved = recipe()
    overall = by_unit(resolved, rows, given)["overall"]
    draw = np.random.default_rng(5)
    truth = []
    for _ in range(1500):
        places = {name: draw.integers(size, size=size) for name, size in sizes.items()}
        metrics = by_unit(
            resolved,
            {name: of_task.of(places[name]) for name, of_task in rows.items()},
            {name: Answers(told.values[places[name]]) for name, told in given.items()},
        )
        truth.append(metrics["overall"].mean())
    (interval,) = bootstraps(overall[:, None])
    assert interval.mean_difference == pytest.approx(overall.mean())
    assert (interval.low, interval.high) == pytest.approx(
        tuple(np.quantile(truth, [0.025, 0.975])), abs=0.005
    )
    assert overall.std() / np.sqrt(len(overall)) == pytest.approx(np.std(truth), rel=0.07)


def test_what_is_trained_has_a_mean_of_its_own_where_there_are_other_tasks(model, recipe, store):
    record = evaluate(model, recipe(name="minbert-baseline"), store, "validation", with_floors=False).record
    metrics = record["metrics"]
    assert metrics["trained"] == pytest.approx(metrics["sentiment/accuracy"])
    assert metrics["overall"] == pytest.approx(
        np.mean(
            [metrics["sentiment/accuracy"], metrics["paraphrase/accuracy"], metrics["similarity/pearson"]]
        )
    )
    assert "floors" not in record


def test_the_worst_missed_come_first(evaluated, model, recipe, store):
    rows = store.rows("similarity", "test")
    given = answers(model, store, recipe().task, {"similarity": rows})["similarity"].values
    missed = evaluated.record["missed"]["similarity"]
    off = np.sort(np.abs(given - rows.labels))[::-1][:10]
    assert [abs(each["answer"] - each["label"]) for each in missed] == pytest.approx(off.tolist())
    worst = int(np.abs(given - rows.labels).argmax())
    assert missed[0]["texts"] == [store.texts(side[worst : worst + 1])[0] for side in rows.sentences]
    assert missed[0]["certainty"] is None
    wrong = evaluated.record["missed"]["sentiment"]
    assert all(each["answer"] != each["label"] and len(each["texts"]) == 1 for each in wrong)
    certainties = [each["certainty"] for each in wrong]
    assert certainties == sorted(certainties, reverse=True)


def test_floors_are_found_on_training_rows_and_judged_on_the_others(evaluated, recipe, store):
    train, test = store.rows("sentiment", "train"), store.rows("sentiment", "test")
    most = np.bincount(train.labels.astype(int)).argmax()
    found = evaluated.record["floors"]
    assert set(found) == {"majority", "word overlap", "untrained encoder"}
    assert found["majority"]["sentiment/accuracy"] == pytest.approx((test.labels == most).mean())
    assert found["majority"]["similarity/pearson"] == 0

    def jaccard(rows):
        sides = [[set(text.lower().split()) for text in store.texts(side)] for side in rows.sentences]
        return np.array([len(a & b) / len(a | b) for a, b in zip(*sides, strict=True)])

    similar = store.rows("similarity", "test")
    expected = stats.pearsonr(jaccard(similar), similar.labels).statistic
    assert expected > 0.5
    assert found["word overlap"]["similarity/pearson"] == pytest.approx(expected)
    pairs, asked = store.rows("paraphrase", "train"), store.rows("paraphrase", "test")
    known = jaccard(pairs)
    best = max((((known >= cut) == (pairs.labels == 1)).mean(), -cut) for cut in [*np.unique(known), np.inf])
    right = ((jaccard(asked) >= -best[1]) == (asked.labels == 1)).mean()
    assert found["word overlap"]["paraphrase/accuracy"] == pytest.approx(right)


def test_the_encoders_floor_is_computed_once(recipe, store, monkeypatch):
    rows = {"similarity": store.rows("similarity", "validation")}
    told = []
    first, _ = floors(recipe(), store, rows, lambda label, *_: told.append(label))
    first_time = len(told)
    again, _ = floors(recipe(), store, rows, lambda label, *_: told.append(label))
    assert len(told) == first_time
    for name in first:
        np.testing.assert_array_equal(first[name]["similarity"].values, again[name]["similarity"].values)


def test_without_the_encoder_its_floor_is_left_out_and_the_reader_told(model, recipe, store):
    gone = recipe("encoder.name=./nowhere")
    record = evaluate(model, gone, store, "test").record
    assert set(record["floors"]) == {"majority", "word overlap"}
    assert (
        "The floor of the untrained encoder is left out: encoder './nowhere' cannot be loaded"
        in record["warnings"][0]
    )


@pytest.fixture(scope="module")
def partly(recipe, tokenizer, tmp_path_factory):
    """A store without training rows of sentiment, without test rows of similarity, with odd rows."""
    data = write_course(tmp_path_factory.mktemp("partly") / "data")
    for name in ("ids-sst-train", "sts-dev"):
        (data / f"{name}.csv").unlink()
    with (data / "quora-dev.csv").open("a") as file:
        file.write("90\tx\tOnly one side\t\t\n91\ty\tIs it?\tIs it so?\t\n")
        file.write(f"92\tz\t{'so ' * 40}?\tIs it so?\t1.0\n")
    with (data / "ids-sst-test-student.csv").open("a") as file:
        file.write("90\tx\t\n")
    out = tmp_path_factory.mktemp("partly") / "store"
    found, resolved = find(data, recipe(), trained=True), recipe()
    return prepare(found, out, tokenizer, resolved, Preparation(on_bad_row="skip"))


def test_what_is_missing_set_aside_or_cut_is_told(model, recipe, partly):
    evaluated = evaluate(model, recipe(), partly, "test")
    record = evaluated.record
    assert set(record["metrics"]) == {
        "overall", "paraphrase/accuracy", "paraphrase/f1", "sentiment/accuracy",
    }  # fmt: skip
    aside = partly.path / "bad_rows.jsonl"
    assert record["warnings"][:4] == [
        "The split test has no rows of similarity: overall is the mean of the other tasks alone.",
        f"Malformed rows were set aside and have no answers: 2 of paraphrase; see {aside}.",
        "Sentences were cut at 24 word pieces in 1 of 25 rows of paraphrase; train with a higher "
        "data.max_tokens to read more of them.",
        "The floors, which are made of training rows, leave out sentiment: the data has none.",
    ]
    # Floors stand beside the tasks that have training rows, and there is no mean of them all.
    assert set(record["floors"]) == {"majority", "word overlap", "untrained encoder"}
    for name, floor in record["floors"].items():
        assert set(floor) == {"paraphrase/accuracy", "paraphrase/f1"}
        values = evaluated.per_unit[f"floor/{name}/paraphrase/accuracy"]
        assert len(values) == 49
        assert np.flatnonzero(~np.isnan(values)).tolist() == list(range(25))
        assert np.nanmean(values) == pytest.approx(floor["paraphrase/accuracy"])
    alone = recipe('tasks=["sentiment"]')
    record = evaluate(model, alone, partly, "test").record
    assert record["floors"] == {}
    assert len(record["warnings"]) == 1


def test_what_is_whole_is_not_told_of(evaluated):
    assert all("floor" in warning for warning in evaluated.record["warnings"])


@pytest.mark.parametrize(
    ("values", "labels", "cut"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.8),
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 0, 0], np.inf),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 1, 1], 0.1),
        ([0.5, 0.5, 0.5, 0.1], [1, 1, 0, 0], 0.5),
    ],
)  # fmt: skip
def test_a_threshold_meets_the_most_labels(values, labels, cut):
    assert threshold(np.array(values), np.array(labels, dtype=float)) == cut


def test_splits_without_answers_are_refused(model, recipe, store):
    with pytest.raises(UsageError, match="the unlabelled split has no answers to evaluate with"):
        evaluate(model, recipe(), store, "unlabelled")
    alone = recipe('tasks=["paraphrase"]')
    with pytest.raises(UsageError, match="no split is called 'dev'"):
        evaluate(model, alone, store, "dev")
