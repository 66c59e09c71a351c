import numpy as np
import pytest
import torch

from counterpoint.errors import CounterpointError
from counterpoint.news.batches import TrainingBatches
from counterpoint.news.data.store import IGNORE
from counterpoint.news.features import padded

WORDS = [
    "apple",
    "bread",
    "chair",
    "dance",
    "eagle",
    "fruit",
    "grass",
    "house",
    "island",
    "juice",
    "knife",
    "lemon",
    "music",
    "night",
    "ocean",
]
CATEGORIES = ("sports", "food", "")


@pytest.fixture
def site(mind_folder, store_of):
    """A store of impressions of three days; the first one trains. Article Nk is titled by k + 1 words."""

    def make(*rows):
        news = [
            "\t".join(
                (
                    f"N{number}",
                    CATEGORIES[number % 3],
                    "sub",
                    " ".join([word] * (1 + number % 4)),
                    "",
                    "",
                    f'[{{"Label": "x", "Type": "P", "WikidataId": "Q{number}", "Confidence": 1.0, '
                    f'"OccurrenceOffsets": [0], "SurfaceForms": ["{word}"]}}]'
                    if number % 2
                    else "[]",
                    "[]",
                )
            )
            for number, word in enumerate(WORDS)
        ]
        late = [(day, "N1", "N2-1 N3-0") for day in (13, 14)]
        behaviors = [
            f"{row}\tU{row}\t11/{day}/2019 8:{row:02}:00 AM\t{history}\t{candidates}"
            for row, (day, history, candidates) in enumerate([*((11, *row) for row in rows), *late], 1)
        ]
        return store_of(mind_folder("site", news=news, behaviors=behaviors))

    return make


ROWS = [
    ("N1 N2", "N3-1 N4-0 N5-0 N6-0 N7-0 N8-0 N9-0"),
    ("", "N4-0 N5-1"),
    ("N6", "N1-0 N7-1 N8-0 N9-1 N10-0"),
    ("N1 N2 N3 N4 N5", "N6-0 N7-1 N11-0"),
    ("N2", "N12-1 N13-0 N14-0 N0-0 N1-0"),
]


def titles_of(pack):
    """The packed titles of a pack, whose order is the articles' own."""
    assert pack.texts["title"].place is None
    assert len(pack) == len(pack.texts["title"].texts)
    return pack.texts["title"].texts


def same(first, second):
    tensors = [
        [
            batch.history,
            batch.candidates,
            batch.readers,
            batch.context,
            *(batch.labels[task] for task in ("category", "entities")),
            *(titles_of(pack).tokens for pack in batch.packs),
        ]
        for batch in (first, second)
    ]
    return [titles_of(pack).lengths for pack in first.packs] == [
        titles_of(pack).lengths for pack in second.packs
    ] and all(torch.equal(mine, its) for mine, its in zip(*tensors, strict=True))


def names(batch, store):
    """Return the article id of every title of a batch, told by its tokens, and the tokens."""
    every = np.arange(len(store.articles))
    tokens, _, lengths = store.titles(every)
    articles = dict(
        zip(map(tuple, np.split(tokens, np.cumsum(lengths)[:-1])), store.articles["article"], strict=True)
    )
    packs = [titles_of(pack) for pack in batch.packs]
    found = [tuple(title.tolist()) for pack in packs for title in pack.tokens.split(pack.lengths)]
    return [articles[title] for title in found]


def told(batch, store):
    """Return a batch as (history, candidates) by article ids."""
    titles = names(batch, store)
    return [
        ([titles[place] for place in history if place >= 0], [titles[place] for place in candidates])
        for history, candidates in zip(batch.history.tolist(), batch.candidates.tolist(), strict=True)
    ]


def test_a_batch_is_a_function_of_seed_epoch_and_number(site, make_recipe):
    store = site(*ROWS)
    batches, again = (TrainingBatches(store, make_recipe()) for _ in range(2))
    for epoch, number in ((1, 1), (0, 0), (1, 0), (0, 1)):
        assert same(batches.batch(epoch, number), again.batch(epoch, number))
    other = TrainingBatches(store, make_recipe(training={"seed": 1}))
    assert not all(same(batches.batch(0, number), other.batch(0, number)) for number in range(2))


def test_an_epoch_has_every_click_once_and_the_last_batch_is_smaller(site, make_recipe):
    store = site(*ROWS)
    batches = TrainingBatches(store, make_recipe())
    assert (len(batches), batches.examples) == (2, 6)
    for epoch in range(3):
        both = [batches.batch(epoch, number) for number in range(2)]
        assert list(map(len, both)) == [4, 2]
        clicks = sorted(candidates[0] for batch in both for _, candidates in told(batch, store))
        assert clicks == ["N12", "N3", "N5", "N7", "N7", "N9"]


def test_order_and_non_clicks_are_drawn_afresh_each_epoch(site, make_recipe):
    store = site(*ROWS)
    batches = TrainingBatches(store, make_recipe(data={"negatives": 2}, training={"batch_size": 6}))
    epochs = [told(batches.batch(epoch, 0), store) for epoch in range(4)]
    assert len({tuple(candidates[0] for _, candidates in epoch) for epoch in epochs}) > 1
    drawn = {
        frozenset(candidates[1:]) for epoch in epochs for _, candidates in epoch if candidates[0] == "N3"
    }
    assert len(drawn) > 1


def test_non_clicks_come_from_the_impression_without_replacement_or_cycle(site, make_recipe):
    store = site(*ROWS)
    batches = TrainingBatches(store, make_recipe(training={"batch_size": 6}))
    shown = {
        "N3": {"N4", "N5", "N6", "N7", "N8", "N9"},
        "N5": {"N4"},
        "N9": {"N1", "N8", "N10"},
        "N12": {"N13", "N14", "N0", "N1"},
    }
    for epoch in range(5):
        for _, (click, *others) in told(batches.batch(epoch, 0), store):
            assert len(others) == 4
            if click == "N7":
                assert set(others) in ({"N6", "N11"}, {"N1", "N8", "N10"})
                continue
            assert set(others) <= shown[click]
            counts = np.unique(others, return_counts=True)[1]
            assert len(counts) == min(4, len(shown[click]))
            assert counts.max() - counts.min() <= 1


def test_unknown_articles_and_clicks_without_non_clicks_are_left_out_and_counted(site, make_recipe):
    store = site(
        ("N1", "N98-1 N2-0 N3-1"),  # one click on an unknown article
        ("N1", "N4-1 N99-0"),  # its only non-click is unknown
        ("N1 N99", "N5-1 N99-0 N6-0"),
    )
    batches = TrainingBatches(store, make_recipe())
    assert batches.skipped == {"clicks on unknown articles": 1, "clicks without a known non-click": 1}
    assert batches.examples == 2
    examples = sorted(told(batches.batch(0, 0), store))
    assert examples == [(["N1"], ["N3", *["N2"] * 4]), (["N1"], ["N5", *["N6"] * 4])]


def test_a_split_without_a_usable_click_is_refused(site, make_recipe):
    with pytest.raises(CounterpointError, match="no click in split 'train'"):
        TrainingBatches(site(("N1", "N4-1 N99-0")), make_recipe())


def test_history_is_the_most_recent_oldest_first(site, make_recipe):
    store = site(("N1 N2 N3 N4 N5", "N6-0 N7-1"), ("", "N8-1 N9-0"))
    batch = TrainingBatches(store, make_recipe(data={"max_history": 3})).batch(0, 0)
    assert sorted(told(batch, store)) == [
        ([], ["N8", *["N9"] * 4]),
        (["N3", "N4", "N5"], ["N7", *["N6"] * 4]),
    ]
    assert batch.history.shape == (2, 3)
    assert (batch.history == -1).sum() == 3


def test_each_title_stands_once_with_its_category_and_tags(site, make_recipe):
    store = site(*ROWS)
    for share in (1.0, 0.4):
        recipe = make_recipe(auxiliary_share=share, training={"batch_size": 6})
        batch = TrainingBatches(store, recipe).batch(0, 0)
        titles = names(batch, store)
        assert len(set(titles)) == len(titles)
        used = {name for history, candidates in told(batch, store) for name in history + candidates}
        assert used == set(titles)
        classes = {name: store.labels["category"].index(name) for name in CATEGORIES[:2]}
        seen = titles[: len(batch.packs[0])]
        assert len(seen) == round(share * len(titles))
        assert batch.labels["category"].tolist() == [
            classes.get(CATEGORIES[int(name[1:]) % 3], IGNORE) for name in seen
        ]
        tags_of = batch.labels["entities"].split(titles_of(batch.packs[0]).lengths)
        for name, tags in zip(seen, tags_of, strict=True):
            number = int(name[1:])
            entity = [1] if number % 2 else [0]
            assert tags.tolist() == [IGNORE, *entity, *[0] * (number % 4), IGNORE]
        for pack in batch.packs:
            lengths = titles_of(pack).lengths
            assert list(lengths) == sorted(lengths)


def test_shares_of_processes_make_up_the_batch(site, make_recipe):
    store = site(*ROWS)
    batches = TrainingBatches(store, make_recipe())
    whole = told(batches.batch(0, 0), store)
    shares = [told(batches.batch(0, 0, rank=rank, processes=2), store) for rank in range(2)]
    assert [shares[place % 2][place // 2] for place in range(4)] == whole


def test_shares_are_equal_even_when_clicks_are_fewer_than_processes(site, make_recipe):
    store = site(*ROWS)
    batches = TrainingBatches(store, make_recipe(training={"batch_size": 5}))
    assert len(batches.batch(0, 1)) == 1
    click = told(batches.batch(0, 1), store)[0][1][0]
    for rank in range(3):
        share = told(batches.batch(0, 1, rank=rank, processes=3), store)
        assert [candidates[0] for _, candidates in share] == [click]


def test_share_of_titles_for_auxiliary_tasks_is_drawn_evenly(site, make_recipe):
    store = site(*ROWS)
    batches = TrainingBatches(store, make_recipe(auxiliary_share=0.5, training={"batch_size": 6}))
    seen = []
    for epoch in range(200):
        batch = batches.batch(epoch, 0)
        titles = names(batch, store)
        assert len(batch.packs[0]) == round(len(titles) / 2)
        seen += titles[: len(batch.packs[0])]
    # N1 is in the history of two impressions, so in every batch.
    assert seen.count("N1") / 200 == pytest.approx(0.5, abs=0.12)
    assert seen.count("N12") / 200 == pytest.approx(0.5, abs=0.12)


def test_typed_tags_keep_their_types(site, make_recipe):
    store = site(*ROWS)
    typed = TrainingBatches(store, make_recipe(entities={"scheme": "bio-typed"})).batch(0, 0)
    plain = TrainingBatches(store, make_recipe()).batch(0, 0)
    tags = typed.labels["entities"]
    assert torch.equal(torch.where(tags > 0, 2 - tags % 2, tags), plain.labels["entities"])
    assert (tags > 0).any()


def test_padded_puts_lists_into_rows():
    rows = padded(np.array([7, 8, 9]), np.array([2, 0, 1]))
    assert rows.tolist() == [[7, 8], [-1, -1], [9, -1]]
    assert padded(np.empty(0, dtype=np.int64), np.array([0, 0])).shape == (2, 0)


def test_each_click_knows_its_reader_by_key(site, make_recipe):
    store = site(*ROWS)
    shown = store.impressions(store.split("train"))
    keys = store.reader_keys().view(np.int64)
    batches = TrainingBatches(store, make_recipe(training={"batch_size": 6}))
    for epoch in range(3):
        batch = batches.batch(epoch, 0)
        for (history, (click, *_)), key in zip(told(batch, store), batch.readers.tolist(), strict=True):
            (row,) = (
                row
                for row, (clicked, candidates) in enumerate(ROWS)
                if f"{click}-1" in candidates and history == clicked.split()
            )
            assert key == keys[shown.reader[row]]
    assert len(set(batch.readers.tolist())) == 5


def test_candidates_come_with_their_context_at_the_impression(site, make_recipe):
    store = site(
        ("N1", "N3-1 N4-0"),
        ("N1", "N3-0 N4-1"),
        ("N2", "N3-1 N5-0"),
    )
    recipe = make_recipe(
        tasks=["click"],
        click={"context": ["clicks", "age"]},
        data={"negatives": 1},
        training={"batch_size": 3},
    )
    batch = TrainingBatches(store, recipe).batch(0, 0)
    assert batch.context.shape == (3, 2, 2)
    assert batch.context.dtype == torch.float32
    # Impressions one minute apart; N3 and N4 were first shown at the first, N5 at the last.
    clicks = {("N3", 2): 1, ("N3", 3): 1, ("N4", 3): 1}
    age = {("N3", 2): 1, ("N4", 2): 1, ("N3", 3): 2}
    seen = set()
    for (history, candidates), context in zip(told(batch, store), batch.context, strict=True):
        row = 3 if history == ["N2"] else 2 if candidates[0] == "N4" else 1
        seen.add(row)
        for article, (recent, hours) in zip(candidates, context.tolist(), strict=True):
            assert recent == pytest.approx(np.log1p(clicks.get((article, row), 0)))
            assert hours == pytest.approx(np.log1p(age.get((article, row), 0) / 60), abs=1e-6)
    assert seen == {1, 2, 3}
    assert TrainingBatches(store, make_recipe()).batch(0, 0).context.shape[2] == 0


def test_a_pack_without_titles_is_as_long_as_its_articles(site, make_recipe):
    store = site(*ROWS)
    recipe = make_recipe(tasks=["click"], articles={"fields": ["article"]}, auxiliary_share=0.5)
    batch = TrainingBatches(store, recipe).batch(0, 0)
    assert [dict(pack.texts) for pack in batch.packs] == [{}, {}]
    places = {*batch.history[batch.history >= 0].tolist(), *batch.candidates.flatten().tolist()}
    assert sum(map(len, batch.packs)) == len(places) == max(places) + 1
    assert batch.labels == {}


def test_a_batch_moves_with_all_it_holds(site, make_recipe):
    store = site(*ROWS)
    recipe = make_recipe(articles={"fields": ["title", "category", "entities"]}, auxiliary_share=0.5)
    moved = TrainingBatches(store, recipe).batch(0, 0).to(torch.device("meta"))
    tensors = [moved.history, moved.candidates, moved.readers, moved.context, *moved.labels.values()]
    for pack in moved.packs:
        tensors += [pack.texts["title"].texts.tokens, pack.numbers["category"], pack.entities]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert len(moved) == 4
