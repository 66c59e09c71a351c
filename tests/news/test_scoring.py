import numpy as np
import pytest
import torch

from counterpoint.encoders.loading import load_tokenizer
from counterpoint.news import baselines, scoring
from counterpoint.news.baselines import content_scores, encode_contents
from counterpoint.news.data.store import UNKNOWN, Store
from counterpoint.news.features import FeatureReader
from counterpoint.news.models.building import fresh, load, save
from counterpoint.news.models.texts import untrained_titles
from counterpoint.news.scoring import context_of, encode_articles, features_of, score_impressions

MOST = 5
READERS = {
    "additive": {},
    "self_attention": {"heads": 4},
    "recurrent": {},
    "hierarchical": {},
    "everyone": {},
}


@pytest.fixture
def make_model(simulated, make_recipe):
    def make(store=simulated, **sections):
        recipe = make_recipe(**sections)
        torch.manual_seed(0)
        model = fresh(recipe, store).eval()
        torch.nn.init.normal_(model.reader.cold)
        return model, recipe

    return make


@pytest.fixture
def shown(simulated):
    return simulated.impressions(simulated.split("test"))


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (scoring, baselines):
        monkeypatch.setattr(module, "_ARTICLES", 3)
        monkeypatch.setattr(module, "_CANDIDATES", 5)
    monkeypatch.setattr(scoring, "_READERS", 2)


def encoded(encoder, store, articles):
    """The vectors of titles, each encoded by itself."""
    tokens, _, lengths = store.titles(articles)
    titles = np.split(tokens.astype(np.int64), np.cumsum(lengths)[:-1])
    bert = encoder.texts["title"].model
    return torch.stack(
        [bert(input_ids=torch.tensor(title[None])).last_hidden_state[0, 0] for title in titles]
    )


@torch.no_grad()
def naive_scores(model, store, shown):
    """Encode history and candidates of every impression anew and follow equations 1 and 2."""
    scores = []
    for row in range(len(shown)):
        candidates = shown.candidates[shown.offsets[row] : shown.offsets[row + 1]]
        history, _ = store.histories(shown.history[row : row + 1], MOST)
        reader = model.reader.cold
        if len(history):
            clicked = model.score.articles(encoded(model.articles, store, history))
            logits = (
                torch.tanh(clicked @ model.reader.attention.project.weight.T) @ model.reader.attention.query
            )
            reader = torch.softmax(logits, 0) @ clicked
        reader = model.score.readers(reader[None])[0]
        scores.append(model.score.articles(encoded(model.articles, store, candidates)) @ reader)
    return torch.cat(scores).numpy()


def scores_of(model, recipe, store, shown, context=None):
    history, _ = store.histories(shown.history, MOST)
    articles = np.concatenate((shown.candidates, history))
    index = encode_articles(model, features_of(model, recipe, store), articles)
    return score_impressions(model, index, store, shown, MOST, context)


@pytest.mark.parametrize("score", ["dot", "scaled_cosine"])
def test_scores_are_those_of_encoding_every_impression_anew(score, make_model, simulated, shown, request):
    few = simulated.impressions(shown.rows[:25])
    model, recipe = make_model(click={"score": score})
    expected = naive_scores(model, simulated, few)
    lengths = simulated.histories(few.history, MOST)[1]
    assert (lengths == 0).any()
    assert (lengths == MOST).any()
    for blocks in ("one block", "small blocks"):
        if blocks == "small blocks":
            request.getfixturevalue("small_blocks")
        scores = scores_of(model, recipe, simulated, few)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_encoder_scores_each_impression_as_if_it_were_alone(
    kind, make_model, simulated, shown, small_blocks
):
    """The articles of one impression, one reader, no padding; the reader's key and the context looked up."""
    store = Store(simulated.path)
    model, recipe = make_model(
        store,
        tasks=["click"],
        reader={"kind": kind, **READERS[kind]},
        articles={"fields": ["title", "category", "entities"]},
        click={"context": ["age", "clicks"]},
    )
    torch.nn.init.normal_(model.context.output.weight)
    if kind == "hierarchical":
        torch.nn.init.normal_(model.reader.topic.weight[1:])
        torch.nn.init.normal_(model.reader.subtopic.weight[1:])
    few = store.impressions(shown.rows[:15])
    context, features = context_of(recipe, store, "test"), features_of(model, recipe, store)
    keys = store.reader_keys().view(np.int64)
    expected = []
    for row in range(len(few)):
        candidates = few.candidates[few.offsets[row] : few.offsets[row + 1]]
        history, _ = store.histories(few.history[row : row + 1], MOST)
        own = np.unique(np.concatenate((candidates, history)))
        own = own[np.argsort(store.title_lengths()[own], kind="stable")].tolist()
        with torch.no_grad():
            pack = features.read(np.array(own))
            known = model.known(model.score.articles(model.articles(pack).articles), (pack,))
            clicked = torch.tensor([[own.index(article) for article in history]], dtype=torch.long)
            readers = model.read(known, clicked, torch.tensor([keys[few.reader[row]]]))
            told = torch.from_numpy(context.of(candidates, np.full(len(candidates), few.time[row])))
            ranked = torch.tensor([[own.index(article) for article in candidates]])
            expected.append(model.match(known, readers, ranked, told[None])[0])
    scores = scores_of(model, recipe, store, few, context)
    np.testing.assert_allclose(scores, torch.cat(expected).numpy(), rtol=1e-4, atol=1e-5)


def test_scores_do_not_depend_on_the_other_impressions(make_model, simulated, shown):
    model, recipe = make_model()
    every = scores_of(model, recipe, simulated, shown)
    chosen = np.array([17, 3, 3, 8])
    some = simulated.impressions(shown.rows[chosen])
    expected = [every[shown.offsets[row] : shown.offsets[row + 1]] for row in chosen]
    mine = scores_of(model, recipe, simulated, some)
    np.testing.assert_allclose(mine, np.concatenate(expected), rtol=1e-4, atol=1e-5)


@pytest.fixture
def alike(mind_folder, store_of):
    """Three readers; the first two have the same history, are shown the same and come again the next day."""
    rows = [
        (day, "N1 N2" if reader < 2 else "N1", "N3-1 N4-0" if reader % 2 == 0 else "N4-0 N3-1")
        for day in (11, 12, 13)
        for reader in range(3)
    ]
    behaviors = [
        f"{row}\tU{row % 3}\t11/{day}/2019 8:00:00 AM\t{history}\t{candidates}"
        for row, (day, history, candidates) in enumerate(rows)
    ]
    return store_of(mind_folder("same", behaviors=behaviors))


def test_readers_with_one_history_get_one_score_for_one_article(make_model, alike):
    model, recipe = make_model(alike, tasks=["click"])
    shown = alike.impressions(np.arange(3))
    first, second, third = scores_of(model, recipe, alike, shown).reshape(3, 2)
    assert first.tolist() == second[::-1].tolist()
    assert first.tolist() != third.tolist()


def test_a_model_that_knows_readers_tells_two_with_one_history_apart(make_model, alike):
    model, recipe = make_model(alike, tasks=["click"], reader={"kind": "recurrent"})
    first, second, third, again, *_ = scores_of(
        model, recipe, alike, alike.impressions(np.array([0, 1, 2, 3]))
    ).reshape(4, 2)
    assert first.tolist() != second[::-1].tolist()
    assert first.tolist() != third.tolist()
    assert first.tolist() == again.tolist()


def contents_of(recipe, store, articles):
    encoder = untrained_titles(recipe)
    return encoder, encode_contents(encoder, FeatureReader(store, recipe), articles)


def test_content_floor_is_the_cosine_of_the_mean_history(make_recipe, simulated, shown):
    few = simulated.impressions(shown.rows[:25])
    every = np.concatenate((few.candidates, simulated.histories(few.history, MOST)[0]))
    encoder, contents = contents_of(make_recipe(), simulated, every)
    scores = content_scores(contents, simulated, few, MOST)
    assert scores.dtype == np.float32
    expected = []
    with torch.no_grad():
        for row in range(len(few)):
            candidates = few.candidates[few.offsets[row] : few.offsets[row + 1]]
            history, _ = simulated.histories(few.history[row : row + 1], MOST)
            mean = encoded(encoder, simulated, history).mean(0) if len(history) else torch.zeros(32)
            expected.append(
                torch.nn.functional.cosine_similarity(encoded(encoder, simulated, candidates), mean[None])
            )
    np.testing.assert_allclose(scores, torch.cat(expected).numpy(), rtol=1e-4, atol=1e-5)
    sizes = np.diff(few.offsets)
    cold = np.repeat(simulated.histories(few.history, MOST)[1] == 0, sizes)
    assert cold.any()
    assert not scores[cold].any()


def test_the_content_floor_of_cold_readers_alone_is_zero(make_recipe, simulated, shown):
    cold = shown.rows[simulated.histories(shown.history, MOST)[1] == 0][:3]
    few = simulated.impressions(cold)
    _, contents = contents_of(make_recipe(), simulated, few.candidates)
    assert content_scores(contents, simulated, few, MOST).tolist() == [0.0] * len(few.candidates)


def test_unknown_candidates_are_encoded_as_the_unknown_article(make_model, simulated):
    model, recipe = make_model()
    features = features_of(model, recipe, simulated)
    index = encode_articles(model, features, np.array([UNKNOWN, 5, 5, 9]))
    assert sorted(index.articles.tolist()) == [UNKNOWN, 5, 9]
    assert (index.place >= 0).sum() == 3
    assert index.articles[index.place[[UNKNOWN, 5, 9]]].tolist() == [UNKNOWN, 5, 9]
    assert len(index.known.vectors) == len(index.predictions["category"]) == 3
    assert len(index.predictions["entities"]) == simulated.title_lengths()[[UNKNOWN, 5, 9]].sum()


@pytest.mark.parametrize("score", ["dot", "scaled_cosine"])
def test_a_saved_model_scores_the_same(score, make_model, simulated, shown, tmp_path):
    model, recipe = make_model(click={"score": score})
    save(model, simulated, load_tokenizer(recipe.encoder.name), tmp_path)
    again = load(tmp_path, recipe, simulated)
    assert not again.training
    first, second = (scores_of(each, recipe, simulated, shown) for each in (model, again))
    assert np.array_equal(first, second)
