"""Recommendations for all readers of a split at once."""

import numpy as np
import polars as pl
import pytest
import torch

from counterpoint.api import read_recipe
from counterpoint.encoders.loading import load_tokenizer
from counterpoint.errors import UsageError
from counterpoint.news import recommend
from counterpoint.news.models.building import fresh
from counterpoint.news.recommend import NewsRecommender
from counterpoint.simulation.news.mind import simulate
from counterpoint.storage.files import write_blocks
from news_stores import prepared_store


@pytest.fixture(scope="module")
def store(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommend-all")
    simulate(folder / "site", readers=120, articles=100, days=4, seed=2, candidates=(4, 10))
    return prepared_store(folder / "site", folder / "store", load_tokenizer(str(tiny_encoder)))


@pytest.fixture(scope="module", params=["mtrec", "popularity"])
def recommender(request, store, tiny_encoder):
    settings = [f"encoder.name={tiny_encoder}", "training.precision=fp32", "data.max_history=6"]
    recipe = read_recipe(request.param, settings)
    torch.manual_seed(0)
    return NewsRecommender(fresh(recipe, store).eval(), recipe, store, load_tokenizer(str(tiny_encoder)))


def last_impressions(store):
    """The id of each reader's last test impression, and the articles of its history, by a plain loop."""
    shown = store.impressions(store.split("test"))
    last = {}
    for place, (reader, time) in enumerate(zip(shown.reader.tolist(), shown.time.tolist(), strict=True)):
        if reader not in last or time >= shown.time[last[reader]]:
            last[reader] = place
    names = store.impression_ids(shown.rows)
    histories = {}
    for place in last.values():
        rows, _ = store.histories(shown.history[place : place + 1], 10_000)
        histories[names[place]] = [store.articles["article"][int(row)] for row in rows]
    return histories


def test_everybody_gets_what_a_single_question_answers(recommender, store):
    told = pl.concat(recommender.recommend_all(top=4))
    histories = last_impressions(store)
    assert set(told["impression"]) == set(histories)
    for impression in list(histories)[:25]:
        one = recommender.recommend(histories[impression], top=4)
        rows = told.filter(pl.col("impression") == impression)
        assert rows["rank"].to_list() == [1, 2, 3, 4]
        assert rows["score"].to_list() == pytest.approx([each.score for each in one], rel=1e-4, abs=1e-5)
        ties = len({round(each.score, 5) for each in one}) < len(one)
        assert ties or rows["article"].to_list() == [each.article for each in one]
        assert not set(rows["article"]) & set(histories[impression])


def test_blocks_change_nothing(recommender, store, monkeypatch):
    whole = pl.concat(recommender.recommend_all(top=3))
    monkeypatch.setattr(recommend, "_CELLS", 3 * len(store.shown_on_last_day()))
    blocks = list(recommender.recommend_all(top=3))
    assert len(blocks) > 2
    assert pl.concat(blocks)["article"].to_list() == whole["article"].to_list()
    np.testing.assert_allclose(pl.concat(blocks)["score"], whole["score"], rtol=1e-5)


def test_more_than_there_is_gives_what_there_is(recommender, store):
    told = pl.concat(recommender.recommend_all(top=10_000))
    live = set(store.articles["article"][store.shown_on_last_day()])
    for impression, history in last_impressions(store).items():
        rows = told.filter(pl.col("impression") == impression)
        assert set(rows["article"]) == live - set(history)


def test_nothing_to_rank_is_refused(recommender):
    with pytest.raises(UsageError, match="top: 0 is less than one; ask for at least 1 article"):
        next(recommender.recommend_all(top=0))


def test_blocks_become_one_file_and_nothing_stays_of_a_failure(tmp_path):
    blocks = [pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [3]})]
    assert write_blocks(tmp_path / "all.parquet", blocks) == 3
    assert pl.read_parquet(tmp_path / "all.parquet")["a"].to_list() == [1, 2, 3]

    def broken():
        yield blocks[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_blocks(tmp_path / "other.parquet", broken())
    assert [file.name for file in tmp_path.iterdir()] == ["all.parquet"]
