import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.encoders.tokens import encode
from counterpoint.errors import BadRowError, CounterpointError, UsageError
from counterpoint.news.data.entities import mentioned
from counterpoint.news.data.sentiment import sentiment_of
from counterpoint.news.data.store import UNKNOWN_TIME
from samples import ARTICLES, entity, news_row

IMPRESSIONS = [
    {
        "impression": day,
        "reader": f"r{day % 2}",
        "time": f"2026-03-0{day}T08:00:00",
        "history": ["a1", "x", "a2"],
        "candidates": ["a1", "a2", "a3"],
        "clicked": ["a3"],
    }
    for day in (1, 2, 3)
]


@pytest.fixture
def logs(tmp_path):
    """Write own logs as JSON lines."""

    def write(articles, impressions=IMPRESSIONS, name="logs"):
        folder = tmp_path / name
        folder.mkdir()
        for file, rows in (("articles", articles), ("impressions", impressions)):
            (folder / f"{file}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return folder

    return write


def articles(**columns):
    """Three articles; each column has three values."""
    return [
        {"article": f"a{row + 1}", "title": f"Title {row}"}
        | {name: values[row] for name, values in columns.items()}
        for row in range(3)
    ]


def test_texts_are_tokenised_one_field_at_a_time(logs, prepared, tokenizer):
    bodies = ["short", None, "a body of many words " * 2_000]
    store = prepared(logs(articles(body=bodies, abstract=["", None, " "])), max_text_tokens=7)

    tokens, lengths = store.texts("body", np.array([3, 2, 1, 0]))
    expected = [tokenizer.encode([text or ""], 7)[0].ids for text in (bodies[2], None, bodies[0], None)]
    assert np.split(tokens, np.cumsum(lengths)[:-1])[0].tolist() == expected[0]
    assert tokens.tolist() == [token for ids in expected for token in ids]
    assert lengths.tolist() == [7, 2, 3, 2]
    assert store.counts["truncated bodies"] == 1
    assert store.counts["truncated titles"] == store.counts["truncated abstracts"] == 0
    titles, title_lengths = store.texts("title", np.arange(4))
    assert titles.tolist() == store.titles(np.arange(4))[0].tolist()
    assert title_lengths.tolist() == store.title_lengths().tolist()


def test_a_text_that_no_article_has_is_not_stored_and_named(logs, prepared):
    store = prepared(logs(articles(abstract=["", None, " "], body=["b", "b", "b"])))
    assert store.manifest["texts"] == ["title", "body"]
    assert [store.has_text(field) for field in ("title", "subtitle", "abstract", "body")] == [
        True, False, False, True,
    ]  # fmt: skip
    assert not list(store.path.glob("arrays/*abstract*"))
    with pytest.raises(CounterpointError) as caught:
        store.texts("abstract", np.array([1]))
    assert "articles.jsonl" in str(caught.value)
    assert "has the text 'abstract', only title and body; leave it out of the recipe" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.sampled_from(["a", "tram", "supercalifragilistic", "Ærø", "x" * 150, "\n", "  "])),
    times=st.integers(1, 40),
    most=st.integers(3, 12),
)
def test_cutting_a_long_text_unread_changes_no_token(words, times, most, tokenizer):
    text = " ".join(words) * times
    assert encode(tokenizer, [text, "end"], most) == tokenizer.encode([text, "end"], most)


def test_a_long_text_of_few_tokens_is_read_whole(tokenizer):
    text = "word" + " " * 5_000 + "last"
    assert encode(tokenizer, [text], 6) == tokenizer.encode([text], 6)
    assert len(encode(tokenizer, [text], 6)[0].ids) == 4


def test_entities_of_title_and_abstract_are_listed_once_in_order(mind_folder, prepared):
    def row(number, title_entities, abstract_entities):
        plain = news_row(*ARTICLES[number], title_entities)
        return plain.removesuffix("[]") + json.dumps(abstract_entities)

    nowhere, nameless = entity("P", "Q7", "Nobody Here", None), entity("G", "", "Oslo", None)
    holm = entity("P", "Q1", "Ada Holm", 0)
    news = [
        row(0, [nowhere, nameless], [holm, nowhere]),
        row(1, [holm, holm], [entity("G", "Q64", "Berlin", 9_999), nameless]),
        *(news_row(*one, []) for one in ARTICLES[2:]),
    ]
    store = prepared(mind_folder("entities", news=news))

    assert store.entities == ["Q7", "Oslo", "Q1", "Q64"]
    numbers, lengths = store.entity_lists(np.array([2, 0, 1, 3]))
    assert numbers.tolist() == [2, 3, 1, 0, 1, 2]
    assert lengths.tolist() == [3, 0, 3, 0]
    assert store.counts["entities"] == 4
    assert store.counts["entity spans lost"] == 2  # the tags come from titles alone, as ever

    store.use_labels({"entities": ["Q64", "Q7", "Q9"], "category": ["sports"]})
    numbers, lengths = store.entity_lists(np.array([2, 0, 1, 3]))
    assert numbers.tolist() == [0, 1]
    assert lengths.tolist() == [1, 0, 1, 0]
    assert store.entities == ["Q64", "Q7", "Q9"]
    assert store.labels["category"] == ["sports"]
    assert store.labels["sentiment"] == ["negative", "neutral", "positive"]
    assert store.labels_of("category")[:4].tolist() == [-100, -100, 0, -100]


def test_malformed_abstract_entities_are_named(mind_folder, prepared):
    news = [news_row(*row) for row in ARTICLES]
    news[3] = news[3].removesuffix("[]") + '[{"Label": "x"}]'
    folder = mind_folder("mind", news=news)
    with pytest.raises(BadRowError, match=r"line 4, field 'abstract_entities': 0.SurfaceForms: Field req"):
        prepared(folder)
    assert prepared(folder, on_bad_row="skip").counts["articles"] == 11


def test_entities_without_an_id_go_by_their_first_surface_form():
    raw = [
        {"SurfaceForms": ["", "Second"]},
        {"SurfaceForms": ["First", "Second"], "WikidataId": None},
        {"SurfaceForms": []},
        {"SurfaceForms": ["X"], "WikidataId": "Q1"},
        {"SurfaceForms": ["First"]},
    ]
    assert mentioned(json.dumps(raw)) == ["Second", "First", "Q1"]
    assert mentioned(None) == mentioned("") == mentioned("[]") == []


def test_entity_vectors_come_with_their_ids(small_mind, prepared):
    assert prepared(small_mind, "none").entity_vectors() is None
    (small_mind / "entity_embedding.vec").write_text("Q64\t0.5\t-1\nQ1\t1\t2\n")
    ids, vectors = prepared(small_mind).entity_vectors()
    assert ids == ["Q64", "Q1"]
    assert vectors.tolist() == [[0.5, -1.0], [1.0, 2.0]]
    assert vectors.dtype == np.float32


def test_given_sentiments_are_names_or_numbers(logs, prepared):
    store = prepared(logs(articles(sentiment=["Negative", 0.05, None])))
    assert store.labels_of("sentiment").tolist() == [-100, 0, 2, -100]
    np.testing.assert_array_equal(store.sentiment_scores(), np.float32([np.nan, -1, 0.05, np.nan]))
    store = prepared(logs(articles(sentiment=["-0.049", "POSITIVE ", -0.05]), name="more"), "more-store")
    assert store.labels_of("sentiment").tolist() == [-100, 1, 2, 0]
    assert [store.counts[f"sentiment {name}"] for name in store.labels["sentiment"]] == [1, 1, 1]
    assert store.counts["sentiment unknown"] == 0


@pytest.mark.parametrize("value", ["glad", 1.5, -2, "nan", [1]])
def test_another_sentiment_is_a_bad_row(value, logs, prepared):
    folder = logs(articles(sentiment=["neutral", value, None]))
    with pytest.raises(BadRowError) as caught:
        prepared(folder)
    assert str(caught.value) == (
        f"{folder / 'articles.jsonl'}, line 2, field 'sentiment': {value!r} is no sentiment; write negative, "
        "neutral, positive or a number in [-1, 1]."
    )


def test_vader_reads_the_titles(logs, prepared):
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    titles = ["A wonderful happy win", "Terrible deadly crash", "The council met"]
    store = prepared(
        logs(articles(title=titles, sentiment=["negative", "positive", "positive"])), sentiment="vader"
    )
    expected = [SentimentIntensityAnalyzer().polarity_scores(title)["compound"] for title in titles]
    np.testing.assert_array_equal(store.sentiment_scores(), np.float32([np.nan, *expected]))
    assert store.labels_of("sentiment").tolist() == [-100, 2, 0, 1]
    assert store.manifest["sentiment"] == "vader"


def test_vader_has_nothing_to_say_without_titles(tokenizer, small_mind, prepared):
    (small_mind / "news.tsv").unlink()
    store = prepared(small_mind, sentiment="vader", needs_text=False)
    assert set(store.labels_of("sentiment").tolist()) == {-100}


def test_vader_that_is_missing_is_named(small_mind, prepared, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(UsageError, match=r"install it with pip install 'counterpoint\[sentiment\]'\."):
        prepared(small_mind, sentiment="vader")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("score", "name"),
    [(-1, "negative"), (-0.05, "negative"), (-0.0499, "neutral"), (0, "neutral"), (0.05, "positive")],
)
def test_classes_by_the_published_thresholds(score, name):
    assert sentiment_of(score) == name


def test_publication_times_are_microseconds(logs, prepared):
    store = prepared(logs(articles(published=["1970-01-01T00:00:01", None, "1969-12-31T23:59:59+00:00"])))
    assert store.published().tolist() == [UNKNOWN_TIME, 1_000_000, UNKNOWN_TIME, -1_000_000]


def with_values(**columns):
    return [IMPRESSIONS[0] | columns, *IMPRESSIONS[1:]]


def test_own_logs_may_tell_of_the_clicks_of_histories(logs, prepared):
    rows = with_values(history_read_time=[3, 99, None], history_scroll="10 20 30")
    store = prepared(logs(articles(), rows))
    history = store.impressions(np.arange(3)).history
    assert history.tolist() == [0, 1, 2]  # the first reader comes again with the same history, untold
    values = store.history_values("read_time", history[:2], 50)
    np.testing.assert_array_equal(values, np.float32([3, np.nan, np.nan, np.nan]))
    np.testing.assert_array_equal(store.history_values("scroll", history[:1], 1), np.float32([30]))
    assert store.manifest["history values"] == ["read_time", "scroll"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_every_form_tells_the_same_of_clicks(form, logs, prepared):
    import polars as pl

    rows = [row | {"history_read_time": [1.5, None, 2.0]} for row in IMPRESSIONS]
    folder = logs(articles(), rows)
    if form != "jsonl":
        table = pl.DataFrame(rows)
        (folder / "impressions.jsonl").unlink()
        if form == "csv":
            lists = [pl.col(name).list.join(" ") for name in ("history", "candidates", "clicked")]
            table = table.with_columns(*lists, history_read_time=pl.lit("[1.5, null, 2.0]"))
            table.write_csv(folder / "impressions.csv")
        else:
            table.write_parquet(folder / "impressions.parquet")
    store = prepared(folder)
    assert store.history_values("read_time", np.array([0, 1]), 9).tolist() == [1.5, 2, 1.5, 2]
    assert not store.has_history_values("scroll")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([1, 2], "2 numbers for a history of 3 articles; give one for each, or null"),
        ("1 b 2", "'1 b 2' is no list of numbers; give a list with nulls"),
        ([1, 2, "inf"], "is no list of numbers"),
        (5, "5 is no list of numbers"),
    ],
)
def test_values_that_do_not_fit_the_history_are_a_bad_row(value, problem, logs, prepared):
    folder = logs(articles(), with_values(history_scroll=value))
    with pytest.raises(BadRowError) as caught:
        prepared(folder)
    assert str(caught.value).startswith(f"{folder / 'impressions.jsonl'}, line 1, field 'history_scroll': ")
    assert problem in str(caught.value)
