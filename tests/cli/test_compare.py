import json
import re
import tomllib

import pytest

from counterpoint.api import read_recipe
from counterpoint.runs.ablation import ablation_names, read_ablation
from counterpoint.training.loop import _Loop
from methods import write_theirs

FILES = ("comparison.json", "comparison.md", "report.html")


@pytest.fixture(scope="session")
def site(command, tmp_path_factory):
    """A small simulated site."""
    folder = tmp_path_factory.mktemp("compared") / "site"
    simulated = command("simulate", "news", "--out", folder, "--readers", 40, "--articles", 60, "--days", 4)
    assert simulated.code == 0, simulated.err
    return folder


@pytest.fixture(scope="session")
def quick(tiny):
    return [*tiny, "--set", "training.epochs=1", "--set", "training.batch_size=32"]


@pytest.fixture(scope="session")
def compared(command, site, quick, tmp_path_factory):
    """Two recipes with two seeds; tests must not change it."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    result = command("compare", "bert", "mtrec", "--data", site, "--seeds", 2, "--out", out, *quick)
    assert result.code == 0, result.err
    return out, result


def sentence(result, code):
    assert result.code == code, result
    (line,) = [line for line in result.err.splitlines() if line.startswith("counterpoint: ")]
    assert line.endswith("."), line
    return line


def times(folder):
    """When the files of the runs were last written."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in FILES]
    return {path: path.stat().st_mtime_ns for path in files}


def test_recipes_are_trained_evaluated_and_compared(compared):
    out, _ = compared
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*FILES, "bert-seed0", "bert-seed1", "mtrec-seed0", "mtrec-seed1"]
    )
    found = json.loads((out / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert (found["baseline"], found["metric"], found["split"], found["simulated"]) == (
        "bert",
        "auc",
        "test",
        True,
    )
    for name, recipe in found["recipes"].items():
        own = [
            json.loads((out / f"{name}-seed{seed}" / "evaluation-test.json").read_text()) for seed in (0, 1)
        ]
        assert recipe["metrics"]["auc"]["values"] == [each["metrics"]["auc"] for each in own]
        assert own[0]["trained"] is True
        assert recipe["seconds"] > 0
        assert recipe["seconds_per_step"] > 0
        assert recipe["megabytes"] > 50
        assert recipe["trained"] == recipe["parameters"] > 30_000
    difference = found["recipes"]["mtrec"]["against the baseline"]["auc"]
    assert difference["low"] <= difference["mean_difference"] <= difference["high"]
    assert set(difference["over seeds"]) == {"mean_difference", "t", "p_value", "p_adjusted"}
    (payoff,) = found["does the auxiliary task pay"]
    assert (payoff["label"], payoff["against"]) == ("mtrec", "bert")
    assert 0 <= payoff["conflict_rate"] <= 1
    assert payoff["step_cost"] > 0


def test_the_three_forms_say_simulated(compared):
    out, result = compared
    assert result.out.startswith("bert, mtrec (simulated data)\n")
    assert (out / "comparison.md").read_text().startswith("# bert, mtrec (simulated data)\n")
    assert "<title>bert, mtrec (simulated data)</title>" in (out / "report.html").read_text()
    assert "A recipe has 2 seeds: train 3 or more before any claim." in result.err
    assert "Does the auxiliary task pay?" in result.out


@pytest.mark.usefixtures("undrawn")
def test_what_is_there_is_neither_trained_nor_evaluated_again(compared, command, site, quick, monkeypatch):
    out, first = compared
    before = times(out)
    monkeypatch.setattr("counterpoint.training.loop.fit", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr("counterpoint.api.evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    again = command("compare", "bert", "mtrec", "--data", site, "--seeds", 2, "--out", out, *quick)
    assert (again.code, again.out) == (0, first.out)
    assert times(out) == before


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_comparison_goes_on_where_it_stopped(command, site, quick, tmp_path, monkeypatch):
    taken, step, stop_after = [], _Loop._step, None

    def counted(loop):
        if len(taken) == stop_after:
            raise KeyboardInterrupt
        taken.append((loop.run.path.name, loop.state.step))
        step(loop)

    def compare(out):
        taken.clear()
        settings = [*quick, "--set", "training.batch_size=8", "--set", "training.checkpoint_every=2"]
        result = command("compare", "bert", "mtrec", "--data", site, "--seeds", 1, "--out", out, *settings)
        return result, taken.copy()

    monkeypatch.setattr(_Loop, "_step", counted)
    whole, expected = compare(tmp_path / "whole")
    assert whole.code == 0, whole.err
    steps = sum(name == "bert-seed0" for name, _ in expected)
    assert len(expected) > steps + 4

    out, stop_after = tmp_path / "out", steps + 3
    interrupted, before = compare(out)
    said = sentence(interrupted, 1)
    assert said == "counterpoint: interrupted; the same command goes on where it stopped."
    assert before == expected[: steps + 3]
    assert not (out / "comparison.json").exists()
    finished = times(out / "bert-seed0")

    stop_after = None
    resumed, after = compare(out)
    assert resumed.code == 0, resumed.err
    assert after == expected[steps + 2 :]  # from the checkpoint at step 2 on
    assert times(out / "bert-seed0") == finished
    weights = [folder / "mtrec-seed0" / "model" / "model.safetensors" for folder in (out, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_that_differs_is_refused_before_any_work(compared, command, site, quick):
    out, _ = compared
    before = times(out)
    arguments = ("compare", "bert", "mtrec", "--data", site, "--seeds", 3, "--out", out, *quick)
    said = sentence(command(*arguments, "--set", "training.learning_rate=0.5"), 2)
    assert (
        f"{out / 'bert-seed0'}: a run with training.learning_rate 5e-05, not 0.5; choose another --out"
        in said
    )
    assert times(out) == before


@pytest.mark.usefixtures("undrawn")
def test_a_run_older_than_a_key_of_the_recipe_has_its_default(compared, command, site, quick):
    out, _ = compared
    recipe = out / "bert-seed0" / "recipe.toml"
    kept = recipe.read_text()
    recipe.write_text(kept.replace('decay = "linear"\n', ""))
    assert recipe.read_text() != kept
    said = command("compare", "bert", "mtrec", "--data", site, "--seeds", 2, "--out", out, *quick)
    recipe.write_text(kept)
    assert said.code == 0, said.err


def test_other_data_is_refused(compared, command, small_mind, quick):
    out, _ = compared
    said = sentence(command("compare", "bert", "mtrec", "--data", small_mind, "--out", out, *quick), 2)
    assert f"{out / 'bert-seed0'}: a run with data whose " in said
    assert "choose another --out, or remove that folder" in said


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_methods_are_tried_on_one_recipe(command, site, quick, tmp_path):
    out = tmp_path / "out"
    arguments = ("compare", "mtrec", "--balancer", "equal,pcgrad", "--baseline", "bert", "--seeds", 1)
    result = command(*arguments, "--data", site, "--out", out, *quick)
    assert result.code == 0, result.err
    found = json.loads((out / "comparison.json").read_text())
    assert list(found["recipes"]) == ["bert", "mtrec@equal", "mtrec@pcgrad"]
    assert found["baseline"] == "bert"
    recipe = (out / "mtrec-pcgrad-seed0" / "recipe.toml").read_text()
    assert 'name = "mtrec@pcgrad"' in recipe
    assert re.search(r'\[balance\]\nmethod = "pcgrad"\n\n', recipe)
    # Three recipes: adjusted for being several.
    assert found["recipes"]["mtrec@equal"]["against the baseline"]["auc"]["p_adjusted"] is not None
    rates = {each["label"]: each["conflict_rate"] for each in found["does the auxiliary task pay"]}
    assert rates["mtrec@equal"] is None
    assert rates["mtrec@pcgrad"] is not None


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_method_of_somebody_else_s_is_tried_by_its_path(command, site, quick, tmp_path, monkeypatch):
    write_theirs(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    out, tried = tmp_path / "out", ("compare", "mtrec", "--seeds", 1, "--data", site)
    result = command(*tried, "--balancer", "equal,theirs.unit:Unit", "--out", out, *quick)
    assert result.code == 0, result.err
    found = json.loads((out / "comparison.json").read_text())
    assert list(found["recipes"]) == ["mtrec@equal", "mtrec@theirs.unit:Unit"]
    recipe = (out / "mtrec-theirs.unit-Unit-seed0" / "recipe.toml").read_text()
    assert 'method = "theirs.unit:Unit"' in recipe
    result = command(*tried, "--balancer", "equal,theirs.units:Unit", "--out", tmp_path / "none", *quick)
    assert "balance: The method 'theirs.units:Unit' is to be in a module 'theirs.units'" in sentence(
        result, 2
    )


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_ablation_of_one_s_own_is_one_file(command, site, quick, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'title = "Mine"\nsource = "nowhere"\nbaseline = "bert"\nrecipes = ["bert"]\n'
        'settings = ["training.diagnose_every=1"]\n'
        '[[rows]]\nlabel = "summed"\nrecipe = "mtrec"\nsettings = ["balance.method=equal"]\n'
        '[[figures]]\ntitle = "The cosine"\ndraws = "cosine"\nrecipes = ["summed"]\n'
    )
    arguments = ("compare", "--ablation", tmp_path / "mine.toml", "--data", site, "--seeds", 1)
    result = command(*arguments, "--out", tmp_path / "out", *quick)
    assert result.code == 0, result.err
    assert result.out.startswith("Mine: nowhere (simulated data)\n")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (list(found["recipes"]), found["baseline"]) == (["bert", "summed"], "bert")
    (payoff,) = found["does the auxiliary task pay"]
    assert payoff["conflict_rate"] is not None  # the gradients were looked at apart
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>The cosine</h2>" in page


@pytest.mark.parametrize("name", ablation_names())
def test_every_built_in_ablation_names_recipes_that_are_there(name):
    ablation = read_ablation(name)
    for recipe in ablation.recipes:
        assert read_recipe(recipe, ablation.settings).name == recipe
    for row in ablation.rows:
        read_recipe(row.recipe, [*ablation.settings, *row.settings])
    for value in ablation.sweep.values if ablation.sweep else ():
        read_recipe(ablation.recipes[0], [*ablation.settings, ablation.sweep.setting(value)])


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_key_is_swept(command, site, quick, tmp_path):
    out = tmp_path / "out"
    arguments = ("compare", "mtrec", "--sweep", "balance.scale=0.3,0.05", "--seeds", 1)
    settings = [*quick, "--set", "training.diagnose_every=2"]
    result = command(*arguments, "--data", site, "--out", out, *settings)
    assert result.code == 0, result.err
    values = {f"mtrec balance.scale={value}": value for value in (0.3, 0.05)}
    found = json.loads((out / "comparison.json").read_text())
    assert found["sweep"] == {"key": "balance.scale", "values": values}
    assert (list(found["recipes"]), found["baseline"]) == (list(values), "mtrec balance.scale=0.3")
    for value in (0.3, 0.05):
        run = out / f"mtrec-balance.scale-{value}-seed0"
        recipe = tomllib.loads((run / "recipe.toml").read_text())
        assert recipe["name"] == f"mtrec balance.scale={value}"
        assert (recipe["balance"]["method"], recipe["balance"]["scale"]) == ("mtrec", value)
    page = (out / "report.html").read_text()
    (section,) = re.findall(r"<h2>Against balance.scale, test</h2>.*?</section>", page)
    drawn = re.findall(r"<figcaption>(.*?)</figcaption>", section)
    assert drawn == list(found["recipes"]["mtrec balance.scale=0.3"]["metrics"])
    assert "<h2>Gradients by layer</h2>" in page
    before = times(out)
    again = command(*arguments, "--data", site, "--out", out, *settings)
    assert (again.code, again.out) == (0, result.out)
    assert times(out) == before


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_ablation_sweeps_texts_against_another_recipe(command, site, quick, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'title = "Mine"\nbaseline = "bert"\nrecipes = ["mtrec"]\n'
        'sweep = { key = "balance.project", values = ["both", "aux"] }\n'
        '[[figures]]\ntitle = "What is projected"\ndraws = "sweep"\n'
    )
    out = tmp_path / "out"
    result = command(
        "compare", "--ablation", tmp_path / "mine.toml", "--data", site, "--seeds", 1, "--out", out, *quick
    )
    assert result.code == 0, result.err
    found = json.loads((out / "comparison.json").read_text())
    swept = ["mtrec balance.project=both", "mtrec balance.project=aux"]
    assert (list(found["recipes"]), found["baseline"]) == (["bert", *swept], "bert")
    assert found["sweep"]["values"] == dict(zip(swept, ("both", "aux"), strict=True))
    page = (out / "report.html").read_text()
    assert "<h2>What is projected, test</h2>" in page
    assert "Against balance.project" not in page


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_rows_have_settings_of_their_own(command, site, quick, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'title = "Mine"\nbaseline = "bert, slow"\nrecipes = ["bert"]\n'
        'settings = ["training.learning_rate=0.01", "training.optimizer=adam"]\n'
        '[[rows]]\nlabel = "bert, slow"\nrecipe = "bert"\nsettings = ["training.learning_rate=0.001"]\n'
        '[[figures]]\ntitle = "Fig. 4"\ndraws = "target loss"\n'
    )
    out = tmp_path / "out"
    result = command(
        "compare", "--ablation", tmp_path / "mine.toml", "--data", site, "--seeds", 1, "--out", out, *quick
    )
    assert result.code == 0, result.err
    found = json.loads((out / "comparison.json").read_text())
    assert (list(found["recipes"]), found["baseline"]) == (["bert", "bert, slow"], "bert, slow")
    assert "sweep" not in found
    rates = [
        tomllib.loads((out / f"{run}-seed0" / "recipe.toml").read_text())["training"]["learning_rate"]
        for run in ("bert", "bert-slow")
    ]
    assert rates == [0.01, 0.001]
    assert "<h2>Fig. 4</h2>" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to compare: name two recipes or more, an --ablation, --balancer methods or a --sweep"),
        (("bert",), "nothing to compare"),
        (("bert", "bert"), "bert and bert are both called 'bert'; name each once"),
        (("bert", "mtrek"), "did you mean 'mtrec'"),
        (("bert", "mtrec", "--balancer", "pcgrad"), "--balancer tries methods on one recipe, not on 2"),
        (("mtrec", "--balancer", "pcgrad,pcgard"), "recipe mtrec: balance: "),
        (("bert", "mtrec", "--sweep", "balance.scale=1,2"), "a sweep tries values on one recipe, not on 2"),
        (("--sweep", "balance.scale=1,2"), "a sweep tries values on one recipe, not on 0"),
        (("mtrec", "--sweep", "balance.scale=1"), "--sweep balance.scale=1: write it as key=value,value"),
        (("mtrec", "--sweep", "balance.scale=1,-1"), "recipe mtrec: balance: "),
        (("mtrec", "--sweep", "balance.scale=1,1"), "both called 'mtrec balance.scale=1'; name each once"),
        (("mtrec", "--sweep", "balance.scales=1,2"), "did you mean 'scale'"),
        (
            ("mtrec", "--sweep", "balance.scale=1,2", "--balancer", "pcgrad"),
            "--balancer and a sweep each try something on one recipe; leave one of them out",
        ),
        (("--ablation", "mtrek"), "no ablation is called 'mtrek' (did you mean 'mtrec'?); built in: "),
        (("--ablation", "nowhere.toml"), "nowhere.toml: cannot be read as an ablation"),
        (("bert", "mtrec", "--baseline", "mtrek"), "did you mean 'mtrec'"),
        (("bert", "mtrec", "--set", "training.epoch=2"), "did you mean 'epochs'"),
    ],
)
def test_wrong_use_is_found_before_any_work(arguments, message, command, small_mind, tmp_path):
    said = sentence(command("compare", *arguments, "--data", small_mind, "--out", tmp_path / "out"), 2)
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_broken_ablation_is_one_sentence(command, small_mind, tmp_path):
    (tmp_path / "bad.toml").write_text(
        'title = "x"\nbaseline = "bert"\nrecipes = ["bert", "mtrec"]\nrecipe = "y"\n'
    )
    said = sentence(command("compare", "--ablation", tmp_path / "bad.toml", "--data", small_mind), 2)
    assert "bad.toml: recipe: Extra inputs are not permitted; correct it" in said


def test_a_metric_that_the_evaluation_does_not_have(compared, command, site, quick):
    out, _ = compared
    arguments = ("compare", "bert", "mtrec", "--data", site, "--seeds", 2, "--out", out, *quick)
    said = sentence(command(*arguments, "--metric", "ndgc@5"), 2)
    assert "no metric of single units is called 'ndgc@5' (did you mean 'ndcg@5'?)" in said


def test_a_split_without_labels_cannot_compare(compared, command, site, quick):
    out, _ = compared
    arguments = ("compare", "bert", "mtrec", "--data", site, "--seeds", 2, "--out", out, *quick)
    assert "no clicks to evaluate with" in sentence(command(*arguments, "--split", "unlabelled"), 2)


def test_without_the_packages_that_draw_all_but_the_report_is_written(
    compared, command, site, quick, monkeypatch
):
    out, first = compared
    monkeypatch.setattr("counterpoint.reporting.svg._PACKAGES", ("no_such_package",))
    result = command("compare", "bert", "mtrec", "--data", site, "--seeds", 2, "--out", out, *quick)
    assert (result.code, result.out) == (0, first.out)
    assert "pip install 'counterpoint[report]'" in result.err
