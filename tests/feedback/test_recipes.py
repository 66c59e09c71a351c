"""Every built-in recipe of the workload trains, and does what its name says."""

import pytest

import counterpoint
from counterpoint import balance
from counterpoint.api import read_recipe
from counterpoint.balance import CAGrad, GradCraft, PCGradPlus
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
def test_all_train_as_paper_5_does_with_one_step_a_batch(name):
    recipe = read_recipe(name)
    training, layers = recipe.training, recipe.network
    assert (training.optimizer, training.batch_size, training.learning_rate) == ("adam", 2048, 1e-3)
    assert (training.decay, training.warmup, training.patience) == ("none", 0, 10)
    assert training.clip_norm == float("inf")
    assert (layers.architecture, layers.embedding, layers.experts) == ("ple", 16, (256, 128, 64))
    assert (layers.towers, layers.dropout, layers.initial) == ((32, 16), 0.2, "normal")
    assert (recipe.data.core, recipe.data.split) == (10, "rows")
    assert (recipe.data.validation_share, recipe.data.test_share) == (0.1, 0.1)
    assert recipe.evaluation.gauc_weight == "impressions"


@pytest.mark.parametrize("name", NAMES)
def test_the_search_is_paper_5s_grid(name):
    tune = read_recipe(name).tune
    assert tune["training.learning_rate"] == [1e-4, 5e-4, 1e-3]
    assert tune["training.batch_size"] == [2048, 4096]
    assert tune["training.weight_decay"] == [0.0, 1e-6, 1e-5, 1e-4, 1e-3]
    if name == "gradcraft":
        assert tune["balance.epsilon"] == [0.0, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7]
        ends = tune["balance.tau"]
        assert (ends.low, ends.high, ends.step) == (0.0, 1.0, 0.1)


@pytest.mark.parametrize(
    ("name", "tau", "epsilon"),
    [
        ("gradcraft", 0.1, 1e-10),
        ("gradcraft-fix-epsilon", 0.1, 0.0),
        ("gradcraft-fix-tau", 1.0, 1e-10),
        ("gradcraft-ori", 0.0, 1e-10),
        ("gradcraft-as-released", 0.1, 1e-10),
    ],
)
def test_gradcrafts_variants_are_those_of_table_3(name, tau, epsilon):
    recipe = read_recipe(name)
    balancer = balance.make(recipe.balance.method, **recipe.balance.options)
    assert isinstance(balancer, GradCraft)
    assert (balancer.tau, balancer.epsilon) == (tau, epsilon)


def test_what_is_left_of_gradcraft_without_its_projection_is_pcgrad_plus():
    recipe = read_recipe("gradcraft-local")
    assert isinstance(balance.make(recipe.balance.method, **recipe.balance.options), PCGradPlus)
    assert isinstance(balance.make(read_recipe("feedback-cagrad").balance.method), CAGrad)


def test_as_released_balances_all_parameters_and_the_paper_those_that_are_shared(store):
    shared = {}
    for name in ("gradcraft", "gradcraft-as-released"):
        model = network(store.schema, read_recipe(name, SMALL).network)
        own = sum(parameter.numel() for parameter in model.shared_parameters())
        shared[name] = own / sum(parameter.numel() for parameter in model.parameters())
    assert shared["gradcraft"] < 1 == shared["gradcraft-as-released"]


def test_the_ablations_name_recipes_that_there_are():
    for name in ABLATIONS:
        ablation = read_ablation(name)
        for recipe in (*ablation.recipes, *(row.recipe for row in ablation.rows)):
            assert recipe in NAMES
    assert len(read_ablation("gradcraft").recipes) == 12
    tasks = [read_recipe(row.recipe, row.settings).tasks for row in read_ablation("gradcraft-tasks").rows]
    assert [len(each) for each in tasks] == [2] * 3 + [4] * 3 + [6] * 3
    assert tasks[0] == ("effective_view", "like")


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


def test_a_task_must_be_one_of_the_recipes_labels():
    with pytest.raises(UsageError, match="tasks has 'share', which is none of the labels"):
        read_recipe("gradcraft", ["labels.like='liked == 1'", "tasks=['share']"])
