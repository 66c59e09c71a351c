"""The behaviors workload through the commands, from a log to recommendations."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import counterpoint
from counterpoint import api
from counterpoint.behaviors.data.store import Store

TINY = [
    "training.epochs=2",
    "training.batch_size=512",
    "training.diagnose_every=5",
    "network.size=8",
    "network.mlp=[8, 4]",
    "network.towers=[8]",
    "data.least_bought=3",
    "data.least_buyers=3",
]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]


@pytest.fixture(scope="module")
def shop(command, tmp_path_factory):
    """A small simulated log."""
    folder = tmp_path_factory.mktemp("shop") / "log"
    made = command("simulate", "behaviors", "--users", 200, "--items", 150, "--seed", 3, "--out", folder)
    assert made.code == 0, made.err
    return folder


@pytest.fixture(scope="module")
def trained(command, shop, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "metabalance"
    done = command("train", "metabalance", "--data", shop, "--out", run, "--seed", 1, *SETTINGS)
    assert done.code == 0, done.err
    return run


def test_a_run_tells_its_numbers_beside_the_floors(command, trained, tmp_path):
    told = command("evaluate", trained, "--json", tmp_path / "result.json")
    assert told.code == 0, told.err
    assert "simulated" in told.out
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["unit"] == "users"
    assert {"ndcg@10", "recall@10", "precision@10", "ndcg@20"} <= set(result["metrics"])
    assert {"random", "most bought", "bought together", "optimum (simulated)"} == set(result["floors"])
    assert result["floors"]["optimum (simulated)"]["ndcg@10"] > result["floors"]["most bought"]["ndcg@10"]
    per_user = pl.read_parquet(trained / "evaluation-test.parquet")
    assert len(per_user) == result["counts"]["users"]
    assert per_user["ndcg@10"].mean() == pytest.approx(result["metrics"]["ndcg@10"])


def test_the_best_model_is_the_one_of_the_best_validation(trained):
    facts = json.loads((trained / "run.json").read_text())
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    seen = [line["validation"]["ndcg@10"] for line in lines if "validation" in line]
    assert len(seen) == 2
    assert facts["best"] == pytest.approx(max(seen))
    assert facts["target"] == "buy"


def test_one_user_gets_the_best_items_not_yet_bought(command, trained, tmp_path):
    recommender = counterpoint.load(trained)
    store = Store(Path(api.Run.open(trained).facts["store"]["path"]))
    user = store.user_ids[7]
    told = command("recommend", trained, "--user", user, "--top", 4, "--json", tmp_path / "one.json")
    assert told.code == 0, told.err
    one = recommender.recommend(user, top=4)
    assert [f"{place:3}. {each}" for place, each in enumerate(one, 1)] == told.out.splitlines()
    bought = {
        store.item_ids[int(item)]
        for split in ("train", "validation", "test")
        for item in store.interactions(split, "buy").of(7)
    }
    assert len(one) == 4
    assert not bought & {each.item for each in one}
    written = json.loads((tmp_path / "one.json").read_text())
    assert written["user"] == user
    assert [each["item"] for each in written["recommendations"]] == [each.item for each in one]


def test_everybody_gets_the_same_as_one_by_one(command, trained, tmp_path):
    out = tmp_path / "all.parquet"
    told = command("recommend", trained, "--all", "--top", 3, "--out", out)
    assert told.code == 0, told.err
    everybody = pl.read_parquet(out)
    recommender = counterpoint.load(trained)
    store = Store(Path(api.Run.open(trained).facts["store"]["path"]))
    assert everybody.columns == ["user", "rank", "item", "score"]
    assert everybody["user"].n_unique() == store.user_count
    for row in (0, 5, store.user_count - 1):
        rows = everybody.filter(pl.col("user") == store.user_ids[row]).sort("rank")
        one = recommender.recommend(store.user_ids[row], top=3)
        assert rows["item"].to_list() == [each.item for each in one]
        np.testing.assert_allclose(rows["score"], [each.score for each in one], rtol=1e-5)


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(command, shop, trained, tmp_path, monkeypatch):
    from counterpoint.training import loop

    run, validate = tmp_path / "run", loop._Loop._validate

    def interrupted(self):
        if self.state.step > self.per_epoch:
            raise KeyboardInterrupt
        validate(self)

    monkeypatch.setattr(loop._Loop, "_validate", interrupted)
    stopped = command("train", "metabalance", "--data", shop, "--out", run, "--seed", 1, *SETTINGS)
    assert stopped.code == 1
    assert "--resume goes on from the last checkpoint" in stopped.err
    monkeypatch.undo()
    assert command("train", "metabalance", "--data", shop, "--out", run, "--resume").code == 0
    ours, theirs = ((place / "model" / "model.safetensors").read_bytes() for place in (run, trained))
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_methods_are_compared_by_users(command, shop, tmp_path):
    out = tmp_path / "compare"
    arguments = (
        "behaviors-vanilla",
        "--balancer",
        "single,equal",
        "--data",
        shop,
        "--seeds",
        2,
        "--out",
        out,
    )
    told = command("compare", *arguments, *SETTINGS)
    assert told.code == 0, told.err
    found = json.loads((out / "comparison.json").read_text())
    assert (found["unit"], found["metric"], found["simulated"]) == ("users", "ndcg@10", True)
    assert set(found["recipes"]) == {"behaviors-vanilla@single", "behaviors-vanilla@equal"}
    pays = found["does the auxiliary task pay"]
    assert [(each["label"], each["against"]) for each in pays] == [
        ("behaviors-vanilla@equal", "behaviors-vanilla@single")
    ]
    assert "users of split test" in (out / "comparison.md").read_text()
    page = (out / "report.html").read_text()
    assert "ndcg@10" in page


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("recommend", "RUN"), "--user: missing; say whom to recommend to, or ask for everybody.", 2),
        (("recommend", "RUN", "--history", "a"), "--history: of no use here; this run takes user.", 2),
        (
            ("recommend", "RUN", "--all", "--user", "a"),
            "--user: of no use for everybody at once; this",
            2,
        ),
        (("recommend", "RUN", "--user", "u9999"), "no user 'u9999'", 2),
        (
            ("recommend", "RUN", "--all", "--json", "a.json"),
            "--json: of no use here; --all writes Parquet",
            2,
        ),
        (("recommend", "RUN", "--user", "u00001", "--out", "a.parquet"), "--out: of no use here; it goes", 2),
        (("recommend", "RUN", "--all", "--out", "a.csv"), "--out a.csv: --all writes Parquet; end the", 2),
        (("export", "RUN"), "a run of behaviors, which cannot be exported; give a run of feedback.", 2),
        (
            ("submit", "RUN"),
            "a run of behaviors, which has no form for submissions; give a run",
            2,
        ),
        (("evaluate", "RUN", "--split", "unlabelled"), "unlabelled", 2),
    ],
)
def test_wrong_use_is_one_sentence(command, trained, arguments, message, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = command(*(trained if part == "RUN" else part for part in arguments))
    assert told.code == code
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_users_and_items_are_refused(command, trained, tmp_path):
    other = tmp_path / "other"
    assert command("simulate", "behaviors", "--users", 210, "--items", 150, "--out", other).code == 0
    told = command("evaluate", trained, "--data", other)
    assert told.code == 1
    assert "its users and items are not those that" in told.err


def test_a_log_of_news_asks_for_a_recipe_of_news(command, small_mind, tmp_path):
    told = command("train", "metabalance", "--data", small_mind, "--out", tmp_path / "run")
    assert told.code == 2
    assert told.err == (
        f"counterpoint: {small_mind}: looks like data of news, and metabalance is a recipe of behaviors; "
        "choose a recipe such as mtrec.\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_shopping_log_asks_for_a_recipe_of_behaviors(command, shop, tiny, tmp_path):
    data = tmp_path / "log"
    data.mkdir()
    (data / "train.csv").write_text("user,item,behaviour\n")
    for place, more, too in (
        (shop, "", ""),
        (data, " or feedback", " or gradcraft"),
        (data / "train.csv", " or feedback", " or gradcraft"),
    ):
        told = command("prepare", place, *tiny)
        assert told.code == 2
        assert told.err == (
            f"counterpoint: {place}: looks like data of behaviors{more}, and mtrec is a recipe of news; "
            f"choose a recipe such as metabalance{too}.\n"
        )
    told = command("compare", "mtrec", "bert", "--data", shop, "--out", tmp_path / "compare", *tiny)
    assert "mtrec is a recipe of news; choose a recipe such as metabalance." in told.err
    missing = command("prepare", tmp_path / "nowhere", *tiny)
    assert f"{tmp_path / 'nowhere'}: no such folder; give the folder that holds the data." in missing.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("prepare", "DATA", "--format", "interactions"),
            "--format: interactions is one of behaviors, and mtrec is a recipe of news; choose a recipe",
        ),
        (
            ("train", "mtrec", "--data", "DATA", "--format", "kuairand"),
            "--format: kuairand is one of feedback, and mtrec is a recipe of news; choose a recipe such",
        ),
        (
            ("compare", "metabalance", "behaviors-vanilla", "--data", "DATA", "--format", "mind"),
            "--format: mind is one of news, and metabalance is a recipe of behaviors; choose a recipe",
        ),
        (
            ("prepare", "DATA", "--format", "interaction", "--recipe", "metabalance"),
            "--format: no format is called 'interaction' (did you mean 'interactions'?)",
        ),
    ],
)
def test_a_format_of_another_workload_asks_for_a_recipe_of_it(command, shop, arguments, message):
    told = command(*(shop if part == "DATA" else part for part in arguments))
    assert told.code == 2
    assert message in told.err
    assert len(told.err.splitlines()) == 1


def test_training_tells_once_what_preparation_counted(command, tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    rows = [f"{user},{item},buy,{user + item}" for user in range(6) for item in range(9) if item != user]
    rows += ["0,1,buy,0", "1,1,click,9", "oops"]
    (log / "train.csv").write_text("\n".join(["user,item,behaviour,time", *rows]))
    (log / "test.csv").write_text("user,item\n0,5\n1,4\n77,0\n0,99\n")
    settings = [*SETTINGS, "--set", 'tasks=["buy", "click"]', "--on-bad-row", "skip"]
    first, second = (
        command("train", "metabalance", "--data", log, "--out", tmp_path / name, *settings) for name in "ab"
    )
    assert first.code == second.code == 0, first.err + second.err
    told = dict(reversed(line.split(None, 1)) for line in first.err.splitlines() if line.startswith("  "))
    assert told["repeats merged"] == "1"
    assert told["rows out of time order"] == "1"
    assert told["test pairs of users or items without training pairs"] == "2"
    assert "0" not in told.values()
    assert "1 malformed rows were set aside in " in first.err
    assert [line.split(":")[0] for line in second.err.splitlines()] == ["run", "next"]
    said = command("evaluate", tmp_path / "a").out
    assert "  dropped pairs of users or items without training pairs: 2" in said


@pytest.mark.slow
def test_real_purchases_are_learned(command, data_root, tmp_path):
    """Two epochs on real logs: better than chance by far, and the same numbers from the saved model."""
    run = tmp_path / "run"
    settings = ["training.epochs=2", "training.batch_size=4096", "training.learning_rate=3e-3"]
    options = [part for setting in settings for part in ("--set", setting)]
    tasks = ("--set", 'tasks=["buy", "cart", "favourite"]')
    data = data_root / "userbehavior"
    log = pl.read_parquet(data / "train_buy_cart_fav_31882users.parquet").filter(pl.col("user") < 3000)
    test = pl.read_csv(data / "test_buy_leave_one_out_31882users.csv").filter(pl.col("user") < 3000)
    (tmp_path / "log").mkdir()
    log.write_parquet(tmp_path / "log" / "train.parquet")
    test.write_csv(tmp_path / "log" / "test.csv")
    done = command("train", "metabalance", "--data", tmp_path / "log", "--out", run, *options, *tasks)
    assert done.code == 0, done.err
    result = counterpoint.evaluate(run)
    assert result["data"]["simulated"] is None
    assert result["counts"]["scored"] > 300
    assert result["metrics"]["recall@20"] > 1.5 * result["floors"]["random"]["recall@20"]
