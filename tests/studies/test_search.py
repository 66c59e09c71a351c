"""Searching settings: what is searched, what is stopped, what an interruption leaves."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from counterpoint import api
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.simulation.news.mind import simulate
from counterpoint.studies.search import tune
from counterpoint.training.loop import DivergedError, _Loop

RANGES = """
[tune]
training.learning_rate = {low = 1e-4, high = 1e-2, log = true}
training.warmup = {low = 0.0, high = 0.5, step = 0.25}
data.negatives = {low = 1, high = 4}
balance.project = ["both", "main"]
tasks = [["click", "category"], ["click", "entities"]]
"""


@pytest.fixture(scope="module")
def place(tiny_encoder, tmp_path_factory):
    """A store of a small simulated site, and a recipe to tune."""
    folder = tmp_path_factory.mktemp("tuned")
    simulate(folder / "site", readers=40, articles=60, days=4, seed=1)
    settings = {
        "encoder": f'name = "{tiny_encoder}"',
        "balance": 'method = "mtrec"',
        "training": 'epochs = 1\nbatch_size = 8\nprecision = "fp32"\n'
        "validate_every = 2\ncheckpoint_every = 2",
    }
    sections = "".join(f"[{name}]\n{lines}\n" for name, lines in settings.items())
    (folder / "mine.toml").write_text(f'workload = "news"\n{sections}{RANGES}')
    api.prepare(folder / "site", recipe=folder / "mine.toml", out=folder / "store")
    return folder


@pytest.fixture
def search(place):
    def go(out, trials=3, recipe=None, **options):
        return tune(recipe or place / "mine.toml", data=place / "store", trials=trials, out=out, **options)

    return go


@pytest.fixture(scope="module")
def tuned(place, tmp_path_factory):
    """A search of three trials; tests must not change it."""
    out = tmp_path_factory.mktemp("search") / "out"
    return out, tune(place / "mine.toml", data=place / "store", trials=3, out=out)


def recipe_of(run: Path):
    return tomllib.loads((run / "recipe.toml").read_text())


def without(table, *keys):
    return {key: value for key, value in table.items() if key not in keys}


def test_every_trial_is_a_run_within_the_ranges(tuned):
    out, _ = tuned
    runs = sorted(out.glob("trial-*"))
    assert [run.name for run in runs] == ["trial-0000", "trial-0001", "trial-0002"]
    for run in runs:
        recipe = recipe_of(run)
        assert 1e-4 <= recipe["training"]["learning_rate"] <= 1e-2
        assert recipe["training"]["warmup"] in (0.0, 0.25, 0.5)
        assert recipe["data"]["negatives"] in (1, 2, 3, 4)
        assert recipe["balance"]["project"] in ("both", "main")
        assert recipe["tasks"] in (["click", "category"], ["click", "entities"])
        assert json.loads((run / "run.json").read_text())["status"] == "done"
    assert len({json.dumps(recipe_of(run)) for run in runs}) == 3


def test_the_best_by_validation_becomes_a_recipe(tuned):
    out, found = tuned
    best = {run.name: json.loads((run / "run.json").read_text())["best"] for run in out.glob("trial-*")}
    assert found.value == max(best.values())
    assert found.run.name == max(best, key=lambda name: best[name])
    written = tomllib.loads(found.recipe.read_text())
    assert without(written, "name", "summary") == without(recipe_of(found.run), "name", "summary", "tune")
    assert (written["name"], "tune" in written) == ("mine-tuned", False)
    assert api.read_recipe(found.recipe).training.learning_rate == found.settings["training.learning_rate"]
    assert found.settings["tasks"] == written["tasks"]


def test_the_table_has_the_best_first(tuned):
    _, found = tuned
    assert found.trials.header[:2] == ["validation", "training.learning_rate"]
    values = [float(cells[0]) for _, cells, _ in found.trials.rows]
    assert values == sorted(values, reverse=True)
    assert found.trials.rows[0][0] == found.run.name


@pytest.mark.slow
def test_the_test_split_is_never_touched(search, tmp_path, monkeypatch):
    from counterpoint.news.data.store import Store

    asked, split = [], Store.split

    def noted(store, name):
        asked.append(name)
        return split(store, name)

    monkeypatch.setattr(Store, "split", noted)
    search(tmp_path / "out", trials=1)
    assert "validation" in asked
    assert "test" not in asked
    assert not list((tmp_path / "out").rglob("evaluation*"))


@pytest.mark.slow
def test_the_seed_decides_what_is_proposed(tuned, search, tmp_path):
    out, _ = tuned
    search(tmp_path / "same", trials=1)
    search(tmp_path / "other", trials=1, seed=7)
    first = recipe_of(out / "trial-0000")
    assert recipe_of(tmp_path / "same" / "trial-0000") == first
    assert recipe_of(tmp_path / "other" / "trial-0000") != first


@pytest.mark.slow
def test_a_finished_search_only_grows(search, tmp_path, monkeypatch):
    first = search(tmp_path / "out", trials=1)
    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_step", lambda _: pytest.fail("trained again"))
        assert search(tmp_path / "out", trials=1) == first
    before = (tmp_path / "out" / "trial-0000" / "run.json").stat().st_mtime_ns
    assert len(search(tmp_path / "out", trials=2).trials.rows) == 2
    assert (tmp_path / "out" / "trial-0000" / "run.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_interrupted_trial_goes_on_with_the_same_settings(tuned, search, tmp_path, monkeypatch):
    out, step, taken = tmp_path / "out", _Loop._step, []

    def interrupted(loop):
        if loop.run.path.name == "trial-0001" and loop.state.step == 3:
            raise KeyboardInterrupt
        step(loop)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(out, trials=2)
    left = recipe_of(out / "trial-0001")

    def noted(loop):
        taken.append((loop.run.path.name, loop.state.step))
        step(loop)

    monkeypatch.setattr(_Loop, "_step", noted)
    found = search(out, trials=2)
    assert sorted(run.name for run in out.glob("trial-*")) == ["trial-0000", "trial-0002"]
    assert recipe_of(out / "trial-0002") == left
    assert taken[0] == ("trial-0002", 2)  # from its checkpoint
    assert {name for name, _ in taken} == {"trial-0002"}
    assert len(found.trials.rows) == 2
    # The same as if nothing had happened.
    whole = tuned[0] / "trial-0001"
    assert recipe_of(whole) == left
    weights = [run / "model" / "model.safetensors" for run in (whole, out / "trial-0002")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_a_hopeless_trial_is_stopped_at_a_validation(search, tmp_path, monkeypatch):
    from optuna.pruners import MedianPruner

    monkeypatch.setattr(
        "optuna.pruners.MedianPruner", lambda: MedianPruner(n_startup_trials=1, n_min_trials=1)
    )
    validate, seen = _Loop._validate, []

    def falling(loop):
        if loop.run.path.name not in seen:
            seen.append(loop.run.path.name)
        loop.validate = lambda: {"auc": 0.9 - 0.1 * seen.index(loop.run.path.name)}
        validate(loop)

    monkeypatch.setattr(_Loop, "_validate", falling)
    out = tmp_path / "out"
    found = search(out, trials=2)
    facts = [json.loads((out / f"trial-000{number}" / "run.json").read_text()) for number in (0, 1)]
    assert (facts[0]["status"], facts[0]["best"]) == ("done", 0.9)
    assert facts[1]["status"] == "stopped: below the median of the search"
    assert found.value == 0.9
    assert [name for name, _, _ in found.trials.rows] == ["trial-0000", "trial-0001 (stopped)"]
    lines = [json.loads(line) for line in (out / "trial-0001" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [2]


@pytest.mark.slow
def test_a_trial_that_diverges_counts_and_is_not_the_best(search, tmp_path, monkeypatch):
    step = _Loop._step

    def diverging(loop):
        if loop.run.path.name == "trial-0000":
            raise DivergedError("gradients that are not finite")
        step(loop)

    monkeypatch.setattr(_Loop, "_step", diverging)
    found = search(tmp_path / "out", trials=2)
    assert found.run.name == "trial-0001"
    facts = json.loads((tmp_path / "out" / "trial-0000" / "run.json").read_text())
    assert facts["status"].startswith("diverged: ")
    with pytest.raises(CounterpointError, match="no trial came to a validation metric"):
        search(tmp_path / "none", trials=1)


@pytest.mark.slow
def test_choices_alone_are_all_tried_once(search, place, tmp_path):
    text = (place / "mine.toml").read_text().partition("[tune]")[0]
    choices = '[tune]\nbalance.project = ["both", "main"]\ntraining.warmup = [0.0, 0.1]\n'
    recipe = place / "choices.toml"
    recipe.write_text(text + choices)
    first = search(tmp_path / "out", trials=2, recipe=recipe)
    assert len(first.trials.rows) == 2
    found = search(tmp_path / "out", trials=9, recipe=recipe)
    tried = [recipe_of(run) for run in (tmp_path / "out").glob("trial-*")]
    pairs = sorted((each["balance"]["project"], each["training"]["warmup"]) for each in tried)
    assert pairs == [("both", 0.0), ("both", 0.1), ("main", 0.0), ("main", 0.1)]
    assert len(found.trials.rows) == 4


def test_another_recipe_or_data_is_another_search(tuned, search, place, tmp_path):
    out, _ = tuned
    with pytest.raises(
        UsageError, match=r"out: a search with training.epochs 1, not 2; choose another --out"
    ):
        search(out, settings=["training.epochs=2"])
    with pytest.raises(UsageError, match=r"a search with tune\.data\.negatives"):
        search(out, settings=["tune.data.negatives=[1]"])
    simulate(tmp_path / "site", readers=41, articles=60, days=4)
    with pytest.raises(UsageError, match="a search with data whose "):
        tune(place / "mine.toml", data=tmp_path / "site", out=out)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["tune.training.epochs={low=0, high=2}"],
            "training.epochs: Input should be greater than or equal to 1",
        ),
        (['tune.balance.project=["both", "sideways"]'], "balance: "),
        (["tune.balance.scal={low=0.1, high=1.0}"], "balance: .*scale"),
    ],
)
def test_a_range_that_leaves_what_is_allowed_is_found_before_any_trial(settings, message, search, tmp_path):
    with pytest.raises(UsageError, match=message):
        search(tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_ranges(place, tiny_encoder, tmp_path):
    settings = [f"encoder.name={tiny_encoder}", "training.epochs=1"]
    (tmp_path / "plain.toml").write_text('workload = "news"\n')
    with pytest.raises(
        UsageError, match=r"plain.toml: nothing to tune; give it a section \[tune\], for example"
    ):
        tune(tmp_path / "plain.toml", data=place / "store", settings=settings, out=tmp_path / "out")


def test_data_without_a_validation_split(search, tmp_path, monkeypatch):
    from dataclasses import replace

    from counterpoint.news import workload

    def unvalidated(*given):
        return replace(workload.trainee(*given), validate=None)

    monkeypatch.setattr(workload, "WORKLOAD", replace(workload.WORKLOAD, trainee=unvalidated))
    with pytest.raises(UsageError, match="no validation split to watch"):
        search(tmp_path / "out", trials=1)


def test_a_missing_package_is_named(search, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CounterpointError, match=r"pip install 'counterpoint\[tune\]'"):
        search(tmp_path / "out")
