"""Every built-in recipe of the workload trains, and does what its name says."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import counterpoint
from counterpoint import balance
from counterpoint.api import read_recipe
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.errors import UsageError
from counterpoint.runs.ablation import ablation_names, read_ablation
from counterpoint.runs.folder import Run
from counterpoint.runs.recipe import builtin_names
from counterpoint.simulation.shop.log import simulate

NAMES = builtin_names("behaviors")
SMALL = [
    "training.epochs=1",
    "training.batch_size=1024",
    "network.size=8",
    "network.mlp=[8]",
    "network.towers=[8]",
    "data.least_bought=3",
    "data.least_buyers=3",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    simulate(folder / "log", users=120, items=100, seed=1)
    return counterpoint.prepare(
        folder / "log", recipe="metabalance", settings=SMALL, out=folder / "store"
    ).path


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_and_is_evaluated(name, store, tmp_path):
    run = counterpoint.train(name, data=store, out=tmp_path / "run", settings=SMALL)
    assert run.done
    assert run.facts["target"] == "buy"
    result = counterpoint.evaluate(run.path)
    assert 0 < result["metrics"]["recall@20"] <= 1
    kept = tomllib.loads((Path(run.path) / "recipe.toml").read_text(encoding="utf-8"))
    assert kept["balance"]["method"] == read_recipe(name).balance.method


@pytest.mark.parametrize("name", NAMES)
def test_recipes_differ_in_how_they_balance_and_in_nothing_else(name):
    one, other = (read_recipe(each).model_dump() for each in ("behaviors-vanilla", name))
    differing = {key for key in one if one[key] != other[key]}
    assert differing <= {"name", "summary", "balance", "tune"}
    assert ("balance" in differing) == (name != "behaviors-vanilla")


def test_the_network_is_paper_4s(store):
    """Section 4.1.3: 64 numbers a user and item beside an MLP of 32, 16 and 8, towers of 64 and 32."""
    recipe = read_recipe("behaviors-vanilla")
    model = BehaviorsNetwork(10, 20, recipe.tasks, recipe.network)
    shapes = Counter(tuple(each.shape) for each in model.parameters() if each.ndim == 2)
    tables, mlp, tower = (
        [(10, 64), (20, 64)] * 2,
        [(32, 128), (16, 32), (8, 16)],
        [(64, 72), (32, 64), (1, 32)],
    )
    assert shapes == Counter([*tables, *mlp, *(tower * 4)])
    assert recipe.tasks == ("buy", "click", "cart", "favourite")


@pytest.mark.parametrize(("setting", "said"), [
    ("network.mlp=[8, -4]", "network.mlp.1: Input should be greater than 0 (got -4)"),
    ("network.mlp=[0]", "network.mlp.0: Input should be greater than 0 (got 0)"),
    ("network.towers=[0, 8]", "network.towers.0: Input should be greater than 0 (got 0)"),
])  # fmt: skip
def test_a_layer_without_width_is_refused(setting, said):
    with pytest.raises(UsageError) as error:
        read_recipe("metabalance", [setting])
    assert str(error.value) == f"recipe metabalance: {said}; correct it."


def test_a_behaviour_goes_by_one_name():
    with pytest.raises(UsageError) as error:
        read_recipe("metabalance", ['tasks=["buy", "view", "favorite"]'])
    assert str(error.value) == (
        "recipe metabalance: tasks must name 'click', as which rows of 'view' are read; correct it."
    )


def made(row):
    """The balancer of an ablation's row."""
    recipe = read_recipe(row.recipe, row.settings)
    return balance.make(recipe.balance.method, **recipe.balance.options)


@pytest.mark.parametrize("name", [name for name in ablation_names() if name.startswith("metabalance")])
def test_every_row_of_an_ablation_resolves(name):
    ablation = read_ablation(name)
    for recipe in ablation.recipes:
        read_recipe(recipe, ablation.settings)
    for row in ablation.rows:
        recipe = read_recipe(row.recipe, [*ablation.settings, *row.settings])
        assert recipe.sampling == read_recipe("behaviors-vanilla").sampling


@pytest.mark.parametrize("name", ["metabalance", "metabalance-ijcai15", "metabalance-userbehavior"])
def test_table_2_sets_metabalance_against_eleven_other_methods(name):
    rows = {row.label: row for row in read_ablation(name).rows}
    assert len({type(made(row)) for row in rows.values()}) == len(rows) == 12
    methods = {"behaviors-vanilla": "equal", "behaviors-weights": "fixed"}
    for label, row in rows.items():
        method = methods.get(label, label.removeprefix("behaviors-").replace("-", "_"))
        assert read_recipe(row.recipe, row.settings).balance.method == method
    # Paper 4, appendix A.2: hyper-parameters by data set.
    published = {"metabalance-userbehavior": (0, 10, 1)}.get(name, (0.75, 5, 0.1))
    gradnorm, dwa, ol_aux = (made(rows[f"behaviors-{each}"]) for each in ("gradnorm", "dwa", "ol-aux"))
    assert (gradnorm.alpha, dwa.window, ol_aux.beta) == published


def test_the_variants_of_metabalance():
    tables = (read_ablation(f"metabalance-{name}") for name in ("strategies", "moving-average"))
    balancers = {row.label: made(row) for table in tables for row in table.rows}
    del balancers["behaviors-vanilla"]
    assert {label: (one.strategy, one.relax, one.beta) for label, one in balancers.items()} == {
        "metabalance-a": ("A", 0.7, 0.9),
        "metabalance-b": ("B", 0.7, 0.9),
        "metabalance": ("C", 0.7, 0.9),
        "metabalance-without-moving-average": ("C", 0.7, 0.0),
    }
    assert all(balancer.granularity == "tensor" for balancer in balancers.values())


def test_directions_come_after_magnitudes():
    rows = read_ablation("metabalance-directions").rows
    seconds = [type(balance.make(method)) for method in ("grad_similarity", "grad_surgery", "ol_aux")]
    assert [type(made(row).second) for row in rows] == seconds
    assert all(repr(made(row).first) == repr(balance.make("metabalance")) for row in rows)


def test_single_loss_moves_shared_parameters_by_purchases_alone(store, tmp_path):
    """The pairs are those of all behaviours; the other towers learn, but nothing below them."""
    single = counterpoint.train(
        "behaviors-vanilla", data=store, out=tmp_path / "single", settings=[*SMALL, "balance.method=single"]
    )
    alone = counterpoint.train(
        "behaviors-weights",
        data=store,
        out=tmp_path / "weights",
        settings=[*SMALL, "balance.weights={buy = 1.0, click = 0.0, cart = 0.0, favourite = 0.0}"],
    )
    models = [counterpoint.load(run.path)._model for run in (single, alone)]
    for first, second in zip(*(model.shared_parameters() for model in models), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    assert Run.open(single.path).facts["training examples"] == Run.open(alone.path).facts["training examples"]


def test_fixed_weights_have_ranges_to_search():
    recipe = read_recipe("behaviors-weights")
    assert set(recipe.tune) == {f"balance.weights.{task}" for task in ("click", "cart", "favourite")}
    assert set(read_recipe("metabalance").tune) == {"balance.relax"}
    assert not read_recipe("behaviors-vanilla").tune


def test_a_batch_in_shares_takes_the_same_steps(store, tmp_path):
    """Negatives are drawn for the whole batch, so shares of it hold the same pairs."""
    settings = [*SMALL, "network.dropout=0"]
    weights = []
    for shares in (1, 4):
        out = tmp_path / str(shares)
        run = counterpoint.train(
            "metabalance", data=store, out=out, settings=[*settings, f"training.accumulate={shares}"]
        )
        weights.append(load_file(run.model / "model.safetensors"))
    for name, whole in weights[0].items():
        torch.testing.assert_close(weights[1][name], whole, rtol=1e-3, atol=1e-5)
