"""The best ranking of simulated data is the best, and knows when it cannot be known."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from counterpoint.behaviors.baselines import NEVER, TrueScorer, true_scorer
from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare
from counterpoint.behaviors.data.store import Interactions, Store
from counterpoint.behaviors.data.truth import Truth, copy_truth
from counterpoint.errors import CounterpointError
from counterpoint.simulation.shop.log import simulate
from counterpoint.workload import Preparation

from .shop_logs import shop_recipe

TASKS = ("buy", "click", "cart", "favourite")


def prepared(data: Path, out: Path, tasks: tuple[str, ...] = TASKS, **settings: object) -> Store:
    ignored = tuple(set(TASKS) - set(tasks))
    store = prepare(find(data), out, shop_recipe(tasks, ignore=ignored, **settings), Preparation())
    copy_truth(data, store.path)
    return store


def scorer_of(store: Store) -> TrueScorer:
    scorer = true_scorer(store)
    assert scorer is not None
    return scorer


def dense(pairs: Interactions, store: Store) -> np.ndarray:
    found = np.zeros((store.user_count, store.item_count), bool)
    found[pairs.users(), pairs.items] = True
    return found


def held_out(store: Store) -> np.ndarray:
    return dense(store.interactions("validation", "buy"), store) | dense(
        store.interactions("test", "buy"), store
    )


def in_training(store: Store) -> np.ndarray:
    return np.any([dense(store.interactions("train", name), store) for name in store.behaviours], axis=0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "shop"
    simulate(folder, users=1_500, items=400, seed=5, click_relevance=0.7)
    return folder


@pytest.fixture(scope="module")
def unfiltered(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("stores") / "unfiltered"
    return prepared(shop, out, least_bought=1, least_buyers=1)


def test_the_log_is_read_as_it_was_written(shop: Path, unfiltered: Store) -> None:
    written = json.loads((shop / "simulation.json").read_text())["counts"]
    assert unfiltered.manifest["simulated"] is True
    assert unfiltered.counts["pairs of buy"] == written["pairs bought"]
    pairs = sum(unfiltered.counts[f"pairs of {name}"] for name in TASKS)
    others = unfiltered.counts["repeats merged"] + unfiltered.counts["rows dropped by the filter"]
    assert pairs + others == written["interactions"]
    assert unfiltered.counts["bad rows set aside"] == 0


def test_scores_are_the_log_odds_of_being_held_out(unfiltered: Store) -> None:
    """Of the pairs that training does not hold, so many were held out as the scores say."""
    scores = scorer_of(unfiltered).scores(np.arange(unfiltered.user_count)).numpy()
    open_pairs = ~in_training(unfiltered)
    odds = 0.3 * np.exp(scores[open_pairs].astype(float))
    chance = odds / (1 + odds)
    found = held_out(unfiltered)[open_pairs]
    order = np.argsort(chance)
    for part in np.array_split(order, 12):
        spread = np.sqrt((chance[part] * (1 - chance[part])).sum())
        assert abs(found[part].sum() - chance[part].sum()) < 4 * spread
    assert chance[order[-100:]].min() > 20 * np.median(chance)


@pytest.mark.parametrize("tasks", [("buy",), ("buy", "cart"), ("cart", "click")])
def test_whatever_the_tasks_the_scores_are_log_odds(
    shop: Path, tmp_path: Path, tasks: tuple[str, ...]
) -> None:
    """What the store was not told of, a click for one, its pairs may have had."""
    store = prepared(shop, tmp_path / "store", tasks, least_bought=1, least_buyers=1)
    open_pairs = ~in_training(store)
    odds = 0.3 * np.exp(scorer_of(store).scores(np.arange(store.user_count)).double().numpy()[open_pairs])
    chance = odds / (1 + odds)
    target = [dense(store.interactions(split, tasks[0]), store) for split in ("validation", "test")]
    found = (target[0] | target[1])[open_pairs]
    for part in np.array_split(np.argsort(chance), 8):
        spread = np.sqrt((chance[part] * (1 - chance[part])).sum())
        assert abs(found[part].sum() - chance[part].sum()) < 4 * spread


def test_a_pair_with_another_behaviour_in_training_cannot_be_held_out(unfiltered: Store) -> None:
    users = np.array([7, 3])
    scores = scorer_of(unfiltered).scores(users).numpy()
    assert scores.shape == (2, unfiltered.item_count)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    clicked = unfiltered.interactions("train", "click")
    for row, user in enumerate(users.tolist()):
        assert (scores[row, clicked.of(user)] == np.float32(NEVER)).all()
    assert (scores == np.float32(NEVER)).sum() < scores.size / 2


def test_no_other_ranking_finds_more_of_what_is_held_out(shop: Path, tmp_path: Path) -> None:
    """Not the true probabilities of someone who does not know the log, and no popularity."""
    store = prepared(shop, tmp_path / "store", least_bought=10, least_buyers=30)
    assert store.user_count < 1_200
    assert store.item_count < 350
    everyone = np.arange(store.user_count)
    users, items = (ids.str.slice(1).cast(pl.Int64).to_numpy() for ids in (store.user_ids, store.item_ids))
    bought = dense(store.interactions("train", "buy"), store)

    def found(scores: np.ndarray) -> float:
        top = np.argsort(-np.where(bought, -np.inf, scores), axis=1)[:, :10]
        return float(np.take_along_axis(held_out(store), top, axis=1).mean())

    best = found(scorer_of(store).scores(everyone).numpy())
    without_log = found(Truth(store.path / "truth").probability(users)[:, items])
    popularity = found(np.tile(bought.sum(axis=0), (store.user_count, 1)))
    assert best > 1.05 * without_log > 1.5 * popularity


def test_only_simulated_data_has_a_best_ranking(shop: Path, unfiltered: Store, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    assert copy_truth(tmp_path / "real", tmp_path) is False
    assert not (tmp_path / "truth").exists()
    (tmp_path / "real" / "simulation.json").write_text(json.dumps({"simulated": False}))
    assert copy_truth(tmp_path / "real", tmp_path) is False

    (tmp_path / "untold").mkdir()
    (tmp_path / "untold" / "simulation.json").write_text(json.dumps({"simulated": True}))
    assert copy_truth(tmp_path / "untold", tmp_path) is True
    assert not (tmp_path / "truth").exists()

    shutil.copytree(unfiltered.path, tmp_path / "store", ignore=shutil.ignore_patterns("truth"))
    store = Store(tmp_path / "store")
    assert true_scorer(store) is None
    assert copy_truth(shop, store.path) is True
    assert true_scorer(store) is not None


def test_an_incomplete_truth_is_one_sentence(shop: Path, tmp_path: Path) -> None:
    copy_truth(shop, tmp_path)
    (tmp_path / "truth" / "items.npy").write_bytes(b"no array")
    with pytest.raises(CounterpointError) as caught:
        Truth(tmp_path / "truth")
    sentence = str(caught.value)
    assert sentence.startswith(f"{tmp_path / 'truth' / 'items.npy'}: cannot be read (")
    assert sentence.endswith("); simulate the data again.")


def test_real_logs_are_prepared_without_a_simulator() -> None:
    code = (
        "import sys, counterpoint.behaviors.recipe; "
        "print(sorted({'torch', 'polars', 'numpy'} & set(sys.modules))); "
        "import counterpoint.behaviors.workload; "
        "print([name for name in sys.modules if name.startswith('counterpoint.simulation')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n[]\n"
