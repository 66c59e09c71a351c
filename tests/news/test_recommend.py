"""Recommendations by models of every kind, new articles given by title among them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from counterpoint.api import read_recipe
from counterpoint.capabilities import Question
from counterpoint.encoders.loading import load_tokenizer
from counterpoint.errors import UsageError
from counterpoint.news import recommend
from counterpoint.news.models.building import fresh
from counterpoint.news.recommend import NewsRecommender
from counterpoint.news.scoring import (
    articles_of,
    context_of,
    encode_articles,
    features_of,
    score_impressions,
)
from counterpoint.simulation.news.mind import simulate
from news_stores import prepared_store

SMALL = [
    "training.precision=fp32",
    "data.max_history=6",
    "articles.category_size=8",
    "articles.entity_size=10",
    "articles.article_size=12",
]
WORDS = ["encoder.size=20", "encoder.heads=4"]
KINDS = {
    "mtrec": [],
    "mtrec-amf": [],
    "mtrec-bert-base": [],
    "nrms": [*WORDS, "reader.heads=4"],
    "naml": WORDS,
    "lstur": WORDS,
    "hierec": WORDS,
    "popularity": [],
    "ebnerd-clicks": [],
}
ONE_VECTOR = ["mtrec", "mtrec-amf", "mtrec-bert-base", "nrms", "naml", "lstur"]
SUMS = ["mtrec", "mtrec-amf", "mtrec-bert-base", "naml"]
NEW = {"new": "Berlin opens a museum of maps", "newer": "Late goal saves the home team"}


@pytest.fixture(scope="module")
def store(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommend")
    simulate(folder / "site", readers=150, articles=120, days=4, seed=4, candidates=(4, 10))
    return prepared_store(folder / "site", folder / "store", load_tokenizer(str(tiny_encoder)))


@pytest.fixture
def made(store, tiny_encoder):
    """A model of a built-in recipe whose every parameter was moved, and its recommender."""

    def make(name, on=store):
        recipe = read_recipe(name, [f"encoder.name={tiny_encoder}", *SMALL, *KINDS[name]])
        torch.manual_seed(0)
        model = fresh(recipe, on).eval()
        with torch.no_grad():
            own = (model.reader, model.score, *(() if model.context is None else (model.context,)))
            for module in own:
                for key, value in module.named_parameters():
                    if key != "log_scale":
                        value.add_(torch.randn_like(value) * 0.3)
            if hasattr(model.reader, "embedding"):
                model.reader.embedding.weight[0] = 0
            for table in ("topic", "subtopic"):
                if hasattr(model.reader, table):
                    getattr(model.reader, table).weight[0] = 0
        return NewsRecommender(model, recipe, on, load_tokenizer(str(tiny_encoder))), model, recipe

    return make


def ids(store, rows):
    return [store.articles["article"][int(row)] for row in rows]


def an_impression(store, most=6, clicks=3):
    """A test impression with a history of that many clicks."""
    rows = store.split("test")
    shown = store.impressions(rows)
    _, lengths = store.histories(shown.history, 99)
    row = int(np.flatnonzero(lengths == clicks)[0])
    one = store.impressions(rows[row : row + 1])
    return one, store.histories(one.history, most)[0]


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_those_of_an_impression_of_a_stranger_at_the_end_of_the_data(name, made, store):
    recommender, model, recipe = made(name)
    one, history = an_impression(store)
    end = max(int(store.impressions(store.split(split)).time.max()) for split in ("train", "test")) + 1
    late = replace(one, time=np.array([end]))
    model.readers_met = torch.empty(0, dtype=torch.long)
    index = encode_articles(model, features_of(model, recipe, store), articles_of(store, one, recipe))
    expected = score_impressions(model, index, store, late, 6, context_of(recipe, store, "test"))
    told = recommender.recommend(ids(store, history), ids(store, one.candidates), top=99)
    wanted = dict(zip(ids(store, one.candidates), expected.tolist(), strict=True))
    assert len(told) == len(wanted)
    assert len(set(wanted.values())) > 1
    for recommendation in told:
        assert recommendation.score == pytest.approx(wanted[recommendation.article], rel=1e-4, abs=1e-5)
    scores = [recommendation.score for recommendation in told]
    assert scores == sorted(scores, reverse=True)
    titles = dict(zip(store.articles["article"], store.articles["title"], strict=True))
    assert all(recommendation.title == titles[recommendation.article] for recommendation in told)


@pytest.mark.parametrize("name", KINDS)
def test_new_articles_are_ranked_beside_those_of_the_store(name, made, store):
    recommender, _, _ = made(name)
    _, history = an_impression(store)
    candidates = ["new", *ids(store, [5, 9]), "newer"]
    told = recommender.recommend(ids(store, history), candidates, articles=NEW, top=99)
    assert {one.article for one in told} == set(candidates)
    assert {one.article: one.title for one in told}.items() >= NEW.items()
    assert all(np.isfinite(one.score) for one in told)
    scores = {one.article: one.score for one in told}
    # An article is what it is, whatever stands beside it.
    alone = recommender.recommend(ids(store, history), ["newer"], articles=NEW)
    assert alone[0].score == pytest.approx(scores["newer"], rel=1e-4, abs=1e-5)
    if name in ("popularity", "ebnerd-clicks"):
        assert scores["new"] == scores["newer"]
    else:
        assert scores["new"] != pytest.approx(scores["newer"], abs=1e-6)
    # And so it is in a history, where HieRec counts only what has a topic.
    read = recommender.recommend(["new"], ids(store, [5]), articles=NEW)
    assert [reason.title for reason in read[0].because] == (
        [] if name in ("popularity", "hierec") else [NEW["new"]]
    )


@pytest.mark.parametrize("name", ["mtrec", "mtrec-bert-base", "nrms"])
def test_a_new_article_with_a_known_title_scores_as_the_known_one(name, made, store):
    recommender, _, _ = made(name)
    _, history = an_impression(store)
    (known,) = ids(store, [7])
    title = store.articles["title"][7]
    told = recommender.recommend(ids(store, history), [known, "copy"], articles={"copy": title})
    assert told[0].score == pytest.approx(told[1].score, rel=1e-5)


def test_a_new_article_has_neither_category_nor_age_nor_clicks(made, store):
    """HieRec meets it with the overall interest alone; popularity has nothing to tell of it."""
    recommender, model, _ = made("popularity")
    (new,) = recommender.recommend([], ["new"], articles=NEW)
    with torch.no_grad():
        assert new.score == pytest.approx(model.context(torch.zeros(1, 2)).item(), abs=1e-6)

    recommender, model, recipe = made("hierec")
    _, history = an_impression(store)
    (new,) = recommender.recommend(ids(store, history), ["new"], articles=NEW)
    features = features_of(model, recipe, store)
    pack, _ = features.of_titles([NEW["new"]], load_tokenizer(recipe.encoder.name))
    index = encode_articles(model, features, history)
    places = torch.from_numpy(index.place[history])[None]
    with torch.no_grad():
        overall = model.read(index.known, places, torch.zeros(1, dtype=torch.long)).vectors[0]
        vector = model.articles(pack).articles[0]
    assert new.score == pytest.approx((0.15 * overall @ vector).item(), rel=1e-4)


@pytest.mark.parametrize("name", ONE_VECTOR)
def test_attention_and_contributions_of_the_clicks_sum_to_the_whole(name, made, store):
    recommender, _, _ = made(name)
    _, history = an_impression(store)
    clicked = ids(store, history)
    told = recommender.recommend(clicked, [*ids(store, range(1, 30)), "new"], articles=NEW, top=99)
    assert len(told) == 30
    for one in told:
        assert {reason.article for reason in one.because} == set(clicked)
        assert sum(reason.attention for reason in one.because) == pytest.approx(1, abs=1e-5)
        if name in SUMS:
            total = sum(reason.contribution for reason in one.because)
            assert total == pytest.approx(one.score, rel=1e-4, abs=1e-4)
        else:
            assert {reason.contribution for reason in one.because} == {None}
        attention = [reason.attention for reason in one.because]
        assert attention == sorted(attention, reverse=True)


def test_a_click_contributes_its_attention_times_its_likeness(made, store):
    recommender, model, recipe = made("mtrec")
    _, history = an_impression(store)
    (one,) = recommender.recommend(ids(store, history), ids(store, [5]))
    index = encode_articles(model, features_of(model, recipe, store), np.append(history, 5))
    with torch.no_grad():
        vectors = index.known.vectors
        clicked = vectors[index.place[history]]
        weights = torch.softmax(model.reader.attention.logits(clicked), 0)
        parts = weights * (clicked @ vectors[index.place[5]]) * model.score.log_scale.exp()
    wanted = dict(zip(ids(store, history), zip(weights.tolist(), parts.tolist(), strict=True), strict=True))
    for reason in one.because:
        attention, contribution = wanted[reason.article]
        assert reason.attention == pytest.approx(attention, rel=1e-4)
        assert reason.contribution == pytest.approx(contribution, rel=1e-3, abs=1e-4)


def test_no_click_speaks_for_what_everyone_is_shown(made, store):
    recommender, _, _ = made("popularity")
    _, history = an_impression(store)
    told = recommender.recommend(ids(store, history), ids(store, [5, 6]))
    assert [one.because for one in told] == [(), ()]


@pytest.mark.parametrize("name", KINDS)
def test_a_reader_without_history_is_told_of_no_clicks(name, made, store):
    recommender, _, _ = made(name)
    told = recommender.recommend(articles=NEW, top=3)
    assert len(told) == 3
    assert all(one.because == () for one in told)
    assert all(np.isfinite(one.score) for one in told)


def test_only_the_most_recent_clicks_count_and_none_is_recommended_again(made, store):
    recommender, _, _ = made("mtrec")
    live = ids(store, store.shown_on_last_day())
    history = live[:8]
    told = recommender.recommend(history, top=999)
    assert {one.article for one in told} == set(live) - set(history)
    recent = recommender.recommend(history[-6:], [one.article for one in told], top=999)
    assert [(one.article, one.score) for one in recent] == [
        (one.article, pytest.approx(one.score, rel=1e-5)) for one in told
    ]
    assert {reason.article for one in told for reason in one.because} <= set(history[-6:])
    with_new = recommender.recommend(history, articles=NEW, top=999)
    assert {one.article for one in with_new} == {one.article for one in told} | NEW.keys()


def test_encoding_the_articles_is_told_and_blocks_change_no_score(made, store, monkeypatch):
    recommender, _, _ = made("mtrec")
    live = ids(store, store.shown_on_last_day())
    whole = recommender.recommend(live[:3], top=999)
    monkeypatch.setattr(recommend, "_ARTICLES", 7)
    told = []
    blocks = recommender.answers(
        Question(history=live[:3]), top=999, progress=lambda *said: told.append(said)
    )
    assert [(one.article, pytest.approx(one.score, rel=1e-4)) for one in blocks] == [
        (one.article, one.score) for one in whole
    ]
    assert told[0] == ("encoding articles", 7, len(live))
    assert told[-1] == ("encoding articles", len(live), len(live))


def test_a_candidate_named_twice_is_ranked_once(made, store):
    recommender, _, _ = made("mtrec")
    first, second = ids(store, [5, 6])
    assert len(recommender.recommend([], [first, second, first])) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"history": ["nowhere"]}, r"no article 'nowhere' in .*check the id, or give its title"),
        ({"candidates": ["nowhere"]}, r"no article 'nowhere' in "),
        ({"candidates": []}, r"^candidates: there is nothing to rank; name some\."),
        ({"top": 0}, r"^top: 0 is less than one; ask for at least 1 article\."),
    ],
)
def test_what_cannot_be_ranked_is_one_sentence(given, message, made):
    recommender, _, _ = made("mtrec")
    with pytest.raises(UsageError, match=message):
        recommender.recommend(**given)


@pytest.mark.parametrize("name", ["mtrec", "popularity"])
def test_data_without_any_clicks_can_be_recommended_from(
    name, made, store, mind_folder, tmp_path, tiny_encoder
):
    """A test folder alone: its clicks are not told, its articles are there all the same."""
    _, model, recipe = made(name)
    mind_folder("site/test", behaviors=["7\tU1\t11/15/2019 1:00:00 PM\tN1\tN2 N3 N4"])
    tokenizer = load_tokenizer(str(tiny_encoder))
    alone = prepared_store(tmp_path / "site", tmp_path / "alone", tokenizer)
    alone.use_labels(dict(model.vocabulary.labels))
    told = NewsRecommender(model, recipe, alone, tokenizer).recommend(["N1"])
    assert {one.article for one in told} == {"N2", "N3", "N4"}
