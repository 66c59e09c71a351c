import numpy as np
import pytest

from counterpoint.reporting import training_figures as lines
from counterpoint.reporting.series import averaged
from counterpoint.reporting.training_figures import by_layer
from counterpoint.runs.records import Group, RunRecord, Series


def series(values, steps=None):
    values = np.asarray(values, dtype=np.float64)
    return Series(np.arange(1, len(values) + 1) if steps is None else np.asarray(steps), values)


@pytest.fixture
def make_run(tmp_path):
    def make(name="mtrec", losses=None, balance=None, seed=0, target="click"):
        training = {"losses": losses} if losses else {}
        facts = {"seed": seed, "target": target}
        return RunRecord(tmp_path, name, "", {}, facts, training, balance or {}, {})

    return make


@pytest.fixture
def drawn(monkeypatch):
    """What is given to the charts: title, lines and options of each."""
    seen = []

    def curves(title, given, **options):
        seen.append((title, given, options))

    monkeypatch.setattr(lines, "curves", curves)
    return seen


def test_the_mean_of_series_is_at_the_steps_that_all_have():
    mean = averaged([series([1, 2, 3, 4]), series([5, 9, 7], [2, 3, 6]), series([0, 1, 2], [1, 2, 3])])
    assert mean.steps.tolist() == [2, 3]
    assert mean.values.tolist() == pytest.approx([(2 + 5 + 1) / 3, (3 + 9 + 2) / 3])
    assert averaged([series([1], [1]), series([1], [2])]) is None
    assert averaged([series([1, 2])]).values.tolist() == [1, 2]


def test_the_targets_loss_of_several_recipes_is_one_chart_with_a_line_each(make_run, drawn):
    groups = [
        Group(
            "a",
            [make_run(losses={"click": series([4, 2]), "b": series([9, 9])}, seed=seed) for seed in (0, 1)],
        ),
        Group("b", [make_run(losses={"click": series([3 + seed, 1])}, seed=seed) for seed in range(3)]),
        Group("c", [make_run(losses={"click": series([5, 5])})]),
        Group("d", [make_run()]),
    ]
    lines.target_losses(groups)
    ((title, given, options),) = drawn
    assert title == "click, moving mean, mean over seeds"
    assert [(name, line.values.tolist()) for name, line in given] == [
        ("a", [4, 2]),
        ("b", [4, 1]),
        ("c", [5, 5]),
    ]
    assert options == {"noisy": True}


def test_of_one_recipe_every_seed_has_its_line(make_run, drawn):
    group = Group("a", [make_run(losses={"click": series([seed, 1])}, seed=seed) for seed in (1, 2)])
    lines.target_losses([group])
    lines.losses([group])
    for title, given, _ in drawn:
        assert title in ("click", "click, moving mean")
        assert [(name, line.values.tolist()) for name, line in given] == [("a", [1, 1]), ("a", [2, 1])]


def test_losses_of_several_recipes_are_means_over_the_seeds(make_run, drawn):
    groups = [
        Group(
            "a",
            [
                make_run(losses={"click": series([seed]), "b": series([2 * seed])}, seed=seed)
                for seed in (1, 3)
            ],
        ),
        Group("b", [make_run(losses={"click": series([7])})]),
    ]
    lines.losses(groups)
    charts = {title: [(name, line.values.tolist()) for name, line in given] for title, given, _ in drawn}
    assert charts == {
        "click, mean over seeds": [("a", [2]), ("b", [7])],
        "b, mean over seeds": [("a", [4])],
    }


def test_seeds_without_a_common_step_stay_apart(make_run, drawn):
    runs = [make_run(losses={"click": series([1], [step])}) for step in (1, 2)]
    lines.losses([Group("a", runs), Group("b", [make_run(losses={"click": series([3])})])])
    assert [name for name, _ in drawn[0][1]] == ["a", "a", "b"]


def test_a_target_without_losses_draws_nothing(make_run):
    assert lines.target_losses([Group("a", [make_run()])]) == []


def test_few_layers_stay_as_they_are():
    norms = {
        f"{layer}|{task}": series([1, 2]) for layer in ("table", "mlp.0", "mlp.3") for task in ("a", "b")
    }
    found = by_layer(norms)
    assert list(found) == ["table", "mlp.0", "mlp.3"]
    assert all(list(tasks) == ["a", "b"] for tasks in found.values())
    assert found["mlp.3"]["b"] is norms["mlp.3|b"]


def encoder(layers, parts=("attention.query", "attention.key", "output")):
    names = [f"encoder.layers.{number}.{part}" for number in range(layers) for part in parts]
    return {f"{name}|{task}": series([3.0, 1.0]) for name in ["words", *names] for task in ("a", "b")}


def test_many_layers_are_summed_up_by_the_beginning_of_their_names():
    found = by_layer(encoder(6))
    assert list(found) == ["words", *(f"encoder.layers.{number}" for number in range(6))]
    # Three gradients of norm 3 side by side have the norm √27.
    assert found["encoder.layers.3"]["b"].values.tolist() == pytest.approx([27**0.5, 3**0.5])
    assert found["words"]["b"].values.tolist() == [3.0, 1.0]


def test_no_more_is_summed_up_than_needed():
    assert len(by_layer(encoder(4))) == 9  # cut after four parts: attention and output of every layer
    assert list(by_layer(encoder(4), most=13))[1] == "encoder.layers.0.attention.query"
    assert list(by_layer(encoder(11))) == ["words", *(f"encoder.layers.{number}" for number in range(11))]
    assert list(by_layer(encoder(12))) == ["words", "encoder.layers"]
    assert list(by_layer(encoder(12), most=1)) == ["all layers"]


def test_a_sum_of_layers_is_of_the_steps_that_all_have():
    norms = {"m.a|t": series([3, 3, 3]), "m.b|t": series([4, 4], [1, 3]), "n|t": series([1], [2])}
    found = by_layer(norms, most=2)
    assert (found["m"]["t"].steps.tolist(), found["m"]["t"].values.tolist()) == (
        [1, 3],
        pytest.approx([5, 5]),
    )
    assert list(by_layer(norms, most=1)) == []  # no step has all three


def test_a_layer_has_a_chart_with_a_line_for_each_task(make_run, drawn):
    norms = {"mlp|click": series([1, 1]), "mlp|buy": series([2, 2]), "table|click": series([0, 0])}
    lines.layers(make_run(balance={"layer_norms": norms}))
    ((title, given, options),) = drawn  # none for a layer that no task reaches
    assert (title, [name for name, _ in given]) == ("mlp", ["click", "buy"])
    assert options == {"logarithmic": True}


def test_a_chart_is_named_without_the_modules_that_all_layers_are_in(make_run, drawn):
    names = ("articles.model.words", "articles.model.layers.0", "articles.model.layers.1")
    lines.layers(make_run(balance={"layer_norms": {f"{name}|click": series([1]) for name in names}}))
    assert [title for title, _, _ in drawn] == ["words", "layers.0", "layers.1"]
    drawn.clear()
    lines.layers(make_run(balance={"layer_norms": {"articles.model.words|click": series([1])}}))
    assert [title for title, _, _ in drawn] == ["articles.model.words"]


def test_layers_are_drawn_as_merged_where_that_is_something_else(make_run, drawn):
    norms = {"mlp|click": series([1, 1]), "mlp|buy": series([2, 2])}
    merged = {"mlp|click": series([1, 1]), "mlp|buy": series([1, 1])}
    lines.layers(make_run(balance={"layer_norms": norms, "merged_layer_norms": dict(norms)}))
    assert [title for title, _, _ in drawn] == ["mlp"]
    drawn.clear()
    lines.layers(make_run(balance={"layer_norms": norms, "merged_layer_norms": merged}))
    assert [title for title, _, _ in drawn] == ["mlp", "mlp, as merged"]
    assert [line.values.tolist() for _, line in drawn[1][1]] == [[1, 1], [1, 1]]


def test_without_norms_by_layer_nothing_is_drawn(make_run):
    assert lines.layers(make_run()) == []
