import json
import math
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import counterpoint
from counterpoint.news.data.store import Store
from samples import ARTICLES, news_row


def read_prediction(path):
    """MIND's format, word for word: an id, a space, ranks in brackets without spaces."""
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["prediction.txt"]
        lines = archive.read("prediction.txt").decode("ascii").split("\n")
    assert lines.pop() == ""
    matches = [re.fullmatch(r"(\S+) \[(\d+(?:,\d+)*)\]", line) for line in lines]
    return [(match[1], [int(rank) for rank in match[2].split(",")]) for match in matches]


def official_metrics(predictions, clicked):
    """AUC, MRR and nDCG of 1/rank, each impression by itself, from their definitions."""
    scored = {"auc": [], "mrr": [], "ndcg@5": [], "ndcg@10": []}
    for (_, ranks), labels in zip(predictions, clicked, strict=True):
        good = [rank for rank, label in zip(ranks, labels, strict=True) if label]
        poor = [rank for rank, label in zip(ranks, labels, strict=True) if not label]
        scored["auc"].append(sum(g < p for g in good for p in poor) / (len(good) * len(poor)))
        scored["mrr"].append(sum(1 / rank for rank in good) / len(good))
        for most in (5, 10):
            gain = sum(1 / math.log2(rank + 1) for rank in good if rank <= most)
            best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(good), most) + 1))
            scored[f"ndcg@{most}"].append(gain / best)
    return {metric: float(np.mean(values)) for metric, values in scored.items()}


def clicks(store, split):
    shown = store.impressions(store.split(split))
    return np.split(shown.clicked, shown.offsets[1:-1])


@pytest.mark.slow
def test_all_commands_on_real_data(command, data_root, tiny, tmp_path):
    data, store, run = data_root / "mind" / "kim_complete", tmp_path / "store", tmp_path / "run"
    encoder = tiny[1].partition("=")[2]

    prepared = command("prepare", data, "--encoder", encoder, "--out", store)
    assert prepared.code == 0, prepared.err
    assert re.search(r"^\s+344  articles$", prepared.out, re.MULTILINE)
    assert f"prepared store: {store}" in prepared.err

    assert command("train", "mtrec", "--data", store, "--out", run, "--seed", 1, *tiny).code == 0
    assert {"recipe.toml", "run.json", "metrics.jsonl", "balance.jsonl", "checkpoints", "model"} <= {
        path.name for path in run.iterdir()
    }
    assert not [file for file in run.rglob("*") if file.suffix in (".pt", ".pth", ".bin", ".pkl")]
    assert json.loads((run / "run.json").read_text())["seed"] == 1

    evaluated = command("evaluate", run, "--json", tmp_path / "result.json")
    assert evaluated.code == 0, evaluated.err
    assert "simulated" not in evaluated.out
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"auc", "mrr", "ndcg@5", "ndcg@10"} <= set(result["metrics"])
    assert {"random", "popularity", "recency"} <= set(result["floors"])
    assert result["counts"]["impressions"] == 2

    submitted = command("submit", run, "--data", data, "--out", tmp_path / "prediction.zip")
    assert submitted.code == 0, submitted.err
    predictions = read_prediction(tmp_path / "prediction.zip")
    assert len(predictions) == 2
    assert predictions[0][0] == "149115"
    for _, ranks in predictions:
        assert sorted(ranks) == list(range(1, len(ranks) + 1))
    for metric, value in official_metrics(predictions, clicks(Store(store), "test")).items():
        assert result["metrics"][metric] == pytest.approx(value, abs=1e-12)

    recommended = command(
        "recommend",
        run,
        "--history",
        "N55189,N42782",
        "--candidates",
        "N31739,N6072",
        "--json",
        tmp_path / "r.json",
    )
    assert recommended.code == 0, recommended.err
    assert {one["article"] for one in json.loads((tmp_path / "r.json").read_text())["recommendations"]} == {
        "N31739",
        "N6072",
    }
    reported = command("report", run, "--out", tmp_path / "report.html")
    assert reported.code == 0, reported.err
    assert "<html" in (tmp_path / "report.html").read_text().lower()


def test_evaluation_and_submission_agree(command, trained, tmp_path):
    assert command("evaluate", trained, "--split", "validation", "--json", tmp_path / "v.json").code == 0
    written = command("submit", trained, "--split", "validation", "--out", tmp_path / "v.zip")
    assert "4  impressions of split validation" in written.out
    store = Store(Path(json.loads((trained / "run.json").read_text())["store"]["path"]))
    predictions = read_prediction(tmp_path / "v.zip")
    assert [impression for impression, _ in predictions] == ["12", "13", "14", "15"]
    evaluated = json.loads((tmp_path / "v.json").read_text())["metrics"]
    for metric, value in official_metrics(predictions, clicks(store, "validation")).items():
        assert evaluated[metric] == pytest.approx(value, abs=1e-12)
        assert f"{value:.4f}  {metric}" in written.out


def recommendations(command, run, tmp_path, *options):
    result = command("recommend", run, *options, "--json", tmp_path / "ranked.json")
    assert result.code == 0, result.err
    return json.loads((tmp_path / "ranked.json").read_text())["recommendations"]


def test_recommend_ranks_explains_and_leaves_out_what_was_read(command, trained, tmp_path):
    ranked = recommendations(command, trained, tmp_path, "--history", "N1 N2,N6", "--top", 4)
    assert len(ranked) == 4
    assert not {"N1", "N2", "N6"} & {one["article"] for one in ranked}
    scores = [one["score"] for one in ranked]
    assert scores == sorted(scores, reverse=True)
    because = ranked[0]["because"]
    assert {reason["article"] for reason in because} == {"N1", "N2", "N6"}
    assert sum(reason["attention"] for reason in because) == pytest.approx(1, abs=1e-5)
    assert sum(reason["contribution"] for reason in because) == pytest.approx(ranked[0]["score"], abs=1e-5)


def test_recommend_an_article_that_the_data_does_not_have(command, trained, tmp_path):
    ranked = recommendations(
        command,
        trained,
        tmp_path,
        "--history",
        "N2",
        "--article",
        "new=Ada Holm rides again",
        "--candidates",
        "new,N3",
    )
    titles = {one["article"]: one["title"] for one in ranked}
    assert titles == {"new": "Ada Holm rides again", "N3": "Five soups for cold evenings"}


def test_recommend_for_a_reader_without_history(command, trained, tmp_path):
    ranked = recommendations(command, trained, tmp_path)
    assert len(ranked) == 10
    assert all(one["because"] == [] for one in ranked)


def test_python_mirrors_the_commands(command, trained, tmp_path):
    ranked = recommendations(command, trained, tmp_path, "--history", "N1", "--top", 3)
    direct = counterpoint.load(trained).recommend(history=["N1"], top=3)
    assert [one.article for one in direct] == [one["article"] for one in ranked]


def test_raw_data_is_prepared_once(command, cache, small_mind, tiny):
    def stores():
        made = set((cache / "stores").glob("small-mind-*")) - others
        return {path.name: path.stat().st_mtime_ns for path in made}

    others = set((cache / "stores").glob("small-mind-*"))
    assert command("prepare", small_mind, *tiny).code == 0
    first = stores()
    assert len(first) == 1
    assert command("prepare", small_mind, *tiny).code == 0
    assert stores() == first
    assert command("prepare", small_mind, *tiny, "--set", "data.max_title_tokens=9").code == 0
    (small_mind / "behaviors.tsv").write_text((small_mind / "behaviors.tsv").read_text() * 2)
    assert command("prepare", small_mind, *tiny).code == 0
    assert len(stores()) == 3


def test_other_data_is_scored_with_the_models_own_label_numbers(command, trained, mind_folder, tmp_path):
    own = command("evaluate", trained, "--json", tmp_path / "own.json")
    turned = mind_folder("turned", news=[news_row(*row) for row in reversed(ARTICLES)])
    other = command("evaluate", trained, "--data", turned, "--json", tmp_path / "other.json")
    assert own.code == other.code == 0, own.err + other.err
    metrics = [json.loads((tmp_path / name).read_text())["metrics"] for name in ("own.json", "other.json")]
    assert metrics[0]["category/accuracy"] == metrics[1]["category/accuracy"]
    assert metrics[0]["entities/f1"] == metrics[1]["entities/f1"]


def test_impressions_that_cannot_be_scored_are_still_ranked(command, trained, small_mind, tmp_path):
    lines = (small_mind / "behaviors.tsv").read_text().splitlines()
    lines[15:] = [line.replace("-0", "-1") for line in lines[15:]]
    (small_mind / "behaviors.tsv").write_text("\n".join(lines))
    evaluated = command("evaluate", trained, "--data", small_mind, "--json", tmp_path / "result.json")
    assert evaluated.code == 0, evaluated.err
    result = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert result["metrics"]["auc"] is None
    assert result["counts"]["scored"] == 0
    assert command("submit", trained, "--data", small_mind, "--out", tmp_path / "p.zip").code == 0
    assert len(read_prediction(tmp_path / "p.zip")) == 5


def test_unlabelled_impressions_are_submitted_by_default(command, trained, mind_folder, tmp_path):
    train = mind_folder("site/train")
    moment = "11/15/2019 1:00:00 PM"
    mind_folder("site/test", behaviors=[f"7\tU1\t{moment}\tN1\tN2 N3 X1", f"9\tU2\t{moment}\t\tN5"])
    submitted = command("submit", trained, "--data", train.parent, "--out", tmp_path / "p.zip")
    assert submitted.out == "           2  impressions of split unlabelled, read back and equal\n"
    predictions = read_prediction(tmp_path / "p.zip")
    assert [(name, sorted(ranks)) for name, ranks in predictions] == [("7", [1, 2, 3]), ("9", [1])]


def test_a_finished_run_resumes_to_itself(command, trained, tiny):
    before = (trained / "model" / "model.safetensors").read_bytes()
    data = json.loads((trained / "run.json").read_text())["store"]["path"]
    assert command("train", "mtrec", "--data", data, "--out", trained, "--resume", *tiny).code == 0
    assert (trained / "model" / "model.safetensors").read_bytes() == before


def test_simulated_news_goes_all_the_way(command, tiny, tmp_path):
    site = tmp_path / "site"
    simulated = command("simulate", "news", "--out", site, "--readers", 30, "--articles", 80, "--days", 4)
    assert simulated.code == 0, simulated.err
    assert re.search(r"^\s+30  readers$", simulated.out, re.MULTILINE)
    assert command("simulate", "news", "--out", site, "--readers", 30).code == 2
    short = [*tiny, "--set", "training.epochs=1", "--set", "training.batch_size=32"]
    assert command("train", "mtrec", "--data", site, "--out", tmp_path / "run", *short).code == 0
    evaluated = command("evaluate", tmp_path / "run", "--json", tmp_path / "result.json")
    assert evaluated.code == 0, evaluated.err
    assert "(simulated data)" in " ".join(evaluated.out.split())
    floors = json.loads((tmp_path / "result.json").read_text())["floors"]
    assert floors["optimum (simulated)"]["auc"] > floors["random"]["auc"]


def test_a_run_needs_its_first_encoder_no_more(command, tiny_encoder, tmp_path, small_mind):
    encoder, run = shutil.copytree(tiny_encoder, tmp_path / "encoder"), tmp_path / "run"
    settings = ["--set", f"encoder.name={encoder}", "--set", "training.epochs=1"]
    assert command("train", "mtrec", "--data", small_mind, "--out", run, *settings).code == 0
    before = command("evaluate", run, "--json", tmp_path / "before.json")
    assert "left out" not in before.err
    shutil.rmtree(encoder)
    after = command("evaluate", run, "--data", small_mind, "--json", tmp_path / "after.json")
    assert after.code == 0, after.err
    assert "content floor is left out" in " ".join(after.err.split())
    results = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("before", "after")]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert set(results[0]["floors"]) - set(results[1]["floors"]) == {"content"}
    assert command("recommend", run, "--history", ARTICLES[0][0]).code == 0
