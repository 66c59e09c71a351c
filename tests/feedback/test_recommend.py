import numpy as np
import polars as pl
import pytest
import torch

import counterpoint
from counterpoint.capabilities import Question
from counterpoint.errors import UsageError
from counterpoint.feedback.batches import gathered
from counterpoint.feedback.recommend import FeedbackRecommender


@pytest.fixture(scope="module")
def recommender(trained):
    return counterpoint.load(trained.path)


def slow_scores(recommender, store, user):
    """Score every item that a user has not viewed, one row at a time, put together by hand."""
    rows, number = store.rows("train"), store.users.to_list().index(user)
    last = np.flatnonzero(rows.users == number)[-1]
    owned = set(store.manifest["columns of the item"])
    viewed = set(rows.items[rows.users == number].tolist())
    scores = {}
    for item in sorted(set(rows.items.tolist()) - viewed):
        own = np.flatnonzero(rows.items == item)[-1]
        mine, theirs = (gathered(rows, np.array([row]), []) for row in (last, own))
        for place, column in enumerate(store.schema.ids):
            if column.name in owned:
                mine.ids[:, place] = theirs.ids[:, place]
        for place, name in enumerate(store.schema.numbers):
            if name in owned:
                mine.numbers[:, place] = theirs.numbers[:, place]
        lists = tuple(
            that if column.name in owned else this
            for column, this, that in zip(store.schema.lists, mine.lists, theirs.lists, strict=True)
        )
        batch = type(mine)(mine.ids, mine.numbers, lists, mine.labels)
        with torch.no_grad():
            scores[str(store.items[item])] = recommender._model.probabilities(batch)[0].tolist()
    return scores


@pytest.fixture(scope="module")
def user(store):
    """A user who has left some items unseen."""
    rows = store.rows("train")
    seen = [len(set(rows.items[rows.users == number].tolist())) for number in range(len(store.users))]
    return str(store.users[min((count, number) for number, count in enumerate(seen) if count)[1]])


@pytest.mark.parametrize("by", [None, "like"])
def test_items_come_best_first_by_a_label_with_all_probabilities(recommender, store, user, by):
    found = recommender.recommend(user, top=5, by=by)
    wanted = slow_scores(recommender, store, user)
    place = recommender.labels.index(by or recommender.labels[0])
    best = sorted(wanted, key=lambda item: -wanted[item][place])[:5]
    assert [one.item for one in found] == best
    for one in found:
        assert list(one.probabilities.values()) == pytest.approx(wanted[one.item], abs=1e-5)
        assert one.score == list(one.probabilities.values())[place]


def test_what_the_user_viewed_is_left_out(recommender, store, user):
    rows = store.rows("train")
    viewed = {
        str(store.items[int(item)]) for item in rows.items[rows.users == store.users.to_list().index(user)]
    }
    found = {one.item for one in recommender.recommend(user, top=1000)}
    assert not found & viewed
    assert len(found | viewed) == len(set(rows.items.tolist()))


def test_all_users_get_what_each_gets_alone(recommender, store, user, tmp_path, trained):
    out = tmp_path / "all.parquet"
    rows = counterpoint.api.recommend_all(trained.path, out=out, question=Question(by="like"), top=3)
    table = pl.read_parquet(out)
    assert len(table) == rows
    assert table["user"].n_unique() <= len(store.users)
    alone = recommender.recommend(user, top=3, by="like")
    mine = table.filter(pl.col("user") == user).sort("rank")
    assert mine["item"].to_list() == [one.item for one in alone]
    assert mine["probability of like"].to_list() == pytest.approx([one.score for one in alone])
    assert mine["rank"].to_list() == [1, 2, 3][: len(alone)]


@pytest.mark.parametrize(
    ("user", "options", "told"),
    [
        ("u99999", {}, "no user 'u99999' in the training data"),
        ("u00001", {"by": "lik"}, "by: the model does not predict 'lik' .did you mean 'like'"),
        ("u00001", {"top": 0}, "top: 0 is too few; ask for at least 1 item"),
    ],
)
def test_what_cannot_be_recommended_is_told(recommender, user, options, told):
    with pytest.raises(UsageError, match=told):
        recommender.recommend(user, **options)


def test_a_log_without_users_recommends_nothing(recommender, store, monkeypatch):
    monkeypatch.setitem(store.manifest["columns"], "user", None)
    with pytest.raises(UsageError, match="the log has no users or no items"):
        FeedbackRecommender(recommender._model, store)
