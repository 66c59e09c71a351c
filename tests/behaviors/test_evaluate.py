import json
import re

import numpy as np
import pytest
import torch

from counterpoint.behaviors import evaluate as evaluation
from counterpoint.behaviors import scoring, workload
from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.pairs import UNTRAINED
from counterpoint.behaviors.data.prepare import prepare
from counterpoint.behaviors.data.store import Interactions
from counterpoint.behaviors.data.truth import copy_truth
from counterpoint.behaviors.evaluate import evaluate, masked_pairs
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.metrics.evaluated import OPTIMUM
from counterpoint.progress import silent
from counterpoint.simulation.shop.log import simulate
from counterpoint.workload import Preparation

USERS, ITEMS = 60, 40
METRICS = [f"{name}@{cutoff}" for cutoff in (10, 20) for name in ("ndcg", "recall", "precision")]
FLOORS = ["random", "most bought", "bought together"]


def recipe_of(*mask, tasks=("buy", "click")):
    return BehaviorsRecipe(name="shop", tasks=tasks, ranking={"mask": mask})


def network_of(store, recipe):
    torch.manual_seed(5)
    model = BehaviorsNetwork(store.user_count, store.item_count, recipe.tasks, recipe.network)
    with torch.no_grad():
        for table in (model.mlp_users, model.mlp_items, model.gmf_users, model.gmf_items):
            table.weight.normal_()
    return model


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A log that brings its held-out pairs; user u059 bought nothing, the last users have no test pair."""
    draw = np.random.default_rng(2)
    behaviours = draw.choice(5, (USERS, ITEMS), p=[0.6, 0.1, 0.2, 0.05, 0.05])
    behaviours[59] = np.where(behaviours[59] == 1, 2, behaviours[59])
    behaviours[50:, :] = np.where(behaviours[50:, :] == 3, 0, behaviours[50:, :])
    behaviours[0] = [1] + [2] * 1 + [0] * 36 + [3, 4]
    folder = tmp_path_factory.mktemp("shop")
    lines = {"train": ["user,item,behaviour"], "test": ["user,item"], "validation": ["user,item"]}
    for user, item in np.argwhere(behaviours > 0):
        kind = behaviours[user, item]
        name = f"u{user:03},i{item:03}"
        if kind in (1, 2):
            lines["train"].append(f"{name},{'buy' if kind == 1 else 'click'}")
        else:
            lines["test" if kind == 3 else "validation"].append(name)
    for file, rows in lines.items():
        (folder / f"{file}.csv").write_text("\n".join(rows) + "\n")
    recipe = recipe_of()
    return prepare(find(folder), tmp_path_factory.mktemp("stores") / "shop", recipe, Preparation())


def ranked(store, model, user, hidden):
    """All items but the hidden ones, sorted by the network's own logits."""
    with torch.no_grad():
        items = torch.arange(store.item_count)
        logits = model.eval().logits(torch.full_like(items, user), items)[:, 0].tolist()
    return sorted(set(range(store.item_count)) - set(hidden), key=lambda item: -logits[item])


def looped(store, model, split, hidden):
    """The metrics of every user, place by place; ``hidden(user)`` is left out."""
    found = {name: [] for name in METRICS}
    for user in range(store.user_count):
        best = ranked(store, model, user, hidden(user))
        relevant = set(store.interactions(split, "buy").of(user).tolist())
        for cutoff in (10, 20):
            places = [place for place, item in enumerate(best[:cutoff]) if item in relevant]
            ideal = sum(1 / np.log2(place + 2) for place in range(min(cutoff, len(relevant))))
            gain = sum(1 / np.log2(place + 2) for place in places)
            values = {
                "ndcg": gain / ideal if relevant else np.nan,
                "recall": len(places) / len(relevant) if relevant else np.nan,
                "precision": len(places) / cutoff if relevant else np.nan,
            }
            for name, value in values.items():
                found[f"{name}@{cutoff}"].append(value)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("mask", [(), ("validation",), ("auxiliary",), ("validation", "auxiliary")])
def test_metrics_are_those_of_sorting_all_items_for_each_user(shop, split, mask):
    recipe = recipe_of(*mask)
    model = network_of(shop, recipe)
    bought = shop.interactions("train", "buy")
    clicked = shop.interactions("train", "click")
    validated = shop.interactions("validation", "buy")

    def hidden(user):
        left_out = set(bought.of(user).tolist())
        if "validation" in mask and split == "test":
            left_out |= set(validated.of(user).tolist())
        if "auxiliary" in mask:
            left_out |= set(clicked.of(user).tolist())
        return left_out

    expected = looped(shop, model, split, hidden)
    evaluated = evaluate(model, recipe, shop, split)
    assert evaluated.record["unit"] == "users"
    assert list(evaluated.record["metrics"]) == METRICS
    for name, values in expected.items():
        np.testing.assert_allclose(evaluated.per_unit[name], values, atol=1e-12)
        assert evaluated.record["metrics"][name] == pytest.approx(np.nanmean(values))
        low, high = evaluated.record["intervals"][name]
        assert low < evaluated.record["metrics"][name] < high
    assert 0 < np.nanmean(expected["recall@10"]) < 1


def test_only_users_with_pairs_in_the_split_are_averaged_and_counted(shop):
    evaluated = evaluate(network_of(shop, recipe_of()), recipe_of(), shop, "test")
    wanted = shop.interactions("test", "buy")
    scored = wanted.counts() > 0
    assert 0 < scored.sum() < shop.user_count
    for values in evaluated.per_unit.values():
        np.testing.assert_array_equal(np.isnan(values), ~scored)
    assert evaluated.record["counts"] == {
        "users": shop.user_count,
        "scored": scored.sum(),
        "skipped (no buy in the split)": shop.user_count - scored.sum(),
        "items": shop.item_count,
        "buy pairs of the split": len(wanted),
        "of them left out of the rankings, so never found": 0,
    }
    json.dumps(evaluated.record, allow_nan=False)


def test_some_users_validate_and_they_are_the_same_ones_each_time(shop):
    recipe = recipe_of()
    model = network_of(shop, recipe)
    whole = evaluate(model, recipe, shop, "validation", with_floors=False).per_unit["ndcg@10"]
    some = [evaluate(model, recipe, shop, "validation", with_floors=False, most_users=7) for _ in range(2)]
    values = some[0].per_unit["ndcg@10"]
    scored = ~np.isnan(values)
    assert scored.sum() == 7
    np.testing.assert_array_equal(values[scored], whole[scored])
    np.testing.assert_array_equal(values, some[1].per_unit["ndcg@10"])
    assert some[0].record["metrics"]["ndcg@10"] == pytest.approx(values[scored].mean())
    every = evaluate(model, recipe, shop, "validation", with_floors=False, most_users=10_000)
    np.testing.assert_array_equal(every.per_unit["ndcg@10"], whole)


@pytest.mark.parametrize("mask", [(), ("validation", "auxiliary")])
def test_the_training_split_is_ranked_with_what_was_bought_in_it(shop, mask, monkeypatch):
    recipe = recipe_of(*mask)
    model = network_of(shop, recipe)
    bought, clicked = shop.interactions("train", "buy"), shop.interactions("train", "click")
    # A bought item that was clicked too is to be found all the same.
    both = Interactions.union((bought, clicked))
    monkeypatch.setitem(shop._opened, ("train", "click"), both)
    expected = looped(shop, model, "train", lambda user: clicked.of(user).tolist() if mask else [])
    evaluated = evaluate(model, recipe, shop, "train")
    for name, values in expected.items():
        np.testing.assert_allclose(evaluated.per_unit[name], values, atol=1e-12)
    assert evaluated.record["metrics"]["recall@20"] > 0
    assert all(floor["recall@20"] > 0 for floor in evaluated.record["floors"].values())
    assert evaluated.record["counts"]["of them left out of the rankings, so never found"] == 0


def test_pairs_that_preparation_dropped_from_the_split_are_told(shop, monkeypatch):
    dropped = {f"{split} {UNTRAINED}": number for split, number in (("validation", 0), ("test", 3))}
    monkeypatch.setitem(shop.manifest, "counts", {**shop.counts, **dropped})
    model = network_of(shop, recipe_of())
    told = f"dropped {UNTRAINED}"
    assert evaluate(model, recipe_of(), shop, "test").record["counts"][told] == 3
    for split in ("validation", "train"):
        assert told not in evaluate(model, recipe_of(), shop, split).record["counts"]


def test_floors_stand_beside_with_values_for_every_user(shop):
    evaluated = evaluate(network_of(shop, recipe_of()), recipe_of(), shop, "test")
    assert list(evaluated.record["floors"]) == FLOORS
    for name in FLOORS:
        for metric in METRICS:
            values = evaluated.per_unit[f"floor/{name}/{metric}"]
            assert evaluated.record["floors"][name][metric] == pytest.approx(np.nanmean(values))
    lost = [
        name for name in FLOORS if any(f"the {name} floor" in each for each in evaluated.record["warnings"])
    ]
    worse = [
        name
        for name, floor in evaluated.record["floors"].items()
        if any(evaluated.record["metrics"][metric] <= value for metric, value in floor.items())
    ]
    assert lost == worse


def test_the_most_bought_floor_by_hand(shop):
    evaluated = evaluate(network_of(shop, recipe_of()), recipe_of(), shop, "test")
    bought, wanted = shop.interactions("train", "buy"), shop.interactions("test", "buy")
    buyers = np.bincount(bought.items, minlength=shop.item_count)
    recalls = evaluated.per_unit["floor/most bought/recall@10"]
    for user in np.flatnonzero(wanted.counts()):
        left = np.setdiff1d(np.arange(shop.item_count), bought.of(user))
        limit = np.sort(buyers[left])[-10]
        # Whatever becomes of the ties at the tenth place.
        sure = np.isin(wanted.of(user), left[buyers[left] > limit]).mean()
        possible = np.isin(wanted.of(user), left[buyers[left] >= limit]).mean()
        assert sure - 1e-12 <= recalls[user] <= possible + 1e-12


def test_slices_part_the_scored_users_by_what_they_bought(shop):
    evaluated = evaluate(network_of(shop, recipe_of()), recipe_of(), shop, "validation")
    bought = shop.interactions("train", "buy").counts()
    scored = shop.interactions("validation", "buy").counts() > 0
    slices = {name: part for name, part in evaluated.record["slices"].items() if name.startswith("users")}
    assert len(slices) >= 3
    for name, part in slices.items():
        said = re.fullmatch(r"users with (\d+)(?: to (\d+))? training purchases?", name)
        first, last = int(said[1]), int(said[2] or said[1])
        inside = scored & (bought >= first) & (bought <= last)
        assert part["users"] == inside.sum()
        for metric in METRICS:
            assert part[metric] == pytest.approx(evaluated.per_unit[metric][inside].mean())
    assert sum(part["users"] for part in slices.values()) == (scored & (bought > 0)).sum()


def test_users_without_training_purchases_are_a_slice_of_their_own(shop, monkeypatch):
    monkeypatch.setattr(evaluation, "_SMALLEST_SLICE", 1)
    evaluated = evaluate(network_of(shop, recipe_of()), recipe_of(), shop, "validation")
    user = shop.user_rows["u059"]
    part = evaluated.record["slices"]["users with no training purchases"]
    assert part == {"users": 1, **{name: evaluated.per_unit[name][user] for name in METRICS}}


def test_slices_part_the_pairs_by_the_buyers_of_their_items(shop):
    model = network_of(shop, recipe_of())
    evaluated = evaluate(model, recipe_of(), shop, "validation")
    slices = {name: part for name, part in evaluated.record["slices"].items() if name.startswith("items")}
    wanted = shop.interactions("validation", "buy")
    buyers = np.bincount(shop.interactions("train", "buy").items, minlength=shop.item_count)[wanted.items]
    limit = int(np.median(buyers))
    assert list(slices) == [
        f"items with at most {limit} training buyers",
        f"items with more than {limit} training buyers",
    ]
    bought = shop.interactions("train", "buy")
    for part, inside in zip(slices.values(), (buyers <= limit, buyers > limit), strict=True):
        recalls = []
        for user in np.unique(wanted.users()[inside]):
            relevant = wanted.items[inside & (wanted.users() == user)]
            first = ranked(shop, model, user, bought.of(user).tolist())[:10]
            recalls.append(np.isin(relevant, first).mean())
        assert part["users"] == len(recalls)
        assert part["recall@10"] == pytest.approx(np.mean(recalls))
        assert set(part) == {"users", "recall@10", "recall@20"}


def test_validation_while_training_has_metrics_alone_and_leaves_the_mode_alone(shop):
    model = network_of(shop, recipe_of())
    whole = evaluate(model, recipe_of(), shop, "validation")
    for training in (True, False):
        model.train(training)
        quick = evaluate(model, recipe_of(), shop, "validation", with_floors=False)
        assert model.training is training
        assert quick.record == {
            "split": "validation",
            "unit": "users",
            "metrics": whole.record["metrics"],
        }
        assert list(quick.per_unit) == METRICS


def test_floors_are_ranked_once_for_several_models_on_the_same_pairs(shop, monkeypatch):
    recipe = recipe_of()
    first = evaluate(network_of(shop, recipe), recipe, shop, "test")

    def refused(*_):
        raise AssertionError("the floors were ranked again")

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "floors", refused)
        second = evaluate(network_of(shop, recipe), recipe, shop, "test")
        with pytest.raises(AssertionError, match="ranked again"):
            evaluate(network_of(shop, recipe), recipe, shop, "validation")
    other = recipe_of("auxiliary")
    masked = evaluate(network_of(shop, other), other, shop, "test")

    assert second.record["floors"] == first.record["floors"]
    assert list(second.per_unit) == list(first.per_unit)
    assert masked.record["floors"] != first.record["floors"]


def test_a_recipe_can_test_on_users_drawn_once(shop):
    recipe = BehaviorsRecipe(name="shop", tasks=("buy", "click"), ranking={"test_users": 20})
    model = network_of(shop, recipe)
    whole = evaluate(model, recipe, shop, "test")
    drawn = workload.evaluate(model, recipe, shop, "test", silent)
    ranked = ~np.isnan(drawn.per_unit["ndcg@10"])
    assert ranked.sum() == 20 < whole.record["counts"]["scored"]
    for name in ("ndcg@10", "floor/most bought/ndcg@10"):
        np.testing.assert_array_equal(drawn.per_unit[name][ranked], whole.per_unit[name][ranked])
    counts = drawn.record["counts"]
    assert counts["scored"] == 20
    assert counts["skipped (not drawn)"] == whole.record["counts"]["scored"] - 20
    assert "skipped (not drawn)" not in whole.record["counts"]
    validated = workload.evaluate(model, recipe, shop, "validation", silent)
    assert "skipped (not drawn)" not in validated.record["counts"]


def test_floors_of_as_many_users_of_another_split_are_not_taken_for_those_of_this_one(shop):
    recipe = recipe_of()
    model = network_of(shop, recipe)
    whole = evaluate(model, recipe, shop, "test")
    other = evaluate(model, recipe, shop, "validation", most_users=20)
    some = evaluate(model, recipe, shop, "test", most_users=20)
    assert some.record["counts"]["scored"] == other.record["counts"]["scored"] == 20
    for floor in FLOORS:
        name = f"floor/{floor}/recall@20"
        ranked = ~np.isnan(some.per_unit[name])
        np.testing.assert_array_equal(some.per_unit[name][ranked], whole.per_unit[name][ranked])


def test_screened_users_have_the_same_metrics(shop, monkeypatch):
    model = network_of(shop, recipe_of())
    plain = evaluate(model, recipe_of(), shop, "test", with_floors=False)
    monkeypatch.setattr(scoring, "_FEW_ITEMS", 0)
    monkeypatch.setattr(scoring, "bf16_is_fast", lambda device: True)
    screened = evaluate(model, recipe_of(), shop, "test", with_floors=False)
    assert screened.record == plain.record


def test_a_split_without_pairs_has_no_values(shop, monkeypatch):
    nobody = shop.interactions("test", "buy")
    empty = type(nobody)(np.zeros_like(nobody.offsets), nobody.items[:0])
    monkeypatch.setitem(shop._opened, ("test", "buy"), empty)
    record = evaluate(network_of(shop, recipe_of()), recipe_of(), shop, "test").record
    assert record["metrics"] == dict.fromkeys(METRICS)
    assert record["intervals"] == record["slices"] == {}
    assert record["counts"]["scored"] == 0


def test_an_unknown_split_or_a_network_that_diverged_is_one_sentence(shop):
    model = network_of(shop, recipe_of())
    with pytest.raises(UsageError, match=r"no split is called 'tset' \(did you mean 'test'\?\)"):
        evaluate(model, recipe_of(), shop, "tset")
    with torch.no_grad():
        model.tower("buy")[0].bias.fill_(torch.inf)
    with pytest.raises(CounterpointError, match="check that training did not diverge before ranking with it"):
        evaluate(model, recipe_of(), shop, "test")


def test_masks_leave_validation_pairs_in_while_validating(shop):
    masked = masked_pairs(recipe_of("validation"), shop, "validation")
    assert len(masked) == len(shop.interactions("train", "buy"))
    masked = masked_pairs(recipe_of("validation"), shop, "test")
    assert len(masked) == len(shop.interactions("train", "buy")) + len(shop.interactions("validation", "buy"))


def test_the_optimum_of_simulated_data_stands_among_the_floors_and_above_them(tmp_path):
    simulate(tmp_path / "shop", users=1_500, items=400, seed=5)
    recipe = BehaviorsRecipe(name="shop", data={"least_bought": 1, "least_buyers": 1})
    store = prepare(find(tmp_path / "shop"), tmp_path / "store", recipe, Preparation())
    if not (store.path / "truth").is_dir():
        copy_truth(tmp_path / "shop", store.path)
    record = evaluate(network_of(store, recipe), recipe, store, "test").record
    assert list(record["floors"]) == [*FLOORS, OPTIMUM]
    best = record["floors"][OPTIMUM]["ndcg@10"]
    assert all(record["floors"][name]["ndcg@10"] < best for name in FLOORS)
    assert record["floors"]["random"]["recall@20"] == pytest.approx(20 / store.item_count, abs=0.02)
