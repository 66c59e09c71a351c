"""A little news site that tests write as an EB-NeRD bundle: a few rows with everything that is odd in it."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

MOMENT = pl.Datetime("us")
ARTICLES = {
    "article_id": pl.Int32(),
    "title": pl.String(),
    "subtitle": pl.String(),
    "body": pl.String(),
    "published_time": MOMENT,
    "ner_clusters": pl.List(pl.String),
    "entity_groups": pl.List(pl.String),
    "category": pl.Int16(),
    "subcategory": pl.List(pl.Int16),
    "category_str": pl.String(),
    "total_inviews": pl.Int32(),
    "total_pageviews": pl.Int32(),
    "total_read_time": pl.Float32(),
    "sentiment_score": pl.Float32(),
    "sentiment_label": pl.String(),
}
BEHAVIORS = {
    "impression_id": pl.UInt32(),
    "article_id": pl.Int32(),
    "impression_time": MOMENT,
    "article_ids_inview": pl.List(pl.Int32),
    "article_ids_clicked": pl.List(pl.Int32),
    "user_id": pl.UInt32(),
    "gender": pl.Int8(),
    "next_read_time": pl.Float32(),
    "next_scroll_percentage": pl.Float32(),
}
UNLABELLED = {
    name: kind for name, kind in BEHAVIORS.items() if name != "article_ids_clicked" and "next" not in name
} | {"is_beyond_accuracy": pl.Boolean()}
HISTORY = {
    "user_id": pl.UInt32(),
    "impression_time_fixed": pl.List(MOMENT),
    "scroll_percentage_fixed": pl.List(pl.Float32),
    "article_id_fixed": pl.List(pl.Int32),
    "read_time_fixed": pl.List(pl.Float32),
}


def article(number: int, title: str | None, **columns: object) -> dict:
    return dict.fromkeys(ARTICLES) | {"article_id": number, "title": title} | columns


ARTICLE_ROWS = [
    article(
        101,
        "Folketinget stemmer om broen",
        subtitle="Et flertal er klar",
        body="Broen skal bygges nu.",
        published_time=datetime(2023, 5, 17, 6),
        ner_clusters=["Folketinget", "Anna Holm", "Folketinget"],
        entity_groups=["ORG", "PER", "ORG"],
        category=118,
        category_str="nyheder",
        subcategory=[133, 127],
        sentiment_label="Positive",
        sentiment_score=0.75,
        total_inviews=10_000,
    ),
    article(
        102,
        "Anna Holm vinder etapen",
        subtitle="",
        body="Etapen var lang.",
        ner_clusters=["Anna Holm"],
        entity_groups=["PER"],
        category=142,
        category_str="sport",
        subcategory=[196],
        sentiment_label="Negative",
        sentiment_score=0.5,
    ),
    article(
        103, "Fem supper til kolde aftener", category=457, sentiment_label="Neutral", sentiment_score=0.9
    ),
    article(104, None, category=118, category_str="nyheder", subcategory=[]),
    article(105, "Stormen lukker havnen", category=118, category_str="nyheder", sentiment_label="Negative"),
    article(106, "Med nattog til havet", category_str="rejser", ner_clusters=[], entity_groups=[]),
    article(107, "Sent maal redder holdet", category=142, category_str="sport"),
]


def shown(
    number: int, day: int, hour: int, reader: int, inview: list[int], clicked: list[int], **columns: object
) -> dict:
    """An impression of May 2023."""
    return {
        "impression_id": number,
        "impression_time": datetime(2023, 5, day, hour),
        "user_id": reader,
        "article_ids_inview": inview,
        "article_ids_clicked": clicked,
        **columns,
    }


# Two days from 7 to 7; the second one, in which reader 3 comes at night, validates.
TRAIN_ROWS = [
    shown(11, 18, 9, 1, [101, 102, 103, 104, 105], [102], next_read_time=30.0),
    shown(12, 18, 23, 2, [103, 104, 105, 106, 107], [107, 103]),
    shown(13, 19, 6, 1, [102, 103, 104, 105, 106], [104, 104]),
    shown(14, 19, 8, 2, [101, 102, 103, 106, 107], [101]),
    shown(15, 20, 3, 3, [101, 999, 102, 103, 107], [999]),
]
VALIDATION_ROWS = [
    shown(21, 20, 8, 1, [101, 105, 106, 107, 102], [105]),
    shown(22, 20, 9, 4, [101, 105, 106, 107, 103], [101, 106]),
]
BEYOND = [101, 102, 103, 104, 105, 106, 107] * 3
TEST_ROWS = [
    shown(31, 27, 8, 1, [101, 102, 103, 104, 105], []),
    shown(0, 27, 9, 1, BEYOND, [], is_beyond_accuracy=True),
    shown(32, 27, 10, 5, [106, 107, 101, 102, 103], []),
    shown(0, 27, 11, 5, BEYOND, [], is_beyond_accuracy=True),
    shown(32, 27, 12, 1, [106, 107, 101, 102, 105], [], is_beyond_accuracy=False),
    shown(0, 27, 13, 1, BEYOND, [], is_beyond_accuracy=True),
]


def read(reader: int, *clicks: tuple[int, float | None, float | None]) -> dict:
    """A history: article, seconds and percent of each click, an hour apart."""
    start = datetime(2023, 5, 1)
    return {
        "user_id": reader,
        "impression_time_fixed": [start + timedelta(hours=place) for place in range(len(clicks))],
        "article_id_fixed": [article for article, _, _ in clicks],
        "read_time_fixed": [seconds for _, seconds, _ in clicks],
        "scroll_percentage_fixed": [percent for _, _, percent in clicks],
    }


TRAIN_HISTORIES = [
    read(1, (101, 10.0, 100.0), (999, 7.0, 7.0), (103, None, 50.0), (105, 0.0, None)),
    read(2, (106, 3.5, 20.0)),
]
VALIDATION_HISTORIES = [read(1, (105, 1.0, 2.0), (102, 5.0, 6.0)), read(4)]
TEST_HISTORIES = [read(5, (107, 60.0, 80.0)), read(1, (104, 2.0, 3.0))]


def write_bundle(
    folder: Path,
    *,
    articles: list[dict] | None = ARTICLE_ROWS,
    train: list[dict] | None = TRAIN_ROWS,
    validation: list[dict] | None = VALIDATION_ROWS,
    test: list[dict] | None = None,
    histories: list[dict] = TRAIN_HISTORIES,
) -> Path:
    """Write a bundle; None leaves a file or a folder away."""
    folder.mkdir(parents=True, exist_ok=True)
    if articles is not None:
        pl.DataFrame(articles, schema=ARTICLES).write_parquet(folder / "articles.parquet")
    for name, rows, kind, known in (
        ("train", train, BEHAVIORS, histories),
        ("validation", validation, BEHAVIORS, VALIDATION_HISTORIES),
        ("test", test, UNLABELLED, TEST_HISTORIES),
    ):
        if rows is not None:
            (folder / name).mkdir(exist_ok=True)
            pl.DataFrame(rows, schema=kind).write_parquet(folder / name / "behaviors.parquet")
            pl.DataFrame(known, schema=HISTORY).write_parquet(folder / name / "history.parquet")
    return folder
