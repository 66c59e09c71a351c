import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import counterpoint
from counterpoint.errors import UsageError
from counterpoint.reporting.gradients import conflicts
from counterpoint.runs.records import read_run
from counterpoint.simulation.views import log as module
from counterpoint.simulation.views.law import (
    VIEWING,
    Law,
    draw_labels,
    draw_users,
    draw_videos,
    find_law,
    label_names,
    logits_of,
)
from counterpoint.simulation.views.log import simulate
from small_feedback import SETTINGS as SMALL

FILE = "simulated-views.parquet"


def test_the_same_arguments_give_the_same_bytes_and_the_seed_others(tmp_path):
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        simulate(tmp_path / name, users=30, videos=20, rows=500, seed=seed)
    first, second, third = ((tmp_path / name / FILE).read_bytes() for name in ("first", "second", "third"))
    assert first == second != third


def test_pages_hold_all_users_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_PAGE", 200)
    simulation = simulate(tmp_path / "log", users=40, videos=20, rows=1_200)
    log = pl.read_parquet(tmp_path / "log" / FILE)
    assert simulation.counts["views"] == len(log)
    assert simulation.counts["users"] == log["user"].n_unique() <= 40
    assert log["user"].is_sorted()
    assert log.filter(pl.col("time") < pl.col("time").shift().over("user")).is_empty()
    assert simulation.counts["like"] == log["label_like"].sum()
    assert 900 < len(log) < 1_500


def test_labels_happen_as_often_as_their_probabilities_say(tmp_path):
    simulate(tmp_path / "log", users=400, videos=100, rows=40_000, conflict=0.9)
    log = pl.read_parquet(tmp_path / "log" / FILE)
    for label in label_names(6):
        true, happened = log[f"true_{label}"].to_numpy(), log[f"label_{label}"].to_numpy()
        bins = np.digitize(true, np.quantile(true, [0.25, 0.5, 0.75]))
        for number in range(4):
            own = bins == number
            spread = np.sqrt((true[own] * (1 - true[own])).sum()) / own.sum()
            assert abs(true[own].mean() - happened[own].mean()) < 5 * spread


def law_of(**given):
    videos = draw_videos(np.random.default_rng([0, 0]), 300, 4)
    settings = {"relatedness": 0.5, "conflict": 0.5, "heterogeneity": 0.5, **given}
    return videos, find_law(np.random.default_rng([0, 1]), videos, label_names(4), **settings)


def probabilities_of(videos, law, views=20_000):
    draw = np.random.default_rng(5)
    users = draw_users(draw, views, 4)
    met = draw.integers(300, size=views)
    return 1 / (1 + np.exp(-logits_of(users, videos, met, law))), logits_of(users, videos, met, law)


def test_heterogeneity_spreads_the_rates():
    videos, law = law_of(heterogeneity=0.0)
    assert probabilities_of(videos, law)[0].mean(axis=0) == pytest.approx([0.4] * 4, abs=0.03)
    videos, law = law_of(heterogeneity=1.0)
    rates = probabilities_of(videos, law)[0].mean(axis=0)
    assert rates[0] == pytest.approx(0.4, abs=0.03)
    assert rates[3] == pytest.approx(0.008, rel=0.3)


@pytest.mark.parametrize(
    ("relatedness", "low", "high"), [(1.0, 0.6, 0.9), (0.0, -0.1, 0.1), (-1.0, -0.9, -0.5)]
)
def test_relatedness_correlates_the_reasons_to_watch_and_to_engage(relatedness, low, high):
    videos, law = law_of(relatedness=relatedness)
    # Length counts for watching alone, so it is taken out.
    videos = replace(videos, seconds=np.full(300, np.exp(3.2)))
    logits = probabilities_of(videos, law)[1]
    assert low < np.corrcoef(logits[:, 0], logits[:, 2])[0, 1] < high


@pytest.mark.parametrize("conflict", [0.0, 0.5, 1.0])
def test_conflict_correlates_the_luck_with_its_sign_by_the_kinds(conflict):
    _, law = law_of(conflict=conflict)
    even = np.full((40_000, 4), 0.5)
    happened = draw_labels(np.random.default_rng(0), even, law)
    found = np.corrcoef(happened.T.astype(float))
    # Of normal variables with correlation c, signs have the correlation 2 arcsin(c) / π.
    wanted = 2 * np.arcsin(conflict) / np.pi
    assert found[0, 1] == pytest.approx(wanted, abs=0.02)
    assert found[2, 3] == pytest.approx(wanted, abs=0.02)
    assert found[0, 2] == pytest.approx(-wanted, abs=0.02)
    assert happened.mean(axis=0) == pytest.approx([0.5] * 4, abs=0.01)


def test_the_logits_are_those_of_the_formula():
    videos, law = law_of()
    users = draw_users(np.random.default_rng(2), 1, 4)
    video, kinds = 17, [0, 0, 1, 1]
    seen = videos.side.of(np.array([video]))
    affinity = [users.tastes[0, kind] @ seen.tastes[0, kind] / np.sqrt(3) for kind in (0, 1)]
    both = {
        name: (first, 0.5 * first + np.sqrt(0.75) * second)
        for name, (first, second) in {
            "affinity": affinity,
            "quality": seen.level[0],
            "tendency": users.level[0],
        }.items()
    }
    length = (np.log(videos.seconds[video]) - 3.2) / 0.6
    for label, kind in enumerate(kinds):
        own = users.own[0, label] @ seen.own[0, label]
        wanted = (
            law.intercepts[label]
            + 1.3 * (np.sqrt(0.7) * both["affinity"][kind] + np.sqrt(0.3) * own)
            + 0.6 * both["quality"][kind]
            + 0.7 * both["tendency"][kind]
            - (0.3 * length if kind == 0 else 0)
        )
        found = logits_of(users, videos, np.array([video]), law)[0, label]
        assert found == pytest.approx(wanted, rel=1e-5)


def test_the_folder_says_that_it_is_simulated_and_how(tmp_path):
    simulation = simulate(tmp_path / "log", users=20, videos=10, rows=100, tasks=3, conflict=0.25)
    told = json.loads((tmp_path / "log" / "simulation.json").read_text())
    assert told["simulated"] is True
    assert told["parameters"]["conflict"] == 0.25
    assert told["counts"] == simulation.counts
    assert told["law"]["labels"] == ["effective_view", "long_view", "like"]
    assert "Everything in this folder is simulated" in (tmp_path / "log" / "README.md").read_text()


@pytest.mark.parametrize(
    "given",
    [
        {"tasks": 1},
        {"tasks": 9},
        {"relatedness": 1.1},
        {"conflict": -0.1},
        {"heterogeneity": 2},
        {"rows": 5, "users": 10},
        {"videos": 1},
        {"days": 0},
    ],
    ids=lambda given: "-".join(given),
)
def test_options_out_of_range_are_refused_before_anything_is_written(tmp_path, given):
    with pytest.raises(UsageError, match="give"):
        simulate(tmp_path / "log", **given)
    assert not (tmp_path / "log").exists()


def test_luck_without_conflict_is_independent():
    law = Law(("effective_view", "like"), 1.0, 0.0, (0.0, 0.0))
    happened = draw_labels(np.random.default_rng(1), np.full((50_000, 2), 0.3), law)
    assert np.corrcoef(happened.T.astype(float))[0, 1] == pytest.approx(0, abs=0.02)
    assert torch.special.ndtr(torch.tensor(0.0)) == 0.5


@pytest.mark.slow
def test_conflict_sets_the_gradients_of_the_two_kinds_against_each_other(tmp_path):
    rates = {}
    for conflict in (0.0, 0.9):
        log, store, run = (tmp_path / f"{name}-{conflict}" for name in ("log", "store", "run"))
        options = {"tasks": 4, "heterogeneity": 0.0, "relatedness": 1.0, "conflict": conflict}
        simulate(log, users=100, videos=60, rows=8_000, **options)
        counterpoint.prepare(log, recipe="gradcraft", settings=SMALL, out=store)
        counterpoint.train("gradcraft", data=store, out=run, settings=SMALL)
        pairs = conflicts(read_run(run)).pairs.items()
        across = [rate for pair, rate in pairs if len({label in VIEWING for label in pair}) == 2]
        rates[conflict] = np.mean(across)
    assert rates[0.9] > rates[0.0] + 0.1
