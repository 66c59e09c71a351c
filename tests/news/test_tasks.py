"""Auxiliary tasks on a site of seven articles and six readers, whose labels can be counted by hand."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_absolute_error, r2_score

from counterpoint.errors import CounterpointError
from counterpoint.news.batches import TrainingBatches
from counterpoint.news.data.store import IGNORE
from counterpoint.news.evaluate import evaluate
from counterpoint.news.models.building import fresh
from counterpoint.news.tasks import TASKS
from counterpoint.news.tasks.protocol import Drawn, View
from counterpoint.news.tasks.regression import Regression

NAN = float("nan")
PERSON, PLACE = "P", "G"


def entity(kind, form):
    return {"SurfaceForms": [form], "Type": kind}


# Titles of one word piece a word. Classes: negative 0, neutral 1, positive 2; within 0.05 of zero is neutral.
ARTICLES = [
    {"article": "A1", "title": "calm sea", "category": "sea", "sentiment": 0.5},
    {
        "article": "A2",
        "title": "london storm ends",
        "category": "sea",
        "sentiment": -0.5,
        "entities": [entity(PLACE, "london")],
    },
    {"article": "A3", "title": "cake", "category": "food", "sentiment": "positive"},
    {
        "article": "A4",
        "title": "mary smith burns soup again",
        "category": "food",
        "sentiment": -0.25,
        "entities": [entity(PERSON, "mary smith")],
    },
    {"article": "A5", "title": "a plain old day"},
    {"article": "A6", "title": "old maps", "category": "travel", "sentiment": 0.04},
    {"article": "A7", "title": "new maps of france here", "category": "travel", "sentiment": "negative"},
]
CLASSES = [IGNORE, 2, 0, 2, 0, IGNORE, 1, 0]
SCORES = [NAN, 0.5, -0.5, 1.0, -0.25, NAN, 0.04, -1.0]
CATEGORIES = [IGNORE, 0, 0, 1, 1, IGNORE, 2, 2]
TAGS = {  # london, a place, came first
    0: [IGNORE, IGNORE],
    1: [IGNORE, 0, 0, IGNORE],
    2: [IGNORE, 1, 0, 0, IGNORE],
    3: [IGNORE, 0, IGNORE],
    4: [IGNORE, 3, 4, 0, 0, 0, IGNORE],
    5: [IGNORE, 0, 0, 0, 0, IGNORE],
    6: [IGNORE, 0, 0, IGNORE],
    7: [IGNORE, 0, 0, 0, 0, 0, IGNORE],
}
# Day, reader, history, seconds, percent, candidates; the first candidate was clicked.
IMPRESSIONS = [
    (11, "U1", "A1 A2 A3", [10.0, None, 30.0], [100.0, 50.0, None], "A4 A5"),
    (11, "U2", "", [], [], "A5 A6 A7"),
    (11, "U3", "A6", [4.0], [25.0], "A1 A2 A5"),
    (11, "U1", "A1 A2 A3", [10.0, None, 30.0], [100.0, 50.0, None], "A6 A5"),
    (11, "U4", "A4 X9 A1 A2", [1.0, 99.0, 2.0, 3.0], [10.0, 99.0, 20.0, 30.0], "A3 A6"),
    (12, "U5", "A2", [1000.0], [90.0], "A7 A1"),
    (13, "U6", "A7 A5 A2", [6.0, 60.0, None], [40.0, None, 80.0], "A1 A3"),
    (13, "U1", "A1 A2 A3", [10.0, None, 30.0], [100.0, 50.0, None], "A2 A6"),
    (13, "U2", "", None, None, "A3 A4"),
]
READ_TIMES = {
    "A1 A2 A3": [10.0, NAN, 30.0],
    "A6": [4.0],
    "A4 A1 A2": [1.0, 2.0, 3.0],
    "": [],
}
EVERY = ("click", "category", "entities", "sentiment", "sentiment_score", "read_time", "scroll")


def written(folder, articles=ARTICLES, impressions=IMPRESSIONS, values=True):
    folder.mkdir(exist_ok=True)
    rows = []
    for number, (day, reader, history, seconds, percent, candidates) in enumerate(impressions):
        row = {
            "impression": number,
            "reader": reader,
            "time": f"2019-11-{day}T08:{number:02}:00",
            "history": history,
            "candidates": candidates,
            "clicked": candidates.split()[0],
        }
        if values:
            row |= {"history_read_time": seconds, "history_scroll": percent}
        rows.append(row)
    for name, listed in (("articles", articles), ("impressions", rows)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, listed)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def store(store_of, tmp_path_factory):
    return store_of(written(tmp_path_factory.mktemp("tasks") / "site"))


@pytest.fixture
def model_of(store):
    def make(recipe):
        torch.manual_seed(0)
        model = fresh(recipe, store).eval()
        torch.nn.init.normal_(model.reader.cold)
        return model

    return make


def ids(store, rows):
    return [store.articles["article"][int(row)] for row in rows]


# Four articles of a batch: one in a history, one a candidate, two both.
DRAWN = Drawn(
    np.array([3, 1, 2, 4]),
    np.array([True, False, True, True]),
    np.array([False, True, True, True]),
    np.array([0]),
)


@pytest.mark.parametrize(
    ("seen", "kept"), [("both", (1, 1, 1, 1)), ("history", (1, 0, 1, 1)), ("candidates", (0, 1, 1, 1))]
)
def test_articles_that_a_task_does_not_see_have_no_label(seen, kept, store, make_recipe):
    recipe = make_recipe(
        tasks=EVERY,
        entities={"articles": seen, "scheme": "bio-typed"},
        **{name: {"articles": seen} for name in ("category", "sentiment", "sentiment_score")},
    )

    def expected(labels, nothing):
        return [labels[row] if there else nothing for row, there in zip(DRAWN.articles, kept, strict=True)]

    def labels(name):
        return TASKS[name].labels(store, recipe, DRAWN)

    assert labels("category").tolist() == expected(CATEGORIES, IGNORE)
    assert labels("sentiment").tolist() == expected(CLASSES, IGNORE)
    np.testing.assert_allclose(labels("sentiment_score"), expected(SCORES, NAN), rtol=1e-6)
    assert labels("sentiment_score").dtype == torch.float32
    tags = [
        tag if there else IGNORE
        for row, there in zip(DRAWN.articles.tolist(), kept, strict=True)
        for tag in TAGS[row]
    ]
    assert labels("entities").tolist() == tags


def test_the_store_itself_keeps_the_labels_that_a_batch_leaves_out(store, make_recipe):
    recipe = make_recipe(tasks=EVERY, sentiment={"articles": "history"}, category={"articles": "history"})
    for name in ("category", "sentiment"):
        TASKS[name].labels(store, recipe, DRAWN)
    assert store.labels_of("sentiment").tolist() == CLASSES
    assert store.labels_of("category").tolist() == CATEGORIES


@pytest.mark.parametrize("seen", ["both", "history", "candidates"])
def test_a_batch_labels_what_stands_in_its_histories_and_among_its_candidates(seen, store, make_recipe):
    recipe = make_recipe(
        tasks=EVERY,
        sentiment={"articles": seen},
        auxiliary_share=0.5,
        training={"batch_size": 2},
        data={"negatives": 1},
    )
    batches = TrainingBatches(store, recipe)
    every = np.arange(len(store.articles))
    tokens, _, lengths = store.titles(every)
    titles = {tuple(title): row for row, title in enumerate(np.split(tokens, np.cumsum(lengths)[:-1]))}
    labelled = 0
    for epoch in range(4):
        for number in range(len(batches)):
            batch = batches.batch(epoch, number)
            first = batch.packs[0].texts["title"].texts
            rows = [titles[tuple(title.tolist())] for title in first.tokens.split(first.lengths)]
            within = {
                "history": set(batch.history.flatten().tolist()),
                "candidates": set(batch.candidates.flatten().tolist()),
            }
            within["both"] = within["history"] | within["candidates"]
            total = len(within["both"] - {-1})
            assert len(rows) == max(1, round(total / 2)) < total
            expected = [CLASSES[row] if place in within[seen] else IGNORE for place, row in enumerate(rows)]
            assert batch.labels["sentiment"].tolist() == expected
            assert len(batch.labels["entities"]) == sum(first.lengths)
            # What was read is no property of titles: all histories count, whatever the share.
            assert batch.labels["read_time"].shape == batch.history.shape
            labelled += sum(label != IGNORE for label in expected)
    assert labelled > 0


@pytest.mark.parametrize("most", [50, 2])
def test_what_was_read_stands_where_the_article_stands_in_the_history(most, store, make_recipe):
    """U4's unknown article X9 is dropped with its 99 seconds; the most recent clicks are kept."""
    recipe = make_recipe(
        tasks=["click", "read_time", "scroll"], data={"max_history": most}, training={"batch_size": 5}
    )
    batch = TrainingBatches(store, recipe).batch(0, 0)
    first = batch.packs[0].texts["title"].texts
    tokens, _, lengths = store.titles(np.arange(len(store.articles)))
    titles = {tuple(title): row for row, title in enumerate(np.split(tokens, np.cumsum(lengths)[:-1]))}
    rows = [titles[tuple(title.tolist())] for title in first.tokens.split(first.lengths)]
    percents = {"A1 A2 A3": [100.0, 50.0, NAN], "A6": [25.0], "A4 A1 A2": [10.0, 20.0, 30.0], "": []}
    found = []
    for place in range(5):
        history = batch.history[place][batch.history[place] >= 0]
        articles = " ".join(ids(store, [rows[article] for article in history]))
        (whole,) = [
            each for each in READ_TIMES if each[-len(articles) :] == articles and (articles or not each)
        ]
        found.append(whole)
        for name, values in (
            ("read_time", np.log1p(READ_TIMES[whole])),
            ("scroll", np.array(percents[whole]) / 100),
        ):
            labels = batch.labels[name][place]
            kept = values[-most:] if len(values) else values
            np.testing.assert_allclose(labels[: len(history)], kept, rtol=1e-6)
            assert labels[len(history) :].isnan().all()
            assert len(labels) == batch.history.shape[1]
    assert sorted(found) == ["", "A1 A2 A3", "A1 A2 A3", "A4 A1 A2", "A6"]


def test_histories_without_any_click_have_labels_without_places(store, make_recipe):
    recipe = make_recipe(tasks=["click", "read_time"])
    shown = store.impressions(store.split("train"))
    empty = np.array([shown.history[1]])
    drawn = Drawn(np.array([1]), np.array([True]), np.array([True]), empty)
    assert TASKS["read_time"].labels(store, recipe, drawn).shape == (1, 0)


def test_the_loss_of_what_was_read_is_that_of_a_loop():
    torch.manual_seed(0)
    task, head = TASKS["scroll"], Regression(9, mean=0.4, spread=0.25)
    articles, readers = torch.randn(5, 3), torch.randn(3, 3)
    history = torch.tensor([[4, 0, 2], [1, -1, -1], [-1, -1, -1]])
    labels = torch.tensor([[0.5, NAN, 0.9], [0.1, NAN, NAN], [NAN, NAN, NAN]])
    nothing = torch.empty(0, 3)
    view = View(nothing, nothing, (), articles, readers, history)
    errors, said = [], []
    for row in range(3):
        for place in range(3):
            article = int(history[row, place])
            if article < 0:
                continue
            pair = torch.cat((articles[article], readers[row], articles[article] * readers[row]))
            value = head.output.weight[0] @ pair + head.output.bias[0]
            said.append(100 * (value.item() * 0.25 + 0.4))
            if not labels[row, place].isnan():
                errors.append((value - (labels[row, place] - 0.4) / 0.25) ** 2)
    assert len(errors) == 3
    torch.testing.assert_close(task.loss(head, view, labels), torch.stack(errors).mean())
    with torch.no_grad():
        np.testing.assert_allclose(task.predict(head, view), said, rtol=1e-5)


def test_a_batch_in_which_nothing_was_read_costs_nothing_and_changes_nothing():
    task, head = TASKS["read_time"], Regression(9)
    nothing = torch.empty(0, 3)
    readers = torch.randn(2, 3, requires_grad=True)
    view = View(nothing, nothing, (), torch.randn(4, 3), readers, torch.full((2, 0), -1))
    loss = task.loss(head, view, torch.empty(2, 0))
    loss.backward()
    assert loss == 0
    assert not head.output.weight.grad.any()
    assert readers.grad is None or not readers.grad.any()


def test_each_weight_multiplies_its_own_loss(store, make_recipe, model_of):
    weights = dict(zip(EVERY[1:], (2.0, 0.5, 3.0, 0.25, 4.0, 0.125), strict=True))
    plain = make_recipe(tasks=EVERY)
    weighed = make_recipe(tasks=EVERY, **{name: {"weight": weight} for name, weight in weights.items()})
    batch = TrainingBatches(store, plain).batch(0, 0)
    before, after = (model_of(recipe).losses(batch) for recipe in (plain, weighed))
    assert list(before) == list(EVERY)
    assert torch.equal(before["click"], after["click"])
    for name, weight in weights.items():
        assert before[name] > 0
        torch.testing.assert_close(after[name], weight * before[name])


def test_losses_over_part_of_the_articles_are_those_of_these_articles_alone(store, make_recipe, model_of):
    """Of history articles only; over tokens, so that no title without a label counts."""
    sections = {name: {"articles": "history"} for name in ("category", "sentiment", "sentiment_score")}
    recipe = make_recipe(tasks=EVERY[:5], entities={"articles": "history", "average": "token"}, **sections)
    model, batch = model_of(recipe), TrainingBatches(store, recipe).batch(0, 0)
    pack = batch.packs[0]
    texts = pack.texts["title"].texts
    encoder = model.articles.texts["title"].model
    inside = sorted({*batch.history.flatten().tolist()} - {-1})
    assert 0 < len(inside) < len(pack)
    with torch.no_grad():
        states = [
            encoder(input_ids=title[None]).last_hidden_state[0] for title in texts.tokens.split(texts.lengths)
        ]
        titles = torch.stack([each[0] for each in states])[inside]
        tokens = torch.cat([states[place] for place in inside])
        losses = model.losses(batch)
    full = TrainingBatches(store, make_recipe(tasks=EVERY[:5])).batch(0, 0).labels
    for name in ("category", "sentiment"):
        chances = model.heads[name].output(titles).log_softmax(1)
        picked = [-chances[row, label] for row, label in enumerate(full[name][inside].tolist()) if label >= 0]
        torch.testing.assert_close(losses[name], torch.stack(picked).mean())
    head = model.heads["sentiment_score"]
    scores = full["sentiment_score"][inside]
    errors = (head.output(titles).squeeze(1) - (scores - head.mean) / head.spread)[~scores.isnan()]
    torch.testing.assert_close(losses["sentiment_score"], errors.square().mean())
    by_title = full["entities"].split(texts.lengths)
    tags = torch.cat([by_title[place] for place in inside])
    chances = model.heads["entities"].output(tokens).log_softmax(1)
    picked = [-chances[row, tag] for row, tag in enumerate(tags.tolist()) if tag >= 0]
    torch.testing.assert_close(losses["entities"], torch.stack(picked).mean())


def test_values_are_standardised_by_the_training_histories_and_scores_by_its_articles(
    store, make_recipe, model_of
):
    heads = model_of(make_recipe(tasks=EVERY)).heads
    # Each distinct history once, without validation's thousand seconds.
    seconds = np.log1p([10, 30, 4, 1, 2, 3])
    percent = np.array([1.0, 0.5, 0.25, 0.1, 0.2, 0.3])
    scores = np.array([0.5, -0.5, 1.0, -0.25, 0.04, -1.0])
    for name, values in (("read_time", seconds), ("scroll", percent), ("sentiment_score", scores)):
        assert heads[name].mean.item() == pytest.approx(values.mean(), rel=1e-5)
        assert heads[name].spread.item() == pytest.approx(values.std(), rel=1e-5)


def test_an_article_that_training_never_met_does_not_shift_the_scores(store_of, make_recipe, tmp_path):
    stranger = {"article": "A8", "title": "dull new day", "sentiment": -0.9}
    later = [*IMPRESSIONS, (13, "U7", "A8", [5.0], [5.0], "A8 A1")]
    store = store_of(written(tmp_path / "stranger", [*ARTICLES, stranger], later))
    head = fresh(make_recipe(tasks=["click", "sentiment_score"]), store).heads["sentiment_score"]
    scores = np.array([0.5, -0.5, 1.0, -0.25, 0.04, -1.0])
    assert head.mean.item() == pytest.approx(scores.mean(), rel=1e-5)


def test_values_of_clicks_beyond_the_longest_history_do_not_count(store, make_recipe, model_of):
    recipe = make_recipe(tasks=["click", "read_time"], data={"max_history": 1})
    values = np.log1p([30, 4, 3])
    head = model_of(recipe).heads["read_time"]
    assert head.mean.item() == pytest.approx(values.mean(), rel=1e-5)
    assert head.spread.item() == pytest.approx(values.std(), rel=1e-5)


def test_values_that_are_all_the_same_are_only_moved(store_of, tmp_path, make_recipe):
    rows = [
        (day, reader, history, [5.0] * len(history.split()), None, shown)
        for day, reader, history, _, _, shown in IMPRESSIONS
    ]
    store = store_of(written(tmp_path / "same", impressions=rows))
    torch.manual_seed(0)
    head = fresh(make_recipe(tasks=["click", "read_time"]), store).heads["read_time"]
    assert head.mean.item() == pytest.approx(np.log(6))
    assert head.spread.item() == 1


BARE = [{"article": row["article"], "title": row["title"]} for row in ARTICLES]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("category", ""),
        ("entities", ""),
        ("sentiment", "; set data.sentiment=vader for English titles"),
        ("sentiment_score", "; set data.sentiment=vader for English titles"),
        ("read_time", ""),
        ("scroll", ""),
    ],
)
def test_a_store_without_labels_is_refused(name, remedy, store_of, tmp_path, make_recipe):
    store = store_of(written(tmp_path / "bare", articles=BARE, values=False))
    with pytest.raises(CounterpointError) as caught:
        fresh(make_recipe(tasks=["click", name]), store)
    assert str(caught.value) == (
        f"{store.path}: it has no labels for the task {name!r}{remedy}; or leave the task out of 'tasks'."
    )


@pytest.mark.parametrize("name", ["read_time", "scroll"])
def test_values_of_test_readers_alone_are_nothing_to_learn_from(name, store_of, tmp_path, make_recipe):
    rows = [row if row[0] > 11 else (*row[:3], None, None, row[5]) for row in IMPRESSIONS]
    store = store_of(written(tmp_path / "late", impressions=rows))
    assert store.has_history_values(name)
    with pytest.raises(CounterpointError, match=f"no labels for the task '{name}'; or leave the task out"):
        fresh(make_recipe(tasks=["click", name]), store)


@pytest.mark.parametrize("field", ["category", "subcategory"])
def test_the_field_of_the_category_task_is_what_it_learns(field, store_of, tmp_path, make_recipe):
    articles = [{**row, "subcategory": f"s{place}"} for place, row in enumerate(ARTICLES)]
    store = store_of(written(tmp_path / "sub", articles=articles))
    recipe = make_recipe(tasks=["click", "category"], category={"field": field})
    labels = TASKS["category"].labels(store, recipe, DRAWN)
    assert labels.tolist() == ([2, 0, 1, 3] if field == "subcategory" else [1, 0, 0, 1])
    torch.manual_seed(0)
    assert fresh(recipe, store).heads["category"].output.out_features == (7 if field == "subcategory" else 3)


def test_metrics_are_those_of_the_split_s_candidates_and_histories(store, make_recipe, model_of):
    """Candidates of the test day are A1, A2, A3, A4, A6; its histories those of U6, U1 and nobody."""
    recipe = make_recipe(tasks=EVERY, entities={"scheme": "bio-typed"})
    model = model_of(recipe)
    encoder = model.articles.texts["title"].model
    tokens, _, lengths = store.titles(np.arange(len(store.articles)))
    with torch.no_grad():
        for name, head in model.heads.items():  # so that heads say something else of each title
            torch.nn.init.normal_(head.output.weight, std=2.0 if name == "entities" else 0.5)
        states = [
            encoder(input_ids=torch.from_numpy(title[None].astype(np.int64))).last_hidden_state[0]
            for title in np.split(tokens, np.cumsum(lengths)[:-1])
        ]
        titles = torch.stack([each[0] for each in states])
        said = {name: model.heads[name].output(titles) for name in ("category", "sentiment")}
        scores = model.heads["sentiment_score"].output(titles).squeeze(1)
        scores = (
            scores * model.heads["sentiment_score"].spread + model.heads["sentiment_score"].mean
        ).numpy()
        metrics = evaluate(model, recipe, store, "test", with_floors=False).record["metrics"]
        candidates = [1, 2, 3, 4, 6]
        for name, labels in (("category", CATEGORIES), ("sentiment", CLASSES)):
            right = [int(said[name][row].argmax()) == labels[row] for row in candidates]
            assert metrics[f"{name}/accuracy"] == pytest.approx(np.mean(right))
        wanted = np.array(SCORES)[candidates]
        assert metrics["sentiment_score/mae"] == pytest.approx(
            mean_absolute_error(wanted, scores[candidates]), rel=1e-4
        )
        assert metrics["sentiment_score/r2"] == pytest.approx(r2_score(wanted, scores[candidates]), rel=1e-4)

        # The articles' vectors are the titles'; the readers' are eq. 1's.
        attention = model.reader.attention
        values = {"read_time": ([], []), "scroll": ([], [])}
        percents = {(7, 5, 2): [40, NAN, 80], (1, 2, 3): [100, 50, NAN]}
        seconds = {(7, 5, 2): [6, 60, NAN], (1, 2, 3): [10, NAN, 30]}
        for history in percents:
            clicked = titles[list(history)]
            weights = torch.softmax(torch.tanh(clicked @ attention.project.weight.T) @ attention.query, 0)
            reader = (weights @ clicked).expand_as(clicked)
            pairs = torch.cat((clicked, reader, clicked * reader), 1)
            for name, truth in (("read_time", seconds[history]), ("scroll", percents[history])):
                head = model.heads[name]
                told = head.output(pairs).squeeze(1) * head.spread + head.mean
                values[name][0].extend(told.tolist())
                values[name][1].extend(truth)
    for name, scale, unscale in (
        ("read_time", np.log1p, np.expm1),
        ("scroll", lambda percent: percent / 100, lambda share: share * 100),
    ):
        told, truth = map(np.array, values[name])
        known = ~np.isnan(truth)
        assert known.sum() == 4
        in_unit = unscale(told[known])
        assert metrics[f"{name}/mae"] == pytest.approx(np.abs(in_unit - truth[known]).mean(), rel=1e-3)
        again = scale(np.maximum(in_unit, 0) if name == "read_time" else in_unit)
        assert metrics[f"{name}/r2"] == pytest.approx(r2_score(scale(truth[known]), again), rel=1e-3)


def test_f1_is_over_the_entities_of_the_candidates(store, make_recipe, model_of):
    """A head that tags by the token alone: right on london, wrong type on mary smith, and france tagged."""
    recipe = make_recipe(tasks=["click", "entities"], entities={"scheme": "bio-typed"})
    model = model_of(recipe)
    tokens, _, lengths = store.titles(np.arange(len(store.articles)))
    rows = np.split(tokens, np.cumsum(lengths)[:-1])
    wanted = {rows[2][1]: 1, rows[4][1]: 1, rows[4][2]: 2, rows[7][4]: 1}

    class ByToken(torch.nn.Module):
        """Says of each state the tag that its first number names."""

        def forward(self, states):
            return torch.nn.functional.one_hot(states[:, 0].long(), 5).double()

    class Tokens(torch.nn.Module):
        """Titles whose tokens' states begin with the tag to be said."""

        size = 32

        def forward(self, texts):
            states = torch.zeros(len(texts.tokens), 32)
            states[:, 0] = torch.tensor([wanted.get(int(token), 0) for token in texts.tokens])
            return states, torch.stack([part.mean(0) for part in states.split(texts.lengths)])

    model.articles.texts["title"] = Tokens()
    model.heads["entities"].output = ByToken()
    found = evaluate(model, recipe, store, "test", with_floors=False).record["metrics"]["entities/f1"]
    # Of A1, A2, A3, A4, A6: london found and right, mary smith found as a place.
    assert found == pytest.approx(2 * 1 / (2 + 2))
    found = evaluate(model, recipe, store, "train", with_floors=False).record["metrics"]["entities/f1"]
    assert found == pytest.approx(2 * 1 / (3 + 2))  # A7's france is no entity of the data


def test_plain_tags_ask_for_no_type(store, make_recipe):
    recipe = make_recipe(tasks=["click", "entities"])
    drawn = DRAWN._replace(
        articles=np.array([2, 4]), in_history=np.array([True, True]), in_candidates=np.array([True, True])
    )
    plain = [IGNORE, 1, 0, 0, IGNORE, IGNORE, 1, 2, 0, 0, 0, IGNORE]
    assert TASKS["entities"].labels(store, recipe, drawn).tolist() == plain
    predicted = np.array([0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    metrics = TASKS["entities"].metrics(predicted, store, recipe, np.array([2, 4]))
    assert metrics == {"entities/f1": pytest.approx(f1_score([1, 1, 0], [1, 0, 1]))}


def test_tasks_on_what_was_read_share_articles_and_readers(store, make_recipe, model_of):
    recipe = make_recipe(tasks=EVERY, click={"score": "scaled_cosine"}, reader={"kind": "recurrent"})
    model, batch = model_of(recipe).train(), TrainingBatches(store, recipe).batch(0, 0)
    shared = {id(parameter) for parameter in model.shared_parameters()}
    both = [*model.articles.parameters(), *model.reader.parameters()]
    assert shared == {id(parameter) for parameter in both}
    losses = model.losses(batch)
    reached = {
        name: torch.autograd.grad(loss, both, retain_graph=True, allow_unused=True)
        for name, loss in losses.items()
    }
    assert any(gradient is not None for gradient in reached["read_time"][-5:])
    assert all(gradient is None for gradient in reached["category"][len(list(model.articles.parameters())) :])
