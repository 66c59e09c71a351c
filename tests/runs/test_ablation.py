import json

import pytest
import tomli_w

from counterpoint.errors import UsageError
from counterpoint.runs.ablation import Sweep, ablation_names, read_ablation, written
from counterpoint.runs.recipe import override


@pytest.fixture
def ablation(tmp_path):
    def read(**given):
        (tmp_path / "mine.toml").write_text(tomli_w.dumps({"title": "T", **given}))
        return read_ablation(tmp_path / "mine.toml")

    return read


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("balance.relax=0.0,0.5,1.0", "balance.relax", [0.0, 0.5, 1.0]),
        ("training.epochs = 1, 20", "training.epochs", [1, 20]),
        ("training.learning_rate=1e-5,1e-3", "training.learning_rate", [1e-5, 1e-3]),
        ("training.optimizer=adam,rmsprop", "training.optimizer", ["adam", "rmsprop"]),
        ('data.split="random","last"', "data.split", ["random", "last"]),
        ("x.y=true,false", "x.y", [True, False]),
        ('tasks=["buy"],["buy","click"]', "tasks", [["buy"], ["buy", "click"]]),
        ("x.y=adam,2,0.5", "x.y", ["adam", 2, 0.5]),
    ],
)
def test_a_sweep_is_read_as_toml_where_it_is(text, key, values):
    sweep = Sweep.of(text)
    assert (sweep.key, list(sweep.values)) == (key, values)
    assert list(map(type, sweep.values)) == list(map(type, values))


@pytest.mark.parametrize(
    "text",
    ["balance.relax", "balance.relax=", "balance.relax=0.1", "=0.1,0.2", "a b=1,2", "x=1,inf", "x={a=1},2"],
)
def test_a_sweep_that_is_none_is_one_sentence(text):
    with pytest.raises(UsageError) as caught:
        Sweep.of(text)
    assert str(caught.value) == (
        f"--sweep {text}: write it as key=value,value with two values or more, "
        "for example balance.relax=0.0,0.5,1.0."
    )


@pytest.mark.parametrize("value", [0.1, 1e-7, 1e20, 3, True, 'a "b" = ü', ["a", "b"], [0.5, 2]])
def test_the_setting_of_a_value_gives_that_value_to_a_recipe(value):
    sweep = Sweep(key="balance.x", values=(value, 0))
    given = override({}, [sweep.setting(value)])["balance"]["x"]
    assert (given, type(given)) == (value, type(value))


def test_values_are_written_without_quotes():
    assert [written(each) for each in (0.0, 1, True, "adam", ["a", 1])] == [
        "0.0",
        "1",
        "true",
        "adam",
        '["a", 1]',
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipes": ["a"]}, "name two recipes or rows, or one recipe and a sweep"),
        (
            {"recipes": ["a", "b"], "sweep": {"key": "k", "values": [1, 2]}},
            "a sweep needs exactly one recipe and no rows",
        ),
        (
            {"rows": [{"label": "x", "recipe": "a"}], "sweep": {"key": "k", "values": [1, 2]}},
            "a sweep needs exactly one recipe and no rows",
        ),
        ({"recipes": ["a"], "sweep": {"key": "k", "values": [1]}}, r"sweep\.values: .*at least 2 items"),
        ({"recipes": ["a"], "rows": [{"label": "", "recipe": "a"}]}, r"rows\.0\.label: "),
        (
            {"recipes": ["a", "b"], "figures": [{"title": "F", "draws": "sweep"}]},
            "a figure draws a sweep, but there is none",
        ),
    ],
)
def test_a_wrong_ablation_is_one_sentence(ablation, given, message):
    with pytest.raises(UsageError, match=rf"^ablation .*mine\.toml: {message}.*; correct it\.$") as caught:
        ablation(**given)
    assert "\n" not in str(caught.value)


def test_recipes_and_rows_make_a_comparison_together(ablation):
    row = {"label": "with RMSProp", "recipe": "a", "settings": ["training.optimizer=rmsprop"]}
    read = ablation(recipes=["a"], rows=[row])
    assert (read.baseline, read.rows[0].settings) == (None, ("training.optimizer=rmsprop",))


@pytest.mark.parametrize("name", ablation_names())
def test_every_built_in_ablation_can_be_read(name):
    read = read_ablation(name)
    labels = [*read.recipes, *(row.label for row in read.rows)]
    assert len(set(labels)) == len(labels)
    assert read.baseline is None or read.baseline in labels
    for figure in read.figures:
        assert set(figure.recipes) <= set(labels)


def test_the_relax_factor_is_swept_as_in_figure_3():
    sweep = read_ablation("metabalance-relax").sweep
    assert list(sweep.values) == [tenths / 10 for tenths in range(11)]
    assert [json.loads(sweep.setting(value).partition("=")[2]) for value in sweep.values] == list(
        sweep.values
    )


def test_table_2_has_the_twelve_methods():
    assert len(read_ablation("metabalance").rows) == 12
