"""The seven iterations of paper 3, one change each, and tasks of one's own."""

import tomllib

import pytest
import torch
from safetensors.torch import load_file

import counterpoint
from counterpoint import balance
from counterpoint.api import read_recipe
from counterpoint.errors import UsageError
from counterpoint.runs.recipe import builtin_names, to_toml
from counterpoint.sentences.recipe import BUILT_IN

CHANGES = [
    ("minbert-baseline", "minbert-dropout", {"task.paraphrase.dropout", "task.similarity.dropout"}),
    ("minbert-dropout", "minbert-cosine", {"task.similarity.pair"}),
    ("minbert-cosine", "minbert-round-robin", {"sampling.tasks"}),
    ("minbert-round-robin", "minbert-surgery", {"balance.method"}),
    ("minbert-surgery", "minbert-balanced", {"sampling.order"}),
    ("minbert-balanced", "minbert-final", {"task.similarity.pair"}),
    ("minbert-final", "sentences-cross", {"task.paraphrase.pair", "task.similarity.pair"}),
]


def flat(table, prefix=""):
    found = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize(("before", "after", "changed"), CHANGES, ids=[after for _, after, _ in CHANGES])
def test_each_iteration_has_one_change(before, after, changed):
    one, other = (flat(tomllib.loads(to_toml(read_recipe(name)))) for name in (before, after))
    differing = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    apart = {"name", "summary", "tune.training.learning_rate", "tune.heads.dropout"}
    assert {key for key in differing if not key.startswith("tune")} - apart == changed


def test_the_iterations_are_what_the_paper_says():
    baseline, final = read_recipe("minbert-baseline"), read_recipe("minbert-final")
    assert baseline.trained == ("sentiment",)
    assert [baseline.task[name].dropout for name in baseline.tasks] == [True, False, False]
    assert baseline.task["similarity"].pair == "concatenation"
    assert read_recipe("minbert-round-robin").trained == ("sentiment", "paraphrase", "similarity")
    assert read_recipe("minbert-round-robin").sampling.order == "unbalanced"
    assert (final.balance.method, final.sampling.order) == ("pcgrad", "balanced")
    assert final.task["similarity"].pair == "relu_cosine"
    assert final.heads.dropout == 0.3
    assert final.tune == {"training.learning_rate": [1e-4, 1e-5, 1e-6], "heads.dropout": [0.2, 0.3, 0.4]}
    assert set(builtin_names("sentences")) == {name for change in CHANGES for name in change[:2]}
    for name in builtin_names("sentences"):
        balance.make(read_recipe(name).balance.method)


OWN = """
name = "mine"
workload = "sentences"
tasks = ["tone", "entails"]

[task.tone]
texts = ["text"]
label = "tone"
classes = 3

[task.entails]
texts = ["premise", "hypothesis"]
label = "score"
scores = [-1.0, 1.0]
pair = "difference"
"""


def test_tasks_of_ones_own_are_described_in_the_recipe(tmp_path):
    (tmp_path / "mine.toml").write_text(OWN)
    mine = read_recipe(tmp_path / "mine.toml", ["task.entails.pair=joint", "task.tone.train=a/tone*"])
    assert mine.tasks == mine.trained == ("tone", "entails")
    assert (mine.task["tone"].train, mine.task["tone"].test) == ("a/tone*", "tone-test*")
    assert (mine.task["entails"].pair, mine.task["entails"].column) == ("joint", "Predicted_entails")
    assert set(mine.task) == {"tone", "entails"}


def test_built_in_tasks_can_be_mixed_with_others(tmp_path):
    (tmp_path / "mine.toml").write_text(OWN.replace('["tone", "entails"]', '["tone", "cfimdb"]'))
    mine = read_recipe(tmp_path / "mine.toml")
    assert mine.task["cfimdb"].model_dump(include={"classes", "label"}) == {
        "classes": 2,
        "label": "sentiment",
    }
    assert mine.task["cfimdb"].train == BUILT_IN["cfimdb"]["train"]


def test_tables_have_one_order_whichever_task_is_the_target(tmp_path):
    (tmp_path / "mine.toml").write_text(OWN)
    for recipe, first, other, order in (
        ("minbert-final", "sentiment", "similarity", ("sentiment", "paraphrase", "similarity")),
        (tmp_path / "mine.toml", "tone", "entails", ("tone", "entails")),
        (tmp_path / "mine.toml", "tone", "paraphrase", ("paraphrase", "tone", "entails")),
    ):
        for target in (first, other):
            names = [target, *sorted(set(order) - {target})]
            read = read_recipe(recipe, [f"tasks={names}".replace("'", '"')])
            assert (read.tasks[0], read.in_order, read.trained) == (target, order, order)
            (tmp_path / "again.toml").write_text(to_toml(read))
            assert read_recipe(tmp_path / "again.toml").in_order == order


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "task.similarity.pear=joint",
            "unknown key 'task.similarity.pear' (did you mean 'pair'?)",
        ),
        (
            "task.paraphrase.pair=cosine",
            "'cosine' answers with a score; give scores instead",
        ),
        ("task.sentiment.pair=joint", "pair = 'joint' needs two columns in texts"),
        ("task.sentiment.scores=[0, 1]", "give either classes or scores"),
        ("task.similarity.scores=[5, 0]", "scores must rise; 5.0 is not below 0.0"),
        (
            'tasks=["sentiment", "mood"]',
            "task 'mood' is not built in (sentiment, cfimdb",
        ),
        ('tasks=["sentiment", "sentiment"]', "name a target first and each task once"),
        ('sampling.tasks=["paraphrase"]', "the target 'sentiment' must be trained; add it to"),
        (
            'sampling.tasks=["sentiment", "cfimdb"]',
            "names 'cfimdb', which is none of the tasks",
        ),
        ("training.accumulate=3", "accumulate must divide batch_size; 3 of 16"),
        ('tune={"task.similarity.peer" = ["cosine"]}', "there is no key 'task.similarity.peer'"),
        ("task=3", "task"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(setting, message):
    with pytest.raises(UsageError) as caught:
        read_recipe("minbert-final", [setting])
    assert message in str(caught.value)
    assert str(caught.value).count(". ") == 0


def test_keys_of_tasks_can_be_searched():
    tuned = read_recipe("minbert-final", ['tune={"task.similarity.pair" = ["cosine", "learned_cosine"]}'])
    assert tuned.tune["task.similarity.pair"] == ["cosine", "learned_cosine"]


def test_dropout_in_heads_that_are_not_trained_changes_nothing(recipe, store, tmp_path):
    small = recipe()
    settings = [
        f"encoder.name={small.encoder.name}",
        "data.max_tokens=24",
        "training.batch_size=8",
        "training.precision=fp32",
        "training.epochs=1",
    ]
    weights = [
        load_file(
            counterpoint.train(name, data=store.path, out=tmp_path / name, settings=settings).model
            / "model.safetensors"
        )
        for name in ("minbert-baseline", "minbert-dropout")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
