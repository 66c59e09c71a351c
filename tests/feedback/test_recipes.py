"""Every built-in recipe of the workload trains, and does what its name says."""

import subprocess
import sys

import pytest

import counterpoint
from counterpoint import balance
from counterpoint.api import read_recipe
from counterpoint.balance import PCGradPlus
from counterpoint.errors import UsageError
from counterpoint.feedback.models.building import network
from counterpoint.runs.ablation import read_ablation
from counterpoint.runs.recipe import builtin_names
from small_feedback import SETTINGS as SMALL

NAMES = builtin_names("feedback")
ABLATIONS = ("gradcraft", "gradcraft-parts", "gradcraft-tau", "gradcraft-epsilon", "gradcraft-tasks")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_and_is_evaluated(name, store, tmp_path):
    run = counterpoint.train(
        name, data=store.path, out=tmp_path / "run", settings=[*SMALL, "training.epochs=1"]
    )
    assert run.done
    assert run.facts["target"] == "effective_view"
    assert run.facts["separate"] == (name == "feedback-single")
    result = counterpoint.evaluate(run.path)
    assert 0 < result["metrics"]["gauc"] < 1
    assert len([metric for metric in result["metrics"] if metric.endswith("/auc")]) == 4


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_differs_from_feedback_equal_in_what_its_summary_says(name):
    base, own = (read_recipe(each).model_dump() for each in ("feedback-equal", name))
    differ = {
        "gradcraft": {"balance", "tune"},
        "gradcraft-as-released": {"balance", "tune", "network"},
        "feedback-single": {"balance", "separate"},
        "feedback-equal": set(),
    }[name]
    assert {key for key in base if base[key] != own[key]} - {"name", "summary"} == differ


def test_all_train_as_paper_5_does():
    # Bai et al., KDD 2024, 4.1.1 and 4.1.4: 8 : 1 : 1, a 10-core, Adam, 10 epochs of patience.
    recipe = read_recipe("feedback-equal")
    assert (recipe.training.optimizer, recipe.training.patience) == ("adam", 10)
    assert (recipe.data.core, recipe.data.test_share, recipe.data.validation_share) == (10, 0.1, 0.1)
    assert recipe.training.batch_size in recipe.tune["training.batch_size"]
    assert recipe.training.learning_rate in recipe.tune["training.learning_rate"]
    assert recipe.training.clip_norm == float("inf")
    assert recipe.training.warmup == 0


def made(row):
    """The balancer of an ablation's row."""
    recipe = read_recipe(row.recipe, row.settings)
    return balance.make(recipe.balance.method, **recipe.balance.options)


def test_gradcrafts_parts_are_those_of_table_3():
    rows = {row.label.removeprefix("gradcraft-"): made(row) for row in read_ablation("gradcraft-parts").rows}
    own = read_recipe("gradcraft").balance.options
    assert (rows["as-released"].tau, rows["as-released"].epsilon) == (own["tau"], own["epsilon"])
    assert (rows["fix-epsilon"].tau, rows["fix-epsilon"].epsilon) == (own["tau"], 0)
    assert (rows["fix-tau"].tau, rows["fix-tau"].epsilon) == (1, own["epsilon"])
    assert (rows["ori"].tau, rows["ori"].epsilon) == (0, own["epsilon"])
    # What is left of GradCraft without its projection is PCGrad+.
    assert isinstance(rows["local"], PCGradPlus)
    assert rows["local"].tau == own["tau"]


def test_table_2_sets_gradcraft_against_ten_other_methods():
    rows = read_ablation("gradcraft").rows
    recipes = {row.label: read_recipe(row.recipe, row.settings) for row in rows}
    assert len({type(made(row)) for row in rows}) == len(rows) == 10
    for label, recipe in recipes.items():
        assert recipe.balance.method == label.removeprefix("feedback-").replace("-", "_")
        assert recipe.training == read_recipe("feedback-single").training
        assert recipe.network == read_recipe("feedback-single").network
    # PCGrad+ is GradCraft's magnitudes with PCGrad behind (4.1.2), so both have one tau; losses are averaged.
    balances = {label: recipe.balance.options for label, recipe in recipes.items()}
    assert balances["feedback-pcgrad-plus"]["tau"] == balances["gradcraft"]["tau"]
    assert balances["feedback-pcgrad"]["reduction"] == "mean"


def test_as_released_balances_all_parameters_and_the_paper_those_that_are_shared(store):
    shared = {}
    for name in ("gradcraft", "gradcraft-as-released"):
        model = network(store.schema, read_recipe(name, SMALL).network)
        own = sum(parameter.numel() for parameter in model.shared_parameters())
        shared[name] = own / sum(parameter.numel() for parameter in model.parameters())
    assert shared["gradcraft"] < 1 == shared["gradcraft-as-released"]


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_row_of_an_ablation_resolves(name):
    ablation = read_ablation(name)
    for recipe in ablation.recipes:
        read_recipe(recipe, ablation.settings)
    for row in ablation.rows:
        made(row)
    labels = [*ablation.recipes, *(row.label for row in ablation.rows)]
    assert ablation.baseline is None or ablation.baseline in labels


def test_figure_4_has_the_same_tasks_for_each_method():
    rows = read_ablation("gradcraft-tasks").rows
    tasks = [read_recipe(row.recipe, row.settings).tasks for row in rows]
    assert [len(each) for each in tasks] == [2] * 3 + [4] * 3 + [6] * 3
    assert all(len(set(tasks[first : first + 3])) == 1 for first in (0, 3, 6))
    assert [type(made(row)).__name__ for row in rows] == ["Equal", "PCGradPlus", "GradCraft"] * 3


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("tasks=['like','like']", "tasks must name each label once"),
        ("labels.like='liked >'", "labels.like: the rule 'liked >' does not parse"),
        ("labels={'a/b'='x == 1'}", r"has one of / \| \+ in it"),
        ("data.validation_share=0.95", "must leave something to train on"),
        ("data.cor=3", "unknown key 'data.cor' .did you mean 'core'"),
        ("columns.ids=['a','a']", "columns.ids names a column twice"),
    ],
)
def test_wrong_settings_are_told(setting, told):
    with pytest.raises(UsageError, match=told):
        read_recipe("gradcraft", [setting])


def test_recipes_are_read_without_what_trains():
    code = (
        "import sys, counterpoint.feedback.recipe; "
        "counterpoint.feedback.recipe.FeedbackRecipe(name='a', tasks=('like',)); "
        "print(sorted({'torch', 'polars', 'numpy', 'rich'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_task_must_be_one_of_the_recipes_labels():
    with pytest.raises(UsageError, match="tasks has 'share', which is none of the labels"):
        read_recipe("gradcraft", ["labels.like='liked == 1'", "tasks=['share']"])
