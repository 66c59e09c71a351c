"""The simulated bundles keep EB-NeRD's files, and their clicks follow the probabilities they state."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.simulation.news.ebnerd import simulate_articles_like, simulate_ebnerd

ARTICLES = {
    **{"article_id": pl.Int32, "title": pl.String, "subtitle": pl.String},
    **{"last_modified_time": pl.Datetime("us"), "premium": pl.Boolean, "body": pl.String},
    **{"published_time": pl.Datetime("us"), "image_ids": pl.List(pl.Int64), "article_type": pl.String},
    **{"url": pl.String, "ner_clusters": pl.List(pl.String), "entity_groups": pl.List(pl.String)},
    **{"topics": pl.List(pl.String), "category": pl.Int16, "subcategory": pl.List(pl.Int16)},
    **{"category_str": pl.String, "total_inviews": pl.Int32, "total_pageviews": pl.Int32},
    **{"total_read_time": pl.Float32, "sentiment_score": pl.Float32, "sentiment_label": pl.String},
}
TONES = {"Negative": -1, "Neutral": 0, "Positive": 1}
HISTORY_LISTS = ["impression_time_fixed", "scroll_percentage_fixed", "article_id_fixed", "read_time_fixed"]


@dataclass(frozen=True)
class Bundle:
    folder: Path
    counts: dict[str, int]

    def log(self, split: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / split / "behaviors.parquet")

    def histories(self, split: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / split / "history.parquet")

    def truth(self, split: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "truth" / f"{split}.parquet")

    @cached_property
    def articles(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "articles.parquet")

    def column(self, name: str) -> dict[int, object]:
        return dict(self.articles.select("article_id", name).iter_rows())


def mean_auc(log: pl.DataFrame, scores: list[list[float]]) -> float:
    rows = zip(scores, log["article_ids_inview"].to_list(), log["article_ids_clicked"].to_list(), strict=True)
    found = []
    for score, shown, clicked in rows:
        values, hit = np.array(score, float), np.isin(shown, clicked)
        ahead = values[hit][:, None] - values[~hit]
        found.append(np.mean((ahead > 0) + 0.5 * (ahead == 0)))
    return float(np.mean(found))


def taste_auc(bundle: Bundle, likeness: Callable[[list[int], int], float]) -> float:
    """How well what a reader read before ranks what is clicked in the validation split."""
    log = bundle.log("validation")
    read = dict(bundle.histories("validation").select("user_id", "article_id_fixed").iter_rows())
    rows = log.select("user_id", "article_ids_inview").iter_rows()
    return mean_auc(log, [[likeness(read[reader], article) for article in shown] for reader, shown in rows])


def category_auc(bundle: Bundle) -> float:
    category = bundle.column("category")
    counted: dict[int, Counter[object]] = {}

    def likeness(read: list[int], article: int) -> float:
        if id(read) not in counted:
            counted[id(read)] = Counter(category[known] for known in read)
        return counted[id(read)][category[article]]

    return taste_auc(bundle, likeness)


def sentiment_auc(bundle: Bundle) -> float:
    tone = {article: TONES[label] for article, label in bundle.column("sentiment_label").items()}
    overall = np.mean([tone[known] for known in bundle.histories("train")["article_id_fixed"].explode()])
    liked: dict[int, float] = {}

    def likeness(read: list[int], article: int) -> float:
        if id(read) not in liked:
            liked[id(read)] = float(np.mean([tone[known] for known in read]) - overall)
        return liked[id(read)] * tone[article]

    return taste_auc(bundle, likeness)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("simulated") / "bundle"
    return Bundle(folder, simulate_ebnerd(folder, readers=1_500, seed=1, test_impressions=400).counts)


def test_the_folder_holds_the_files_and_says_that_they_are_simulated(bundle: Bundle) -> None:
    assert sorted(contents(bundle.folder)) == [
        *("README.md", "articles.parquet", "simulation.json"),
        *(f"test/{name}.parquet" for name in ("behaviors", "history")),
        *(f"train/{name}.parquet" for name in ("behaviors", "history")),
        *(f"truth/{name}.parquet" for name in ("test", "train", "validation")),
        *(f"validation/{name}.parquet" for name in ("behaviors", "history")),
    ]
    assert "Everything in this folder is simulated" in (bundle.folder / "README.md").read_text()
    described = json.loads((bundle.folder / "simulation.json").read_text())
    assert described["simulated"] is True
    assert described["parameters"]["seed"] == 1
    assert described["counts"] == bundle.counts
    for split in ("train", "validation"):
        log = bundle.log(split)
        assert bundle.counts[f"{split}_impressions"] == len(log)
        assert bundle.counts[f"{split}_clicks"] == log["article_ids_clicked"].list.len().sum()
    readers = pl.concat([bundle.log("train")["user_id"], bundle.log("validation")["user_id"]])
    assert readers.n_unique() == bundle.counts["readers"] == 1_500


@pytest.mark.parametrize("file", ["behaviors", "history"])
def test_columns_and_types_are_those_of_the_real_files(bundle: Bundle, data_root: Path, file: str) -> None:
    for split in ("train", "validation"):
        real = pl.read_parquet_schema(data_root / "ebnerd" / split / f"{file}.parquet")
        assert pl.read_parquet_schema(bundle.folder / split / f"{file}.parquet") == real


def test_what_is_unknown_is_unknown_as_often_as_in_the_real_files(bundle: Bundle, data_root: Path) -> None:
    real = pl.read_parquet(data_root / "ebnerd" / "train" / "behaviors.parquet")
    log = bundle.log("train")
    for name in real.columns:
        assert log[name].null_count() / len(log) == pytest.approx(
            real[name].null_count() / len(real), abs=0.03
        ), name


def test_articles_have_all_columns_of_the_real_ones(bundle: Bundle) -> None:
    articles = bundle.articles
    assert dict(articles.schema) == ARTICLES
    assert len(articles) == articles["article_id"].n_unique() == 800
    assert articles["article_id"].is_sorted()
    assert articles["published_time"].is_sorted()
    assert (articles["last_modified_time"] >= articles["published_time"]).all()
    assert articles["sentiment_score"].is_between(0.5, 1).all()
    assert set(articles["sentiment_label"]) == set(TONES)
    assert articles["category_str"].n_unique() == articles["category"].n_unique() == 10
    assert articles["subcategory"].list.first().n_unique() == 40
    assert set(articles["subcategory"].list.len()) == {1, 2}
    assert {"nyheder", "krimi", "sport", "underholdning", "politik", "forbrug"} < set(
        articles["category_str"]
    )
    assert articles["url"].str.starts_with("https://simulated.example/").all()
    assert articles["body"].str.ends_with("Denne tekst er simuleret.").all()
    assert 0.02 < (articles["subtitle"] == "").mean() < 0.09


def test_nine_entities_in_ten_are_absent_from_the_title(bundle: Bundle) -> None:
    titled = total = 0
    kinds = Counter[str]()
    for row in bundle.articles.iter_rows(named=True):
        assert len(row["ner_clusters"]) == len(row["entity_groups"]) == len(set(row["ner_clusters"]))
        text = " ".join((row["title"], row["subtitle"], row["body"]))
        assert all(name in text for name in row["ner_clusters"])
        titled += sum(name in row["title"] for name in row["ner_clusters"])
        total += len(row["ner_clusters"])
        kinds.update(row["entity_groups"])
    assert set(kinds) == {"PER", "ORG", "LOC", "EVENT"}
    assert 0.07 < titled / total < 0.13
    assert total > 5 * 800


def test_titles_look_danish_and_tell_category_and_sentiment(bundle: Bundle) -> None:
    titles = bundle.articles["title"].to_list()
    assert len(set(titles)) > 0.98 * len(titles)
    assert np.mean([any(letter in title.lower() for letter in "æøå") for title in titles]) > 0.7
    assert len({word for title in titles for word in title.lower().split()}) > 800
    assert min(len(title.split()) for title in titles) >= 3
    assert max(len(title.split()) for title in titles) <= 18
    words = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(titles)
    for column, chance in (("category", 0.25), ("sentiment_label", 0.45)):
        labels = bundle.articles[column].to_list()
        model = LogisticRegression(max_iter=200, C=10).fit(words[:500], labels[:500])
        assert model.score(words[500:], labels[500:]) > chance + 0.3


def test_impressions_show_known_articles_and_what_is_clicked(bundle: Bundle) -> None:
    published = bundle.column("published_time")
    for split in ("train", "validation"):
        log = bundle.log(split)
        assert log["impression_id"].is_sorted()
        for shown, clicked, time in log.select(
            "article_ids_inview", "article_ids_clicked", "impression_time"
        ).iter_rows():
            assert 5 <= len(shown) == len(set(shown)) <= 40
            assert 1 <= len(clicked) < len(shown)
            assert set(clicked) <= set(shown)
            assert all(published[article] <= time for article in shown)
        assert set(log["article_id"].drop_nulls()) <= set(published)
        assert 0.002 < (log["article_ids_clicked"].list.len() > 1).mean() < 0.012
        assert set(log["device_type"]) == {1, 2, 3}
        assert set(log["age"].drop_nulls()) <= {20, 30, 40, 50, 60, 70}
        for name, most in (("read_time", 1800), ("scroll_percentage", 100)):
            for column in (name, f"next_{name}"):
                known = log[column].drop_nulls()
                assert known.is_between(0, most).all()
                assert (known == known.round()).all()
    ids = pl.concat([bundle.log(split)["impression_id"] for split in ("train", "validation")])
    assert ids.is_unique().all()
    assert ids.min() == 1


def test_sessions_are_one_readers_and_go_forward_in_time(bundle: Bundle) -> None:
    log = pl.concat([bundle.log("train"), bundle.log("validation")])
    sessions = log.group_by("session_id").agg(pl.col("user_id").n_unique(), pl.len())
    assert (sessions["user_id"] == 1).all()
    assert 1.6 < sessions["len"].mean() < 2.2
    ordered = log.sort("impression_id").with_columns(
        later=pl.col("impression_time").shift(-1).over("session_id"),
        page=pl.col("article_id").shift(-1).over("session_id"),
    )
    waited = (ordered["later"] - ordered["impression_time"]).dt.total_seconds()
    assert (waited.drop_nulls() > ordered["read_time"].filter(waited.is_not_null())).all()
    on_article = ordered.filter(pl.col("page").is_not_null())
    assert on_article["page"].is_in(on_article["article_ids_clicked"]).all()


def test_people_stay_who_they_are(bundle: Bundle) -> None:
    log = pl.concat([bundle.log("train"), bundle.log("validation")])
    told = ["device_type", "is_sso_user", "gender", "postcode", "age", "is_subscriber"]
    assert (log.group_by("user_id").agg(pl.col(told).n_unique()).select(told) == 1).to_numpy().all()
    unsigned = log.filter(~pl.col("is_sso_user"))
    assert unsigned["age"].is_null().all()
    assert not unsigned["is_subscriber"].any()


def test_histories_precede_their_split(bundle: Bundle) -> None:
    for split in ("train", "validation", "test"):
        log, histories = bundle.log(split), bundle.histories(split)
        assert set(log["user_id"]) == set(histories["user_id"])
        assert histories["user_id"].is_unique().all()
        lengths = histories.select(pl.col(HISTORY_LISTS).list.len())
        assert (lengths.min_horizontal() == lengths.max_horizontal()).all()
        assert lengths.min_horizontal().min() >= 5
        times = histories["impression_time_fixed"]
        assert times.explode().max() < log["impression_time"].min()
        assert all(moments == sorted(moments) for moments in times.to_list())
        scrolled = histories["scroll_percentage_fixed"].explode()
        assert 0.07 < scrolled.null_count() / len(scrolled) < 0.11
    first = bundle.histories("train")["impression_time_fixed"].explode().min()
    assert timedelta(days=18) < bundle.log("train")["impression_time"].min() - first <= timedelta(days=21.1)


def test_the_validation_history_is_that_of_training_and_the_clicks_since(bundle: Bundle) -> None:
    before = dict(bundle.histories("train").select("user_id", "article_id_fixed").iter_rows())
    after = dict(bundle.histories("validation").select("user_id", "article_id_fixed").iter_rows())
    log = bundle.log("train").sort("impression_time", "impression_id")
    clicks: dict[int, list[int]] = {}
    for reader, clicked in log.select("user_id", "article_ids_clicked").iter_rows():
        clicks.setdefault(reader, []).extend(clicked)
    both = before.keys() & after.keys()
    assert len(both) > 500
    assert all(after[reader] == before[reader] + clicks[reader] for reader in both)
    # What was read of them is told twice: as what came next, and as what came before.
    told = {}
    for _, times, _, articles, seconds in bundle.histories("validation").iter_rows():
        told |= {
            (time, article): second for time, article, second in zip(times, articles, seconds, strict=True)
        }
    single = log.filter(pl.col("user_id").is_in(list(after)), pl.col("next_read_time").is_not_null())
    for time, clicked, seconds in (
        single.select("impression_time", pl.col("article_ids_clicked").list.first(), "next_read_time")
        .head(200)
        .iter_rows()
    ):
        assert told[time, clicked] == seconds


def test_truth_is_aligned_and_calibrated(bundle: Bundle) -> None:
    for split in ("train", "validation"):
        log, truth = bundle.log(split), bundle.truth(split)
        assert truth["impression"].to_list() == log["impression_id"].to_list()
        assert truth["impression"].dtype == pl.UInt32
        for name in ("probability", "position_free", "position"):
            assert truth[name].list.len().to_list() == log["article_ids_inview"].list.len().to_list()
        assert all(sorted(places) == list(range(1, len(places) + 1)) for places in truth["position"])
    log, truth = bundle.log("train"), bundle.truth("train")
    probability = truth["probability"].explode().to_numpy()
    clicked = np.concatenate(
        [np.isin(*row) for row in log.select("article_ids_inview", "article_ids_clicked").iter_rows()]
    )
    for decile in np.array_split(np.argsort(probability, kind="stable"), 10):
        expected = probability[decile]
        error = np.sqrt((expected * (1 - expected)).sum()) / len(decile)
        assert abs(clicked[decile].mean() - expected.mean()) < 4 * error


def test_the_truth_ranks_better_than_popularity_and_chance(bundle: Bundle) -> None:
    log = bundle.log("validation")
    best = mean_auc(log, bundle.truth("validation")["position_free"].to_list())
    clicks = Counter(bundle.log("train")["article_ids_clicked"].explode())
    popular = mean_auc(log, [[clicks[article] for article in shown] for shown in log["article_ids_inview"]])
    rng = np.random.default_rng(0)
    chance = mean_auc(log, [rng.random(len(shown)).tolist() for shown in log["article_ids_inview"]])
    assert 0.74 < best < 0.84
    assert popular < best - 0.15
    assert 0.47 < chance < 0.53


def test_reading_tells_interest_and_length(bundle: Bundle) -> None:
    log = bundle.log("train").with_columns(bundle.truth("train")["position_free"])
    words = {article: len(str(body).split()) for article, body in bundle.column("body").items()}
    rows = log.filter(pl.col("next_scroll_percentage").is_not_null()).select(
        "article_ids_inview",
        "article_ids_clicked",
        "position_free",
        "next_read_time",
        "next_scroll_percentage",
    )
    liked, length, seconds, scrolled = [], [], [], []
    for shown, clicked, chances, second, depth in rows.iter_rows():
        liked.append(np.log(chances[shown.index(clicked[0])]))
        length.append(np.log(words[clicked[0]]))
        seconds.append(np.log1p(second))
        scrolled.append(depth)
    told = np.corrcoef([liked, length, seconds, scrolled])
    assert told[0, 2] > 0.25
    assert told[0, 3] > 0.2
    assert told[1, 2] > 0.2
    assert told[1, 3] < -0.05


@pytest.mark.slow
def test_categories_and_sentiment_explain_clicks_as_strongly_as_asked(tmp_path: Path) -> None:
    def simulated(category: float, sentiment: float) -> Bundle:
        folder = tmp_path / f"{category}-{sentiment}"
        counts = simulate_ebnerd(folder, category_strength=category, sentiment_strength=sentiment).counts
        return Bundle(folder, counts)

    usual, neither, moody = simulated(1.0, 1.0), simulated(0.0, 0.0), simulated(1.0, 3.0)
    assert category_auc(usual) > 0.6
    assert 0.48 < category_auc(neither) < 0.52
    assert 0.515 < sentiment_auc(usual) < 0.58
    assert 0.48 < sentiment_auc(neither) < 0.52
    assert sentiment_auc(moody) > 0.6


def test_totals_are_counted_from_the_logs(bundle: Bundle) -> None:
    logs = [bundle.log(split) for split in ("train", "validation")]
    shown = Counter(article for log in logs for article in log["article_ids_inview"].explode())
    opened = Counter(article for log in logs for article in log["article_ids_clicked"].explode())
    opened.update(bundle.histories("train")["article_id_fixed"].explode())
    assert {article: count or 0 for article, count in bundle.column("total_inviews").items()} == {
        article: shown[article] for article in bundle.articles["article_id"]
    }
    assert {article: count or 0 for article, count in bundle.column("total_pageviews").items()} == {
        article: opened[article] for article in bundle.articles["article_id"]
    }


def test_the_test_split_is_unlabelled_and_ends_with_the_rows_beyond_accuracy(bundle: Bundle) -> None:
    log, truth = bundle.log("test"), bundle.truth("test")
    labelled = bundle.log("train").schema
    assert dict(log.schema) == {
        name: kind
        for name, kind in labelled.items()
        if name not in ("article_id", "article_ids_clicked", "next_read_time", "next_scroll_percentage")
    } | {"is_beyond_accuracy": pl.Boolean}
    assert log["is_beyond_accuracy"].to_list() == [False] * 400 + [True] * 20
    assert bundle.counts["test_impressions"] == 400
    assert bundle.counts["beyond_accuracy_impressions"] == 20
    usual, beyond = log.head(400), log.tail(20)
    assert usual["impression_id"].is_unique().all()
    assert set(usual["impression_id"]).isdisjoint(bundle.log("train")["impression_id"])
    assert set(beyond["impression_id"]) == {0}
    assert beyond["article_ids_inview"].n_unique() == 1
    assert len(set(beyond["article_ids_inview"][0])) == 250
    assert log["impression_time"].min() > bundle.log("validation")["impression_time"].max()
    assert truth["impression"].to_list() == log["impression_id"].to_list()
    lengths = log["article_ids_inview"].list.len().to_list()
    assert truth["position_free"].list.len().to_list() == lengths
    assert truth["probability"].is_null().to_list() == log["is_beyond_accuracy"].to_list()


@pytest.mark.parametrize(("test_impressions", "readers"), [(1, 5_000), (3, 1)])
def test_small_test_splits_are_possible(tmp_path: Path, test_impressions: int, readers: int) -> None:
    sizes = {"readers": readers, "articles": 200, "days": 3, "impressions_per_reader": 1.0}
    counts = simulate_ebnerd(tmp_path / "b", **sizes, test_impressions=test_impressions).counts
    bundle = Bundle(tmp_path / "b", counts)
    assert len(bundle.log("test")) == test_impressions + 1
    # There are fewer than 250 articles to show beyond accuracy.
    candidates = bundle.log("test").tail(1)["article_ids_inview"][0]
    assert 150 < len(candidates) == candidates.n_unique() < 200
    assert set(bundle.log("test")["user_id"]) == set(bundle.histories("test")["user_id"])
    assert counts["train_impressions"] + counts["validation_impressions"] == readers


def test_strong_tastes_leave_every_probability_one(tmp_path: Path) -> None:
    counts = simulate_ebnerd(
        tmp_path / "b", readers=100, articles=200, category_strength=50.0, sentiment_strength=50.0
    ).counts
    for name in ("probability", "position_free"):
        assert Bundle(tmp_path / "b", counts).truth("train")[name].explode().is_between(0, 1).all()


@pytest.mark.slow
def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        # More readers than one block holds, so that the joining of blocks is covered too.
        simulate_ebnerd(tmp_path / name, readers=1_200, articles=300, seed=seed, test_impressions=50)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_readers_come_as_often_as_asked(tmp_path: Path) -> None:
    for asked in (1.5, 12.0):
        counts = simulate_ebnerd(
            tmp_path / f"{asked}", readers=2_000, articles=200, impressions_per_reader=asked
        ).counts
        drawn = counts["train_impressions"] + counts["validation_impressions"]
        assert drawn / 2_000 == pytest.approx(asked, rel=0.07)


def test_progress_ends_with_all_readers(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    simulate_ebnerd(tmp_path / "b", readers=600, articles=200, progress=lambda *args: told.append(args))
    assert told == [("simulating readers", 512, 600), ("simulating readers", 600, 600)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"readers": 0}, "readers is 0; give at least 1."),
        ({"articles": 199}, "articles is 199; give at least 200."),
        ({"articles": 299, "days": 15}, "articles is 299; give at least 300."),
        ({"days": 2}, "days is 2; give at least 3."),
        ({"seed": -1}, "seed is -1; give at least 0."),
        ({"test_impressions": -1}, "test_impressions is -1; give at least 0."),
        ({"impressions_per_reader": 0.5}, "impressions_per_reader is 0.5; give at least 1."),
        ({"category_strength": -0.1}, "category_strength is -0.1; give at least 0."),
        ({"sentiment_strength": float("nan")}, "sentiment_strength is nan; give at least 0."),
    ],
)
def test_bad_sizes_are_named_with_the_smallest_allowed(
    tmp_path: Path, options: dict[str, float], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        simulate_ebnerd(tmp_path / "bundle", **options)
    assert str(caught.value) == sentence
    assert not (tmp_path / "bundle").exists()


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="something is there already"):
        simulate_ebnerd(tmp_path)
    with pytest.raises(UsageError, match="something is there already"):
        simulate_articles_like(small_bundle(tmp_path.parent / f"{tmp_path.name}-real"), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"
    simulate_ebnerd(tmp_path, readers=1, articles=200, overwrite=True)
    assert not (tmp_path / "mine.txt").exists()


def small_bundle(folder: Path) -> Path:
    """A bundle of few rows with ids in every place where there can be some."""
    day = pl.datetime(2024, 1, 10)
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
    train = pl.DataFrame(
        {
            "article_id": [None, 9, 9],
            "article_ids_inview": [[1, 2], [3, 1], []],
            "article_ids_clicked": [[2], [3], [8]],
            "hours": [30, 20, 10],
        }
    ).with_columns(day.dt.offset_by(pl.format("{}h", "hours")).alias("impression_time"))
    train.drop("hours").write_parquet(folder / "train" / "behaviors.parquet")
    test = train.select("impression_time", pl.lit([4], pl.List(pl.Int64)).alias("article_ids_inview"))
    test.write_parquet(folder / "test" / "behaviors.parquet")
    for split, read in (("train", [[5, 1], []]), ("test", [[5, 3], [7, 3]])):
        hours = [[-50, -40][: len(ids)] for ids in read]
        pl.DataFrame({"article_id_fixed": read, "hours": hours}).select(
            pl.col("article_id_fixed").cast(pl.List(pl.Int32)),
            impression_time_fixed=pl.col("hours")
            .cast(pl.List(pl.Int64))
            .list.eval(pl.datetime(2024, 1, 10) + pl.duration(hours=pl.element())),
        ).write_parquet(folder / split / "history.parquet")
    return folder


def test_every_id_of_a_bundle_gets_an_article_shortly_before_it_appears(tmp_path: Path) -> None:
    real = small_bundle(tmp_path / "real")
    simulation = simulate_articles_like(real, tmp_path / "out", seed=5)
    assert simulation.counts == {"articles": 8, "logs": 4}
    bundle = Bundle(tmp_path / "out", simulation.counts)
    assert dict(bundle.articles.schema) == ARTICLES
    first_hour = {1: -40, 2: 30, 3: -40, 4: 10, 5: -50, 7: -50, 8: 10, 9: 10}
    assert bundle.articles["article_id"].to_list() == list(first_hour)
    midnight = pl.select(pl.datetime(2024, 1, 10)).item()
    for article, published in bundle.column("published_time").items():
        before = midnight + timedelta(hours=first_hour[article]) - published
        assert timedelta(0) < before < timedelta(hours=15)
    assert bundle.articles["total_inviews"].null_count() == 8
    assert sorted(contents(bundle.folder)) == [
        *("README.md", "articles.parquet", "simulation.json"),
        *("test/behaviors.parquet", "test/history.parquet"),
        *("train/behaviors.parquet", "train/history.parquet"),
    ]
    described = json.loads((bundle.folder / "simulation.json").read_text())
    assert described["simulated"] == "articles"
    assert described["like"] == str(real)
    assert "no information about the clicks beyond chance" in (bundle.folder / "README.md").read_text()


def test_the_logs_are_linked_or_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = small_bundle(tmp_path / "real")
    simulate_articles_like(real, tmp_path / "linked")

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    simulate_articles_like(real, tmp_path / "copied")
    logs = contents(real)
    for name, linked in (("linked", True), ("copied", False)):
        found = contents(tmp_path / name)
        assert {log: found[log] for log in logs} == logs
        assert (tmp_path / name / "train/history.parquet").samefile(real / "train/history.parquet") is linked
    assert contents(tmp_path / "linked") == contents(tmp_path / "copied")


@pytest.mark.slow
def test_the_real_bundle_is_covered(tmp_path: Path, data_root: Path) -> None:
    told: list[tuple[str, int, int]] = []
    simulation = simulate_articles_like(
        data_root / "ebnerd", tmp_path / "out", progress=lambda *args: told.append(args)
    )
    bundle = Bundle(tmp_path / "out", simulation.counts)
    wanted: set[int] = set()
    for split in ("train", "validation"):
        log = bundle.log(split)
        wanted |= set(log["article_id"].drop_nulls()) | set(log["article_ids_inview"].explode())
        wanted |= set(log["article_ids_clicked"].explode())
        wanted |= set(bundle.histories(split)["article_id_fixed"].explode())
    assert set(bundle.articles["article_id"]) == wanted
    assert len(bundle.articles) == len(wanted) == simulation.counts["articles"]
    assert told[0] == ("reading logs", 0, 4)
    assert told[-1] == ("writing articles", len(wanted), len(wanted))
    published = bundle.column("published_time")
    log = bundle.log("train").select("article_ids_inview", "impression_time").explode("article_ids_inview")
    assert all(published[article] < time for article, time in log.head(5_000).iter_rows())


def test_articles_made_for_given_logs_tell_nothing_about_clicks(bundle: Bundle, tmp_path: Path) -> None:
    simulation = simulate_articles_like(bundle.folder, tmp_path / "out", seed=2)
    alike = Bundle(tmp_path / "out", simulation.counts)
    assert 0.48 < category_auc(alike) < 0.52
    assert 0.48 < sentiment_auc(alike) < 0.52


def test_the_same_ids_and_seed_give_the_same_articles(tmp_path: Path) -> None:
    real = small_bundle(tmp_path / "real")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_articles_like(real, tmp_path / name, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert first["articles.parquet"] != other["articles.parquet"]


def test_bundles_without_their_logs_are_refused(tmp_path: Path) -> None:
    real = small_bundle(tmp_path / "real")
    history = real / "test" / "history.parquet"
    with pytest.raises(UsageError) as caught:
        simulate_articles_like(real, real, overwrite=True)
    assert str(caught.value) == f"{real}: this is the bundle itself; choose another folder."
    history.write_bytes(b"no Parquet")
    with pytest.raises(CounterpointError, match=f"^{history}: cannot be read .*; fetch it again.$"):
        simulate_articles_like(real, tmp_path / "out")
    pl.DataFrame({"article_id_fixed": [[1]]}).write_parquet(history)
    with pytest.raises(UsageError, match=f"^{history}: a column of EB-NeRD's is missing .*impression_time"):
        simulate_articles_like(real, tmp_path / "out")
    history.unlink()
    with pytest.raises(UsageError) as caught:
        simulate_articles_like(real, tmp_path / "out")
    assert str(caught.value) == f"{real / 'test'}: no history.parquet beside behaviors.parquet; put it there."
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        simulate_articles_like(tmp_path / "empty", tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'empty'}: no behaviors.parquet in train, validation, test; "
        "give the folder of an EB-NeRD bundle."
    )
    assert not (tmp_path / "out").exists()


def counterpoint(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = "from counterpoint.cli.main import run; run()"
    command = [sys.executable, "-c", program, "simulate", "ebnerd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_writes_either_kind_of_bundle(tmp_path: Path) -> None:
    done = counterpoint("--readers", 30, "--articles", 200, "--out", tmp_path / "made")
    assert done.returncode == 0
    assert "         200  articles\n" in done.stdout
    done = counterpoint("--like", tmp_path / "made", "--seed", 1, "--out", tmp_path / "like")
    assert done.returncode == 0
    assert (tmp_path / "like" / "articles.parquet").is_file()


def test_the_command_refuses_sizes_with_like(tmp_path: Path) -> None:
    done = counterpoint("--like", tmp_path, "--test-impressions", 5, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == (
        "counterpoint: --test-impressions: of no use with --like, whose logs are given; leave it out.\n"
    )


def test_the_help_of_the_command_has_an_example() -> None:
    done = counterpoint("--help")
    assert done.returncode == 0
    assert "Example: counterpoint simulate ebnerd " in done.stdout
