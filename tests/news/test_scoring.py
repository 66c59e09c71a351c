import numpy as np
import pytest
import torch

from counterpoint.news import scoring, workload
from counterpoint.news.data.store import UNKNOWN
from counterpoint.news.models.recommender import build, pretrained_encoder
from counterpoint.news.scoring import content_scores, encode_articles, score_impressions

MOST = 5


@pytest.fixture
def make_model(simulated, make_recipe):
    def make(**sections):
        recipe = make_recipe(**sections)
        torch.manual_seed(0)
        model = build(recipe, simulated.labels, encoder=pretrained_encoder(recipe)).eval()
        torch.nn.init.normal_(model.reader.cold)
        return model

    return make


@pytest.fixture
def shown(simulated):
    return simulated.impressions(simulated.split("test"))


def encoded(model, store, articles):
    """The vectors of articles, each encoded by itself."""
    tokens, _, lengths = store.titles(articles)
    titles = np.split(tokens.astype(np.int64), np.cumsum(lengths)[:-1])
    bert = model.encoder.model
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
            clicked = model.score.articles(encoded(model, store, history))
            logits = (
                torch.tanh(clicked @ model.reader.attention.project.weight.T) @ model.reader.attention.query
            )
            reader = torch.softmax(logits, 0) @ clicked
        reader = model.score.readers(reader[None])[0]
        scores.append(model.score.articles(encoded(model, store, candidates)) @ reader)
    return torch.cat(scores).numpy()


def index_of(model, store, shown):
    history, _ = store.histories(shown.history, MOST)
    return encode_articles(model, store, np.concatenate((shown.candidates, history)))


@pytest.mark.parametrize("score", ["dot", "scaled_cosine"])
def test_scores_are_those_of_encoding_every_impression_anew(score, make_model, simulated, shown, monkeypatch):
    few = simulated.impressions(shown.rows[:25])
    model = make_model(model={"score": score})
    expected = naive_scores(model, simulated, few)
    lengths = simulated.histories(few.history, MOST)[1]
    assert (lengths == 0).any()
    assert (lengths == MOST).any()
    for titles, readers, candidates in ((256, 1024, 1 << 15), (3, 2, 5)):
        monkeypatch.setattr(scoring, "_TITLES", titles)
        monkeypatch.setattr(scoring, "_READERS", readers)
        monkeypatch.setattr(scoring, "_CANDIDATES", candidates)
        scores = score_impressions(model, index_of(model, simulated, few), simulated, few, MOST)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_scores_do_not_depend_on_the_other_impressions(make_model, simulated, shown):
    model = make_model()
    index = index_of(model, simulated, shown)
    every = score_impressions(model, index, simulated, shown, MOST)
    chosen = np.array([17, 3, 3, 8])
    some = simulated.impressions(shown.rows[chosen])
    expected = [every[shown.offsets[row] : shown.offsets[row + 1]] for row in chosen]
    mine = score_impressions(model, index_of(model, simulated, some), simulated, some, MOST)
    np.testing.assert_allclose(mine, np.concatenate(expected), rtol=1e-4, atol=1e-5)


def test_readers_with_one_history_get_one_score_for_one_article(make_model, mind_folder, store_of):
    rows = [(11, "N1 N2", "N3-1 N4-0"), (12, "N1 N2", "N4-0 N3-1"), (13, "N1", "N3-1 N4-0")]
    behaviors = [
        f"{row}\tU{row}\t11/{day}/2019 8:00:00 AM\t{history}\t{candidates}"
        for row, (day, history, candidates) in enumerate(rows)
    ]
    store = store_of(mind_folder("same", behaviors=behaviors))
    model = make_model(tasks=["click"])
    shown = store.impressions(np.arange(3))
    first, second, third = score_impressions(
        model, index_of(model, store, shown), store, shown, MOST
    ).reshape(3, 2)
    assert first.tolist() == second[::-1].tolist()
    assert first.tolist() != third.tolist()


def test_content_floor_is_the_cosine_of_the_mean_history(make_model, simulated, shown):
    few = simulated.impressions(shown.rows[:25])
    model = make_model()
    scores = content_scores(index_of(model, simulated, few), simulated, few, MOST)
    expected = []
    with torch.no_grad():
        for row in range(len(few)):
            candidates = few.candidates[few.offsets[row] : few.offsets[row + 1]]
            history, _ = simulated.histories(few.history[row : row + 1], MOST)
            mean = encoded(model, simulated, history).mean(0) if len(history) else torch.zeros(32)
            expected.append(
                torch.nn.functional.cosine_similarity(encoded(model, simulated, candidates), mean[None])
            )
    np.testing.assert_allclose(scores, torch.cat(expected).numpy(), rtol=1e-4, atol=1e-5)
    sizes = np.diff(few.offsets)
    cold = np.repeat(simulated.histories(few.history, MOST)[1] == 0, sizes)
    assert cold.any()
    assert not scores[cold].any()


def test_unknown_candidates_are_encoded_as_the_unknown_article(make_model, simulated):
    index = encode_articles(make_model(), simulated, np.array([UNKNOWN, 5, 5, 9]))
    assert sorted(index.articles.tolist()) == [UNKNOWN, 5, 9]
    assert (index.place >= 0).sum() == 3
    assert len(index.vectors) == len(index.categories) == 3
    assert len(index.tags) == simulated.title_lengths()[[UNKNOWN, 5, 9]].sum()


@pytest.mark.parametrize("score", ["dot", "scaled_cosine"])
def test_a_saved_model_scores_the_same(score, make_recipe, make_model, simulated, shown, tmp_path):
    recipe = make_recipe(model={"score": score})
    model = make_model(model={"score": score})
    workload.save_model(model, recipe, simulated, tmp_path)
    again = workload.load(tmp_path, recipe, simulated)
    assert not again.training
    first, second = (
        score_impressions(each, index_of(each, simulated, shown), simulated, shown, MOST)
        for each in (model, again)
    )
    assert np.array_equal(first, second)
