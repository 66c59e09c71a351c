"""Raw formats: WeChat in miniature, the others as real samples where they are."""

import importlib

import numpy as np
import polars as pl
import pytest

import counterpoint
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.feedback.data.formats import FORMATS
from counterpoint.feedback.data.layout import find
from counterpoint.simulation.views.log import simulate
from small_feedback import SETTINGS as SMALL

ACTIONS = (
    "userid,feedid,date_,device,read_comment,comment,like,play,stay,click_avatar,forward,follow,favorite"
)
FEED = "feedid,authorid,videoplayseconds,description,bgm_song_id,bgm_singer_id"


@pytest.fixture
def wechat(tmp_path):
    folder = tmp_path / "wechat"
    folder.mkdir()
    plays = [500, 9_000, 10_000, 30_000, 61_000] * 8
    rows = [
        f"{user},{100 + place},{place + 1},{user % 2},0,0,{place % 2},{play},{play},0,{place // 9},0,0"
        for user in range(3)
        for place, play in enumerate(plays[:10])
    ]
    (folder / "user_action.csv").write_text("\n".join([ACTIONS, *rows]) + "\n")
    feeds = [
        f'{100 + place},{place % 4},{10 + place},"a, b",{place}.0,{"" if place == 5 else place}'
        for place in range(10)
    ]
    (folder / "feed_info.csv").write_text("\n".join([FEED, *feeds]) + "\n")
    return folder


def test_wechat_joins_the_videos_and_makes_paper_5s_labels(wechat, prepared):
    store = prepared(wechat, data={"validation_share": 0.2, "test_share": 0.2})
    assert store.schema.labels == (
        "effective_view",
        "long_view",
        "complete_view",
        "like",
        "follow",
        "forward",
    )
    assert [column.name for column in store.schema.ids] == [
        "userid",
        "feedid",
        "device",
        "authorid",
        "bgm_song_id",
        "bgm_singer_id",
    ]
    # Where the videos are told by their vocabulary, each row's labels follow from the raw tables.
    videos = store.fitted.vocabularies["feedid"].to_list()
    play = {100 + place: value for place, value in enumerate([500, 9_000, 10_000, 30_000, 61_000] * 2)}
    rows = store.rows("train")
    plays = np.array([play[int(videos[row - 1])] for row in rows.ids[:, 1]])
    seconds = np.array([int(videos[row - 1]) - 90 for row in rows.ids[:, 1]])
    assert (rows.labels[:, 0] == (plays > np.quantile(plays, 0.5))).all()
    assert (rows.labels[:, 1] == (plays > np.quantile(plays, 0.75))).all()
    assert (rows.labels[:, 2] == (plays >= seconds * 1000)).all()
    assert (rows.ids[:, 5] == 0).sum() == store.counts["train rows without bgm_singer_id"]


def test_wechat_needs_its_videos(wechat):
    (wechat / "feed_info.csv").unlink()
    with pytest.raises(UsageError, match="no feed_info"):
        find(wechat)


def test_a_video_that_stands_twice_is_told(wechat, prepared):
    with (wechat / "feed_info.csv").open("a") as file:
        file.write("103,1,5,again,1,1\n")
    with pytest.raises(CounterpointError, match="feedid '103' stands there twice"):
        prepared(wechat)


def test_kuairands_sample_is_read_with_its_users_and_videos(data_root, prepared):
    store = prepared(data_root / "kuairand", data={"core": 10})
    log = pl.read_csv(
        next((data_root / "kuairand").glob("kuairand27k*.tsv")), separator="\t", infer_schema_length=None
    )
    while True:
        kept = log.filter(pl.len().over("user_id") >= 10).filter(pl.len().over("video_id") >= 10)
        if len(kept) == len(log):
            break
        log = kept
    assert sum(store.manifest["splits"].values()) == len(log) == 33_666
    assert store.counts["items"] == log["video_id"].n_unique()
    positives = {
        label: sum(store.manifest["positives"][split][label] for split in store.manifest["splits"])
        for label in store.schema.labels
    }
    columns = {
        "click": "is_click",
        "long_view": "long_view",
        "like": "label",
        "profile": "is_profile_enter",
        "comment": "is_comment",
        "forward": "is_forward",
        "follow": "is_follow",
    }
    assert positives == {label: int(log[column].sum()) for label, column in columns.items()}
    assert store.counts["rows without video_features_basic_pure.csv"] > 40_000
    assert {"video_id", "author_id", "tag"} <= set(store.manifest["columns of the item"])
    assert "user_id" not in store.manifest["columns of the item"]


def test_kuairand_as_published_comes_in_several_files(tmp_path, prepared):
    header = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,long_view,duration_ms,is_rand,tab"
    for part in (1, 2):
        rows = [
            f"{user},{video},20220408,{100 * (video + 7)},{part}{video:02},1,{video % 2},0,{video},0,{part}"
            for user in range(5)
            for video in range(4 * part)
        ]
        (tmp_path / f"log_standard_4_08_part{part}.csv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "log_random_4_22.csv").write_text(f"{header}\n9,9,20220408,1,1,1,1,1,1,1,1\n")
    (tmp_path / "user_features_pure.csv").write_text(
        "user_id,user_active_degree,onehot_feat0\n"
        + "".join(f"{user},high,{user % 2}\n" for user in range(4))
    )
    store = prepared(tmp_path, data={"split": "time"})
    assert store.counts["rows read"] == 60  # what was shown at random is another log
    assert store.counts["rows without user_features_pure.csv"] == 12
    assert store.schema.labels == ("click", "long_view", "like")
    assert [column.name for column in store.schema.ids] == [
        "user_id",
        "video_id",
        "hour",
        "tab",
        "user_active_degree",
        "onehot_feat0",
    ]
    assert set(store.fitted.vocabularies["hour"].to_list()) <= {str(hour) for hour in range(7, 15)}
    assert store.manifest["labels"]["like"] == "is_like == 1"


@pytest.mark.parametrize(
    ("name", "labels", "splits", "columns"),
    [
        ("aliexpress", ("click", "conversion"), (89, 11, 20), (16, 63)),
        ("aliccp", ("click", "purchase"), (100, 50, 50), (23, 8)),
        ("census", ("income", "never_married"), (80, 20, 20), (32, 7)),
        ("byterec", ("finish", "like"), (160, 20, 20), (8, 1)),
    ],
)
def test_samples_of_other_data_sets_are_read(data_root, prepared, name, labels, splits, columns):
    store = prepared(data_root / "ctr_samples", format_name=name)
    assert store.schema.labels == labels
    assert tuple(store.manifest["splits"].values()) == splits
    assert (len(store.schema.ids), len(store.schema.numbers)) == columns
    assert store.unit == ("rows" if name == "census" else "users")
    for split in ("train", "validation", "test"):
        assert np.isfinite(store.rows(split).numbers).all()
    # A column that does not vary says nothing: its rounding errors are no spread.
    assert np.abs(store.rows("train").numbers).max() < 20


def test_a_folder_with_several_data_sets_must_be_told_apart(data_root):
    told = r"several formats \(aliccp, aliccp-paddlerec, aliexpress, byterec, census\); say which is meant"
    with pytest.raises(UsageError, match=told):
        find(data_root / "ctr_samples")


def test_a_format_that_is_told_may_have_plain_names(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("search_id,categorical_1,click,conversion\n1,2,1,0\n")
    source = find(tmp_path, "aliexpress")
    assert source.format.name == "aliexpress"
    assert [file.name for file in (*source.log, *source.test)] == ["train.csv", "test.csv"]
    assert find(tmp_path).format.name == "table"


def test_one_file_of_a_data_set_is_split_by_the_recipe(data_root, prepared):
    store = prepared(data_root / "ctr_samples" / "fuxictr_tiny_mtl_train.csv", format_name="aliexpress")
    assert tuple(store.manifest["splits"].values()) == (80, 10, 10)


def test_simulated_logs_bring_their_probabilities(tmp_path, prepared):
    simulate(tmp_path / "log", users=50, videos=30, rows=2_000, tasks=4)
    store = prepared(tmp_path / "log")
    log = pl.read_parquet(tmp_path / "log" / "simulated-views.parquet")
    assert store.manifest["simulated"]
    assert store.schema.labels == ("effective_view", "long_view", "like", "follow")
    rows = [store.rows(split) for split in ("train", "validation", "test")]
    told = np.sort(np.concatenate([each.truth[:, 2] for each in rows]))
    assert (told == np.sort(log["true_like"].to_numpy())).all()


@pytest.mark.parametrize(
    ("files", "format_name", "told"),
    [
        ([], None, "no log found, looked for ali_ccp*train*.csv, or *aliccp*train*.txt"),
        (["notes.txt"], "kuairand", "no log found, looked for log_standard"),
        (["views.csv", "validation.csv"], None, "rows that validate, but none beside them that test"),
        (["views.csv"], "kuairan", "did you mean 'kuairand'"),
    ],
)
def test_what_cannot_be_found_is_told(tmp_path, files, format_name, told):
    for name in files:
        (tmp_path / name).write_text("user\n1\n")
    with pytest.raises(UsageError) as error:
        find(tmp_path, format_name)
    assert told in str(error.value)


THEIRS = """
from counterpoint.feedback.data.formats import Chosen, Format


def columns(names):
    return Chosen(user="who", item="what", ids=("who", "what"), numbers=("seconds",))


def labels(names):
    return {"liked": "liked == 1", "long": "watched > quantile(watched, 0.5)"}


FORMAT = Format(
    name="bars",
    summary="columns between bars",
    patterns=("*.bars",),
    columns=columns,
    labels=labels,
    separator="|",
)
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A format in a module of somebody else's, as ``--format`` takes it."""
    place = tmp_path / "site"
    place.mkdir()
    (place / "their_views.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(place)
    importlib.invalidate_caches()
    return "their_views:FORMAT"


def test_a_format_of_somebody_else_trains_and_is_evaluated(theirs, tmp_path):
    draw = np.random.default_rng(0)
    rows = [
        f"u{draw.integers(30)}|v{draw.integers(20)}|{draw.integers(90)}|{draw.integers(9)}|{draw.integers(2)}"
        for _ in range(1500)
    ]
    data = tmp_path / "log"
    data.mkdir()
    (data / "all.bars").write_text("\n".join(["who|what|seconds|watched|liked", *rows]) + "\n")
    out = tmp_path / "run"
    settings = [*SMALL, "training.epochs=1"]
    counterpoint.train("gradcraft", data=data, format=theirs, settings=settings, out=out)
    result = counterpoint.evaluate(out)
    assert {"liked/auc", "long/gauc"} <= result["metrics"].keys()
    with pytest.raises(UsageError, match="no log found, looked for"):
        counterpoint.prepare(data, recipe="gradcraft", settings=settings)


def test_every_format_is_called_as_its_file():
    assert {name: FORMATS.named(name).name for name in FORMATS.names} == {
        name: name for name in FORMATS.names
    }
    assert "table" in FORMATS
    assert list(FORMATS)[-1].own
