"""Whether what a run answers is what its evaluation judged, said once for each workload.

There is no common form for the scores of single rows, so each workload's own answers are compared: what it
submits or recommends, with the metrics or scores of its evaluation, on the test split.
"""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import counterpoint
from counterpoint.behaviors.scoring import NetworkScorer
from counterpoint.feedback.scoring import score
from counterpoint.opened_run import OpenedRun
from counterpoint.sentences.submit import read_predictions
from sentences.simulated import duplicates, likenesses, sentiments


def news(run: Path, raw: Path, record: Mapping[str, Any], out: Path) -> None:
    """A submission has the metrics of the evaluation, and recommending the same candidates has its ranks."""
    submitted = counterpoint.submit(run, split="test", out=out / "prediction.zip")
    for metric, value in submitted.metrics.items():
        assert value == pytest.approx(record["metrics"][metric], abs=1e-12), metric
    assert {"auc", "mrr", "ndcg@5", "ndcg@10"} <= set(submitted.metrics)
    with zipfile.ZipFile(out / "prediction.zip") as archive:
        lines = archive.read("prediction.txt").decode().splitlines()
    shown = (raw / "dev" / "behaviors.tsv").read_text(encoding="utf-8").splitlines()
    recommender = counterpoint.load(run)
    for line, impression in list(zip(lines, shown, strict=True))[:10]:
        identifier, _, _, history, candidates = impression.split("\t")
        told, ranks = line.split(" ")
        assert told == identifier
        articles = [each.rpartition("-")[0] for each in candidates.split()]
        best = recommender.recommend(history.split(), articles, top=len(articles))
        by_rank = sorted(zip(map(int, ranks.strip("[]").split(",")), articles, strict=True))
        assert [one.article for one in best] == [article for _, article in by_rank]


def behaviors(run: Path, raw: Path, record: Mapping[str, Any], out: Path) -> None:
    """What is recommended has the probabilities, and so the order, of the logits that evaluation ranks by."""
    trained = OpenedRun(run)
    model, store = trained.opened(None)
    scorer = NetworkScorer(model, trained.recipe.target)
    recommender = counterpoint.load(run)
    places = {str(item): place for place, item in enumerate(store.item_ids)}
    for row in range(0, store.user_count, 7):
        found = recommender.recommend(store.user_ids[row], top=store.item_count)
        judged = torch.sigmoid(scorer.scores(np.array([row]))[0]).numpy()
        assert len(found) > 10
        assert [one.score for one in found] == [float(judged[places[one.item]]) for one in found]
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def feedback(run: Path, raw: Path, record: Mapping[str, Any], out: Path) -> None:
    """A video has the probabilities that evaluation judged where the same user views it in the test rows."""
    trained = OpenedRun(run)
    model, store = trained.opened(None)
    rows = store.rows("test")
    judged = torch.sigmoid(torch.from_numpy(score(model, rows))).numpy()
    recommender = counterpoint.load(run)
    compared = 0
    for user in range(0, len(store.users), 2):
        found = recommender.recommend(store.users[user], top=len(store.items))
        told = {one.item: list(one.probabilities.values()) for one in found}
        for row in np.flatnonzero(rows.users == user):
            video = str(store.items[int(rows.items[row])])
            if video in told:  # what was viewed in training is not recommended
                assert told[video] == pytest.approx(judged[row].tolist(), abs=1e-6)
                compared += 1
    assert compared > 10


def sentences(run: Path, raw: Path, record: Mapping[str, Any], out: Path) -> None:
    """Predictions have the metrics of the evaluation, and are what the encoder answers to the same texts."""
    submitted = counterpoint.submit(run, split="test", out=out / "predictions")
    assert submitted.metrics == {
        name: pytest.approx(value, abs=1e-12) for name, value in record["metrics"].items()
    }
    encoder = counterpoint.load(run)
    given = {
        "sentiment": ("sst", sentiments(24, 1)),
        "paraphrase": ("para", duplicates(24, 4)),
        "similarity": ("sts", likenesses(24, 6)),
    }
    for task, (file, rows) in given.items():
        written = read_predictions(out / "predictions", f"{file}-dev-output.csv")
        assert [identifier for identifier, _ in written] == [row[0] for row in rows]
        sides = [list(side) for side in zip(*(row[1:-1] for row in rows), strict=True)]
        assert encoder.answers(task, *sides).values == pytest.approx(
            [value for _, value in written], abs=1e-5
        )


AGREES: Mapping[str, Callable[[Path, Path, Mapping[str, Any], Path], None]] = {
    "news": news,
    "behaviors": behaviors,
    "feedback": feedback,
    "sentences": sentences,
}
