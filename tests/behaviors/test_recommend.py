import numpy as np
import polars as pl
import pytest
import torch

from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.behaviors.recommend import BehaviorsRecommender, Recommendation
from counterpoint.errors import UsageError
from counterpoint.workload import Preparation

LOG = """user,item,behaviour
anna,lamp,buy
anna,chair,click
anna,table,cart
anna,table,click
boris,chair,buy
boris,vase,click
carla,vase,buy
carla,table,buy
carla,rug,click
"""
RECIPE = BehaviorsRecipe(name="shop", tasks=("buy", "click", "cart"))


def store_of(folder, log, test, validation):
    folder.mkdir()
    (folder / "train.csv").write_text(log)
    (folder / "test.csv").write_text(f"user,item\n{test}\n")
    (folder / "validation.csv").write_text(f"user,item\n{validation}\n")
    return prepare(find(folder), folder / "store", RECIPE, Preparation())


def network_of(store):
    torch.manual_seed(0)
    model = BehaviorsNetwork(store.user_count, store.item_count, RECIPE.tasks, RECIPE.network)
    with torch.no_grad():
        for table in (model.mlp_users, model.mlp_items, model.gmf_users, model.gmf_items):
            table.weight.normal_()
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("recommend") / "shop", LOG, "anna,rug", "boris,rug")


@pytest.fixture(scope="module")
def model(store):
    return network_of(store)


def probability(model, store, user, item):
    with torch.no_grad():
        row, column = store.user_rows[user], store.item_rows[item]
        logits = model.eval().logits(torch.tensor([row]), torch.tensor([column]))
        return float(logits[0, 0].sigmoid())


def test_items_come_best_first_with_probabilities_and_the_behaviours_that_know_them(store, model):
    found = BehaviorsRecommender(model, RECIPE, store).recommend("anna", top=3)
    scores = {item: probability(model, store, "anna", item) for item in ("chair", "table", "vase")}
    best = sorted(scores, key=scores.get, reverse=True)
    assert [one.item for one in found] == best
    assert [one.score for one in found] == pytest.approx([scores[item] for item in best], abs=1e-6)
    known = {"chair": ("click",), "table": ("click", "cart"), "vase": ()}
    assert [one.known_by for one in found] == [known[item] for item in best]


def test_what_the_user_bought_in_any_split_is_left_out_and_more_than_there_is_is_no_error(store, model):
    recommender = BehaviorsRecommender(model, RECIPE, store)
    left = {"anna": ["chair", "table", "vase"], "boris": ["lamp", "table", "vase"]}  # rug tests, validates
    left["carla"] = ["chair", "lamp", "rug"]
    everybody = pl.concat(recommender.recommend_all(top=100))
    for user, items in left.items():
        found = recommender.recommend(user, top=100)
        assert sorted(one.item for one in found) == items
        assert not any("buy" in one.known_by for one in found)
        assert sorted(everybody.filter(pl.col("user") == user)["item"]) == items


def test_what_the_recipe_masks_is_left_out_too(store, model):
    recipe = RECIPE.model_copy(update={"ranking": RECIPE.ranking.model_copy(update={"mask": ("auxiliary",)})})
    found = BehaviorsRecommender(model, recipe, store).recommend("anna", top=100)
    assert sorted(one.item for one in found) == ["vase"]


def test_a_recommendation_is_a_readable_line():
    assert str(Recommendation("lamp", 0.12345, ("click", "cart"))) == "lamp  (0.123)  known by click, cart"
    assert str(Recommendation("lamp", 0.5, ())) == "lamp  (0.500)"


def test_an_unknown_user_is_answered_with_the_nearest_known_one(store, model):
    with pytest.raises(UsageError) as error:
        BehaviorsRecommender(model, RECIPE, store).recommend("bors")
    assert str(error.value) == (
        f"no user 'bors' in the training data of {store.path} (did you mean 'boris'?); "
        "check the id: only users of the training data have vectors."
    )


@pytest.mark.parametrize("top", [0, -1])
def test_a_top_of_nothing_is_refused(store, model, top):
    recommender = BehaviorsRecommender(model, RECIPE, store)
    for ask in (
        lambda: recommender.recommend("anna", top=top),
        lambda: list(recommender.recommend_all(top=top)),
    ):
        with pytest.raises(UsageError, match=f"top: {top} is too few; ask for at least 1 item"):
            ask()


def test_numbers_are_ids_as_numbers_and_as_text_and_have_no_nearest(tmp_path):
    names = {"anna": "7", "boris": "12", "carla": "30"}
    items = {"lamp": "1", "chair": "2", "table": "3", "vase": "4", "rug": "5"}
    log = LOG
    for name, number in {**names, **items}.items():
        log = log.replace(name, number)
    store = store_of(tmp_path / "numbers", log, "7,5", "12,5")
    recommender = BehaviorsRecommender(network_of(store), RECIPE, store)
    assert recommender.recommend(12) == recommender.recommend("12")
    assert {one.item for one in recommender.recommend(12)} == {"1", "3", "4"}
    with pytest.raises(UsageError) as error:
        recommender.recommend(13)
    assert str(error.value) == (
        f"no user '13' in the training data of {store.path}; "
        "check the id: only users of the training data have vectors."
    )
    table = pl.concat(recommender.recommend_all(top=2))
    assert table["user"].to_list() == [7, 7, 12, 12, 30, 30]
    assert table.schema["item"] == pl.Int64


def test_all_users_get_what_each_would_get_alone(store, model, monkeypatch):
    monkeypatch.setattr("counterpoint.behaviors.recommend._USERS", 2)
    recommender = BehaviorsRecommender(model, RECIPE, store)
    told = []
    blocks = list(recommender.recommend_all(top=4, progress=lambda *call: told.append(call)))
    assert told == [("recommending to users", 2, 3), ("recommending to users", 3, 3)]
    assert all(block.columns == ["user", "rank", "item", "score"] for block in blocks)
    table = pl.concat(blocks)
    for user in ("anna", "boris", "carla"):
        alone = recommender.recommend(user, top=4)
        rows = table.filter(pl.col("user") == user)
        assert rows["item"].to_list() == [one.item for one in alone]
        assert rows["rank"].to_list() == list(range(1, len(alone) + 1))
        np.testing.assert_allclose(rows["score"], [one.score for one in alone], atol=1e-6)
    assert len(table) == 3 + 3 + 3


def test_dropout_is_off_and_the_mode_of_the_network_stays(store, model):
    model.train()
    first, second = (BehaviorsRecommender(model, RECIPE, store).recommend("anna") for _ in range(2))
    assert first == second
    assert model.training
