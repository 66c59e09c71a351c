"""The feedback workload through the commands, from a simulated log to recommendations and to new data."""

import json

import polars as pl
import pytest

from counterpoint.simulation.views.log import simulate

TINY = [
    "training.epochs=2",
    "training.batch_size=256",
    "training.learning_rate=0.01",
    "training.diagnose_every=5",
    "network.experts=[16,8]",
    "network.towers=[8]",
    "network.embedding=4",
    "network.initial=xavier",
    "data.core=3",
]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]
OWN = """extends = "gradcraft"
summary = "one's own table"

[columns]
ids = ["user", "item", "author"]
numbers = ["length"]
lists = ["tags"]

[labels]
long_view = "played > quantile(played, 0.75)"
complete = "played >= length"
like = "liked == 1"

[data]
split = "time"
"""


@pytest.fixture(scope="module")
def views(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("views") / "log"
    options = ("--users", 60, "--videos", 40, "--rows", 2500, "--tasks", 4, "--heterogeneity", 0.2)
    made = command("simulate", "feedback", *options, "--out", folder)
    assert made.code == 0, made.err
    assert "effective_view" in made.out
    return folder


@pytest.fixture(scope="module")
def trained(command, views, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "gradcraft"
    done = command("train", "gradcraft", "--data", views, "--out", run, *SETTINGS)
    assert done.code == 0, done.err
    return run


def test_a_run_tells_means_then_tasks_beside_floors_and_optimum(command, trained, tmp_path):
    told = command("evaluate", trained, "--json", tmp_path / "result.json")
    assert told.code == 0, told.err
    assert "simulated" in told.out
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["unit"] == "users"
    assert list(result["metrics"])[:4] == ["auc", "gauc", "loss", "ece"]
    assert set(result["floors"]) == {"global rate", "item rate", "user rate", "optimum (simulated)"}
    lines = told.out.splitlines()
    assert lines[0].split() == ["auc", "gauc", "loss", "ece"]
    assert any(line.split() == ["auc", "auc", "auc", "auc"] for line in lines)


def test_a_report_shows_conflicts_and_calibration(command, trained, tmp_path):
    assert command("evaluate", trained).code == 0
    told = command("report", trained, "--out", tmp_path / "report.html")
    assert told.code == 0, told.err
    page = (tmp_path / "report.html").read_text()
    assert "Conflicts between tasks" in page
    assert "Calibration, test" in page
    assert "simulated data" in page


def test_one_user_and_all_get_recommendations(command, trained, tmp_path):
    out = tmp_path / "all.parquet"
    told = command("recommend", trained, "--all", "--by", "like", "--top", 2, "--out", out)
    assert told.code == 0, told.err
    everybody = pl.read_parquet(out)
    user = everybody["user"][0]
    told = command(
        "recommend", trained, "--user", user, "--by", "like", "--top", 2, "--json", tmp_path / "a.json"
    )
    assert told.code == 0, told.err
    one = json.loads((tmp_path / "a.json").read_text())
    assert one["user"] == user
    mine = everybody.filter(pl.col("user") == user)
    assert [each["item"] for each in one["recommendations"]] == mine["item"].to_list()
    assert told.out.startswith("  1. v")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--history", "v1"), "--history: of no use here; this run takes user, by."),
        (("--all", "--user", "u1"), "--user: of no use for everybody at once; this run takes by."),
        (("--user", "nobody"), "no user 'nobody' in the training data"),
        (
            ("--user", "u00001", "--by", "share"),
            "--by: the model does not predict 'share'; it predicts",
        ),
        ((), "--user: missing; say whom"),
    ],
    ids=["history", "both", "stranger", "label", "nothing"],
)
def test_what_cannot_be_recommended_is_one_sentence(command, trained, arguments, told):
    failed = command("recommend", trained, *arguments)
    assert failed.code == 2
    assert told in failed.err
    assert failed.err.count("\n") == 1


def test_there_is_no_form_for_submissions(command, trained):
    failed = command("submit", trained)
    assert failed.code == 2
    assert "no form for submissions" in failed.err


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_comparison_tells_the_relative_improvement(command, views, tmp_path):
    out = tmp_path / "compare"
    done = command(
        "compare", "feedback-single", "feedback-equal", "gradcraft",
        "--data", views, "--seeds", 2, "--baseline", "feedback-single", "--out", out, *SETTINGS,
    )  # fmt: skip
    assert done.code == 0, done.err
    result = json.loads((out / "comparison.json").read_text())
    assert [each["label"] for each in result["relative improvement"]] == ["feedback-equal", "gradcraft"]
    single, gradcraft = (result["recipes"][name]["metrics"] for name in ("feedback-single", "gradcraft"))
    tasks = [name for name in single if name.endswith("/auc")]
    by_hand = sum(gradcraft[name]["mean"] / single[name]["mean"] - 1 for name in tasks) / len(tasks)
    gain = result["relative improvement"][1]["gains"]["auc"]
    assert gain["mean_difference"] == pytest.approx(by_hand)
    page = (out / "comparison.md").read_text()
    assert "## Relative improvement over separate networks" in page
    assert "## Task by task, auc" in page


def test_a_table_of_ones_own_needs_only_a_recipe(command, tmp_path):
    simulate(tmp_path / "simulated", users=40, videos=20, rows=900, tasks=3, seed=5)
    log = pl.read_parquet(tmp_path / "simulated" / "simulated-views.parquet")
    own = log.select(
        "user",
        "author",
        "tags",
        "time",
        pl.col("video").alias("item"),
        pl.col("duration").alias("length"),
        (pl.col("duration") * 2 * pl.col("true_long_view")).alias("played"),
        pl.col("label_like").alias("liked"),
    )
    (tmp_path / "own").mkdir()
    own.head(700).write_parquet(tmp_path / "own" / "views.parquet")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(OWN)
    run = tmp_path / "run"
    done = command("train", recipe, "--data", tmp_path / "own", "--out", run, *SETTINGS)
    assert done.code == 0, done.err
    # What came later is read with the model's vocabulary, its scales and its quantile.
    (tmp_path / "later").mkdir()
    own.tail(400).write_parquet(tmp_path / "later" / "views.parquet")
    told = command("evaluate", run, "--data", tmp_path / "later", "--split", "train")
    assert told.code == 0, told.err
    assert "like" in told.out


def test_a_store_of_other_vocabularies_is_refused(command, trained, tmp_path):
    simulate(tmp_path / "other", users=30, videos=20, rows=900, tasks=4, seed=8)
    out = tmp_path / "store"
    made = command(
        "prepare", tmp_path / "other", "--recipe", "gradcraft", "--set", "data.core=3", "--out", out
    )
    assert made.code == 0, made.err
    failed = command("evaluate", trained, "--data", out)
    assert failed.code == 1
    assert "prepared with other vocabularies than" in failed.err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["tasks=['like','share']"], "the recipe has the task 'share'"),
        (["training.batch_size=100000"], "fewer than one batch of 100000"),
        (["labels.like='label_like >'"], "labels.like: the rule 'label_like >' does not parse"),
        (["columns.user=viewer"], "the user column 'viewer' is missing"),
    ],
    ids=["task", "batch", "rule", "user"],
)
def test_bad_input_is_one_sentence(command, views, tmp_path, settings, told):
    chosen = [part for setting in settings for part in ("--set", setting)]
    failed = command("train", "gradcraft", "--data", views, "--out", tmp_path / "run", *SETTINGS, *chosen)
    assert failed.code in (1, 2)
    assert told in failed.err
    assert failed.err.count("\n") == 1
    assert "Traceback" not in failed.err
