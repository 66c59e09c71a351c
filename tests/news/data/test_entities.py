import json

import numpy as np
import pytest

from counterpoint.news.data.entities import EntityError, Span, locate, tag
from counterpoint.news.data.store import IGNORE
from counterpoint.news.tasks.tagging import untyped
from samples import ARTICLES, entity, news_row

TITLE = "Ada Holm beats Holm of Oslo in Oslo"


def spans(*entities, title=TITLE):
    found, counts = locate(title, json.dumps(list(entities)))
    return [(span.start, span.end, span.type) for span in found], +counts


def test_a_right_offset_is_used():
    assert spans(entity("G", "Q585", "Oslo", 31)) == ([(31, 35, "G")], {"found": 1})


@pytest.mark.parametrize("offset", [None, 0, 30])
def test_a_wrong_or_missing_offset_is_searched(offset):
    assert spans(entity("G", "Q585", "Oslo", offset)) == ([(23, 27, "G")], {"searched": 1})


def test_a_form_that_is_not_in_the_title_is_lost():
    assert spans(entity("G", "Q90", "Paris", 4)) == ([], {"lost": 1})
    assert spans(entity("G", "Q90", "", 4)) == ([], {"lost": 1})


def test_one_form_may_stand_at_several_places():
    twice = {"SurfaceForms": ["Oslo"], "OccurrenceOffsets": [23, 31], "Type": "G"}
    assert spans(twice) == ([(23, 27, "G"), (31, 35, "G")], {"found": 2})


def test_of_overlapping_spans_the_longest_wins_then_the_most_confident():
    short, long = entity("P", "Q1", "Holm", 4), entity("P", "Q2", "Ada Holm", 0)
    assert spans(short, long) == ([(0, 8, "P")], {"found": 2, "overlapping": 1})
    sure, unsure = entity("P", "Q1", "Holm", 15), entity("O", "Q3", "Holm", 15) | {"Confidence": 0.4}
    assert spans(unsure, sure) == ([(15, 19, "P")], {"found": 2, "overlapping": 1})


def test_no_entities_is_no_error():
    for raw in (None, "", " ", "[]"):
        assert locate(TITLE, raw)[0] == []


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("[{", "Invalid JSON"),
        ("{}", "valid array"),
        ("[1]", "0:"),
        ('[{"Type": "P"}]', "SurfaceForms: Field required"),
        ('[{"SurfaceForms": [1]}]', "SurfaceForms.0: Input should be a valid string"),
        ('[{"SurfaceForms": ["Oslo"], "OccurrenceOffsets": 3}]', "OccurrenceOffsets"),
        ('[{"SurfaceForms": ["Oslo"], "Confidence": "high"}]', "Confidence"),
        ('[{"SurfaceForms": ["\\ud800"]}]', "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ('[{"SurfaceForms": ["Oslo"], "OccurrenceOffsets": [35]}]', "beyond the title of 35 characters"),
        ('[{"SurfaceForms": ["Oslo"], "OccurrenceOffsets": [-1]}]', "beyond the title"),
    ],
)
def test_malformed_entities_are_one_sentence(raw, problem):
    with pytest.raises(EntityError, match=problem):
        locate(TITLE, raw)


def test_tags_begin_and_continue_and_leave_special_tokens_out():
    # [CLS] Ada Hol ##m beats Oslo [SEP]
    offsets = [(0, 0), (0, 3), (4, 7), (7, 8), (9, 14), (15, 19), (0, 0)]
    types = {"G": 0}
    found = [Span(0, 8, "P", "Q1", 1.0), Span(15, 19, "G", "Q585", 1.0)]
    tags = tag(offsets, [1, 0, 0, 0, 0, 0, 1], found, types)

    assert types == {"G": 0, "P": 1}
    assert tags.tolist() == [IGNORE, 3, 4, 4, 0, 1, IGNORE]
    assert untyped(tags).tolist() == [IGNORE, 1, 2, 2, 0, 1, IGNORE]


def test_two_entities_side_by_side_both_begin():
    tags = tag([(0, 4), (5, 9)], [0, 0], [Span(0, 4, "P", "", 1), Span(5, 9, "P", "", 1)], {})
    assert tags.tolist() == [1, 1]


def test_tags_in_the_store_follow_the_tokens(mind_folder, prepared, tokenizer):
    title = "Ada Holm wins near Oslo"
    mentions = [entity("P", "Q1", "Ada Holm", 0), entity("G", "Q585", "Oslo", 19)]
    news = [news_row("N1", "sports", "cycling", title, mentions), *(news_row(*row) for row in ARTICLES[1:])]
    store = prepared(mind_folder("tags", news=news))
    tokens, tags, _ = store.titles(np.array([1]))

    words = [tokenizer.pretrained.convert_ids_to_tokens(int(token)) for token in tokens]
    assert words == ["[CLS]", "ada", "holm", "wins", "near", "oslo", "[SEP]"]
    assert tags.tolist() == [IGNORE, 1, 2, 0, 0, 3, IGNORE]


def test_an_entity_at_the_cut_keeps_the_tokens_that_are_left(mind_folder, prepared):
    title = "Ada Holm wins near Oslo"
    mentions = [entity("P", "Q1", "Ada Holm", 0), entity("G", "Q585", "Oslo", 19)]
    news = [news_row("N1", "sports", "cycling", title, mentions), *(news_row(*row) for row in ARTICLES[1:])]
    store = prepared(mind_folder("cut", news=news), max_title_tokens=3)

    tokens, tags, lengths = store.titles(np.array([1]))
    assert lengths.tolist() == [3]
    assert len(tokens) == 3
    assert tags.tolist() == [IGNORE, 1, IGNORE]
    # Behind the cut are Oslo of N1 and the entities of N11 and N12; those of N2 and N4 begin before it.
    assert store.counts["entity spans cut off with the title"] == 3


def test_label_numbers_of_a_model_are_taken_over(small_mind, prepared):
    store = prepared(small_mind)
    berlin, own_tags = store.titles(np.array([4]))[:2]
    store.use_labels({"category": ["travel", "news"], "subcategory": [], "entity_types": ["G"]})

    assert store.labels["category"] == ["travel", "news"]
    assert store.labels_of("category").tolist() == [
        -100,
        1,
        -100,
        -100,
        1,
        -100,
        -100,
        1,
        -100,
        -100,
        0,
        0,
        -100,
    ]
    assert own_tags[1] == 3  # G is the second type of the site …
    assert store.titles(np.array([4]))[1][1] == 1  # … and the first of the model
    assert len(berlin) == len(own_tags)
    holm = store.titles(np.array([2]))[1]
    assert holm[1:3].tolist() == [IGNORE, IGNORE]  # P is unknown to the model
    assert holm[3] == 0
