import numpy as np
import pytest
import torch

from counterpoint.news.features import ArticleFeatures, packed
from counterpoint.news.models.articles import (
    Alone,
    ArticleEncoder,
    Attentive,
    Concatenation,
    Entities,
    Lookup,
)

SIZE = 6


class Sums(torch.nn.Module):
    """A text encoder whose vector is the sum of its tokens' vectors."""

    size = SIZE

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(20, SIZE)

    def forward(self, texts):
        states = self.words(texts.tokens)
        return states, torch.stack([part.sum(0) for part in states.split(texts.lengths)])


TITLES = [[3], [4, 5], [6, 7, 8]]
ABSTRACTS = [[1, 2, 3, 4], [9], [5, 5]]
CATEGORIES = torch.tensor([2, 0, 1])
ENTITIES = torch.tensor([[0, 2], [-1, -1], [1, -1]])


def flat(texts):
    return packed(np.array([token for text in texts for token in text]), np.array(list(map(len, texts))))


@pytest.fixture
def features():
    return ArticleFeatures(
        3, {"title": flat(TITLES), "abstract": flat(ABSTRACTS)}, {"category": CATEGORIES}, ENTITIES
    )


def made(fusion, fields=("title", "abstract"), others=("category", "entities")):
    torch.manual_seed(0)
    text = Sums()
    modules = {"category": Lookup(2, 4), "entities": Entities(3, 4, 0, 5, 0.0)}
    return ArticleEncoder(
        dict.fromkeys(fields, text), {name: modules[name] for name in others}, fusion
    ).double()


def by_hand(encoder):
    """Each article's fields that are there, before any alignment."""
    words = encoder.texts["title"].words.weight
    found = []
    for article in range(3):
        entities = encoder.others["entities"]
        own = [number + 1 for number in ENTITIES[article].tolist() if number >= 0]
        vectors = entities.vectors.weight[own]
        weights = torch.softmax(entities.attention.logits(vectors), 0)
        found.append(
            [
                words[TITLES[article]].sum(0),
                words[ABSTRACTS[article]].sum(0),
                encoder.others["category"].vectors.weight[CATEGORIES[article]]
                if CATEGORIES[article]
                else None,
                weights @ vectors if own else None,
            ]
        )
    return found


def test_attentive_fields_are_those_of_each_article_by_itself(features):
    encoder = made(Attentive([SIZE, SIZE, 4, 4], 5))
    fusion = encoder.fusion
    expected = []
    for fields in by_hand(encoder):
        aligned = [
            vector if place == 0 else fusion.align[place - 1](vector)
            for place, vector in enumerate(fields)
            if vector is not None
        ]
        logits = torch.stack(
            [torch.tanh(fusion.attention.project(each)) @ fusion.attention.query for each in aligned]
        )
        expected.append(torch.softmax(logits, 0) @ torch.stack(aligned))
    encoded = encoder(features)
    torch.testing.assert_close(encoded.articles, torch.stack(expected))
    words = encoder.texts["title"].words.weight
    torch.testing.assert_close(encoded.titles, torch.stack([words[title].sum(0) for title in TITLES]))
    torch.testing.assert_close(encoded.states, words[[token for title in TITLES for token in title]])


@pytest.mark.parametrize("dense", [False, True])
def test_fields_side_by_side_are_zero_where_an_article_has_none(dense, features):
    encoder = made(Concatenation([SIZE, SIZE, 4, 4], SIZE if dense else None))
    zeros = torch.zeros(4, dtype=torch.float64)
    rows = torch.stack(
        [torch.cat([zeros if each is None else each for each in fields]) for fields in by_hand(encoder)]
    )
    assert encoder.size == (SIZE if dense else 2 * SIZE + 8)
    torch.testing.assert_close(encoder(features).articles, encoder.fusion.dense(rows))


def test_relu_stands_behind_the_aligning_layers_alone(features):
    encoder = made(Attentive([SIZE, 4], 5, relu=True), ("title",), ("category",))
    with torch.no_grad():
        encoder.fusion.align[0].weight.zero_()
        encoder.fusion.align[0].bias.fill_(-1)
        encoder.fusion.attention.query.zero_()
    found = encoder(features)
    halves = torch.where(CATEGORIES[:, None] > 0, 0.5, 1.0)
    torch.testing.assert_close(found.articles, found.titles * halves)


def test_a_lone_field_is_the_article(features):
    encoder = made(Alone(4), (), ("category",))
    encoded = encoder(features)
    assert torch.equal(encoded.articles, encoder.others["category"].vectors(CATEGORIES))
    assert torch.equal(encoded.titles, encoded.articles)
    assert encoded.states.shape == (0, 4)
    assert (encoded.articles[1] == 0).all()


def test_what_learns_from_titles_is_shared(features):
    encoder = made(Attentive([SIZE, SIZE, 4, 4], 5))
    assert list(map(id, encoder.shared_parameters())) == [id(encoder.texts["title"].words.weight)]
    without = made(Alone(4), (), ("category",))
    assert set(map(id, without.shared_parameters())) == set(map(id, without.parameters()))


def test_entities_attend_to_each_other_where_asked():
    torch.manual_seed(0)
    entities = Entities(3, 4, 2, 5, 0.0).double()
    together, there = entities(ENTITIES)
    alone, _ = entities(ENTITIES[2:, :1])
    torch.testing.assert_close(together[2], alone[0])
    assert there.tolist() == [True, False, True]
    assert (together[1] == 0).all()
    swapped, _ = entities(ENTITIES.flip(1))
    torch.testing.assert_close(swapped, together)


def test_known_names_start_from_their_vectors():
    lookup = Lookup(3, 2)
    before = lookup.vectors.weight.clone()
    lookup.start_from(torch.tensor([[1.0, 2.0], [0, 0], [5, 6]]), torch.tensor([True, False, True]))
    assert lookup.vectors.weight[[1, 3]].tolist() == [[1, 2], [5, 6]]
    assert torch.equal(lookup.vectors.weight[[0, 2]], before[[0, 2]])


def test_texts_are_packed_shortest_first_and_told_where():
    texts = flat(ABSTRACTS)
    assert texts.texts.lengths == (1, 2, 4)
    assert texts.texts.tokens.tolist() == [9, 5, 5, 1, 2, 3, 4]
    assert texts.place.tolist() == [2, 0, 1]
    assert flat(TITLES).place is None
