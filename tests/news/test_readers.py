import pytest
import torch

from counterpoint.news.models.hierarchical import HierarchicalReader
from counterpoint.news.models.readers import (
    AttentiveReader,
    Everyone,
    RecurrentReader,
    SelfAttentiveReader,
)

SIZE, ARTICLES = 8, 12
TOPICS = torch.tensor([1, 1, 2, 2, 3, 3, 1, 2, 0, 3, 1, 2])
SUBTOPICS = torch.tensor([1, 2, 3, 3, 4, 5, 1, 0, 0, 4, 2, 3])
HISTORIES = [[0, 1, 6, 2, 4], [3], [], [8, 7], [5, 5, 9, 4, 10, 11]]
NUMBERS = torch.tensor([1, 0, 2, 3, 0])

KINDS = {
    "additive": lambda: AttentiveReader(SIZE, 5),
    "self_attention": lambda: SelfAttentiveReader(SIZE, 2, 5),
    "initial": lambda: RecurrentReader(SIZE, 3, concatenated=False, dropout=0.5),
    "concatenated": lambda: RecurrentReader(SIZE, 3, concatenated=True, dropout=0.5),
    "hierarchical": lambda: HierarchicalReader(SIZE, 3, 5, topic_weight=0.15, subtopic_weight=0.7),
    "everyone": lambda: Everyone(SIZE),
}


def made(kind):
    torch.manual_seed(1)
    reader = KINDS[kind]().double().eval()
    for parameter in reader.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for module in reader.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            module.weight.data[module.padding_idx] = 0
    return reader


@pytest.fixture
def vectors():
    torch.manual_seed(0)
    return torch.randn(ARTICLES, SIZE, dtype=torch.float64)


def padded(histories, places):
    rows = [history + [-1] * (places - len(history)) for history in histories]
    return torch.tensor(rows, dtype=torch.long)


def facing(reader, vectors, histories=HISTORIES, numbers=NUMBERS, places=6):
    """The vector with which each reader faces each article."""
    known = reader.known(vectors, TOPICS, SUBTOPICS)
    readers = reader(known, padded(histories, places), numbers)
    rows = torch.arange(len(histories)).repeat_interleave(ARTICLES)
    candidates = torch.arange(ARTICLES).repeat(len(histories))
    return reader.facing(readers, rows, known, candidates).view(len(histories), ARTICLES, SIZE)


def pooled(attention, vectors):
    weights = torch.softmax(torch.tanh(attention.project(vectors)) @ attention.query, 0)
    return weights @ vectors


def additive(reader, vectors, history, number):
    return pooled(reader.attention, vectors[history]) if history else reader.cold


def self_attentive(reader, vectors, history, number):
    if not history:
        return reader.cold
    clicked = vectors[history]
    attended = reader.attend(clicked[None], torch.ones(1, len(history), dtype=torch.bool))[0]
    return pooled(reader.attention, attended)


def recurrent(reader, vectors, history, number):
    own = reader.embedding.weight[number]
    state = torch.zeros_like(own) if reader.concatenated else own
    for article in history:
        _, state = reader.gru(vectors[article][None, None], state[None, None])
        state = state[0, 0]
    together = torch.cat((state, own)) if reader.concatenated else state
    return together if history else together + reader.cold


@pytest.mark.parametrize(
    ("kind", "naive"),
    [
        ("additive", additive),
        ("self_attention", self_attentive),
        ("initial", recurrent),
        ("concatenated", recurrent),
    ],
)
def test_one_vector_readers_are_those_of_each_history_by_itself(kind, naive, vectors):
    reader = made(kind)
    found = facing(reader, vectors)
    for row, (history, number) in enumerate(zip(HISTORIES, NUMBERS.tolist(), strict=True)):
        expected = naive(reader, vectors, history, number)
        for candidate in range(ARTICLES):
            torch.testing.assert_close(found[row, candidate], expected)


def hierarchical(reader, vectors, history, candidate):
    """HieRec's three interests, by dictionaries (Qi et al. 2021, section 3.2)."""
    if not any(TOPICS[article] and SUBTOPICS[article] for article in history):
        overall = reader.cold
    subtopics, counts = {}, {}
    for name in dict.fromkeys(int(SUBTOPICS[article]) for article in history):
        clicked = [article for article in history if SUBTOPICS[article] == name]
        if name:
            weights = torch.softmax(reader.of_click(vectors[clicked]).squeeze(1), 0)
            subtopics[name] = weights @ vectors[clicked] + reader.subtopic.weight[name]
            counts[name] = len(clicked)
    parent = {int(SUBTOPICS[article]): int(TOPICS[article]) for article in history}

    def logit(layer, vector, count):
        return (layer(vector) + reader.of_count(reader.count.weight[count])).squeeze()

    topics, topic_counts = {}, {}
    for name in dict.fromkeys(int(TOPICS[article]) for article in history):
        if not name:
            continue
        topic_counts[name] = sum(int(TOPICS[article]) == name for article in history)
        children = [child for child in subtopics if parent[child] == name]
        topics[name] = reader.topic.weight[name].clone()
        if children:
            logits = [logit(reader.of_subtopic, subtopics[child], counts[child]) for child in children]
            weights = torch.softmax(torch.stack(logits), 0)
            topics[name] = topics[name] + weights @ torch.stack([subtopics[child] for child in children])
    if topics:
        logits = [logit(reader.of_topic, topics[name], topic_counts[name]) for name in topics]
        overall = torch.softmax(torch.stack(logits), 0) @ torch.stack(list(topics.values()))
    facing = 0.15 * overall
    topic, subtopic = int(TOPICS[candidate]), int(SUBTOPICS[candidate])
    if topic in topics:
        facing = facing + 0.15 * topic_counts[topic] / len(history) * topics[topic]
    if subtopic in subtopics:
        facing = facing + 0.7 * counts[subtopic] / len(history) * subtopics[subtopic]
    return facing


def test_a_hierarchical_reader_meets_candidates_with_their_own_interests(vectors):
    reader = made("hierarchical")
    found = facing(reader, vectors)
    for row, history in enumerate(HISTORIES):
        for candidate in range(ARTICLES):
            torch.testing.assert_close(
                found[row, candidate], hierarchical(reader, vectors, history, candidate)
            )


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_other_readers_change_nothing(kind, vectors):
    reader = made(kind)
    together = facing(reader, vectors, places=9)
    for row, history in enumerate(HISTORIES):
        alone = facing(reader, vectors, [history], NUMBERS[row : row + 1], places=len(history))
        torch.testing.assert_close(alone[0], together[row])


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"everyone"}))
def test_attention_is_shared_among_the_clicks_and_padding_gets_none(kind, vectors):
    reader = made(kind)
    history = padded(HISTORIES, 6)
    attention = reader(reader.known(vectors, TOPICS, SUBTOPICS), history, NUMBERS).attention
    assert (attention[history < 0] == 0).all()
    with_topics = [row for row, places in enumerate(HISTORIES) if any(SUBTOPICS[places])]
    rows = with_topics if kind == "hierarchical" else [row for row, places in enumerate(HISTORIES) if places]
    torch.testing.assert_close(attention[rows].sum(1), torch.ones(len(rows), dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_with_empty_histories_and_none_at_all(kind, vectors):
    reader = made(kind).train()
    vectors.requires_grad_()
    for histories, places in ((HISTORIES, 6), ([[], []], 0)):
        facing(reader, vectors, histories, NUMBERS[: len(histories)], places).square().sum().backward()
    parameters = [vectors, *reader.parameters()]
    assert all(each.grad is None or each.grad.isfinite().all() for each in parameters)
    assert reader.cold.grad.abs().sum() > 0


def test_everyone_is_met_with_the_same_vector(vectors):
    reader = made("everyone")
    assert torch.equal(facing(reader, vectors), reader.cold.expand(len(HISTORIES), ARTICLES, SIZE))


def test_a_share_of_reader_embeddings_is_left_out_in_training_alone(vectors):
    reader = made("concatenated").train()
    histories, numbers = [[0, 1]] * 400, torch.ones(400, dtype=torch.long)
    halves = facing(reader, vectors, histories, numbers, 2)[:, 0, SIZE // 2 :]
    left_out = (halves == 0).all(1).double().mean()
    assert 0.4 < left_out < 0.6
    reader.eval()
    kept = facing(reader, vectors, histories, numbers, 2)[:, 0, SIZE // 2 :]
    assert torch.equal(kept, reader.embedding.weight[1].expand_as(kept))


def test_a_stranger_has_no_embedding(vectors):
    reader = made("initial")
    assert (reader.embedding.weight[0] == 0).all()
    expected, _ = reader.gru(vectors[[3]][None])
    torch.testing.assert_close(facing(reader, vectors, [[3]], torch.tensor([0]), 1)[0, 0], expected[0, -1])


def test_half_a_reader_needs_an_even_size():
    with pytest.raises(ValueError, match="even size, not 7"):
        RecurrentReader(7, 3, concatenated=True, dropout=0.5)


@pytest.fixture
def attentive():
    torch.manual_seed(0)
    reader = AttentiveReader(size=2, query_size=2)
    torch.nn.init.normal_(reader.cold)
    return reader


def read(reader, articles, history, *, places=0):
    """Vectors and attention of readers with these padded histories, ``places`` of padding behind them."""
    history = torch.nn.functional.pad(torch.tensor(history), (0, places), value=-1)
    nothing = torch.zeros(len(articles), dtype=torch.long)
    known = reader.known(articles, nothing, nothing)
    readers = reader(known, history, torch.zeros(len(history), dtype=torch.long))
    assert readers.interests is None
    return readers.vectors, readers.attention


def test_a_reader_is_the_weighted_sum_of_the_history(attentive):
    articles = torch.randn(5, 2)
    vectors, weights = read(attentive, articles, [[3, 1, 3], [4, -1, -1]])
    logits = torch.tanh(articles @ attentive.attention.project.weight.T) @ attentive.attention.query
    expected = torch.softmax(logits[[3, 1, 3]], 0)
    torch.testing.assert_close(weights[0], expected)
    torch.testing.assert_close(vectors[0], expected @ articles[[3, 1, 3]])
    torch.testing.assert_close(vectors[1], articles[4])
    assert weights[1].tolist() == [1, 0, 0]


def test_logits_are_known_once_for_each_article_and_more_padding_changes_nothing(attentive):
    articles = torch.randn(5, 2)
    nothing = torch.zeros(5, dtype=torch.long)
    known = attentive.known(articles, nothing, nothing)
    torch.testing.assert_close(known.logits, attentive.attention.logits(articles))
    vectors, weights = read(attentive, articles, [[3, 1], [4, -1], [-1, -1]])
    again, longer = read(attentive, articles, [[3, 1], [4, -1], [-1, -1]], places=2)
    torch.testing.assert_close(again, vectors)
    torch.testing.assert_close(longer[:, :2], weights)
    assert (longer[:, 2:] == 0).all()


def test_padding_is_not_the_article_it_is_looked_up_as(attentive):
    articles = torch.randn(5, 2)
    other = articles.clone()
    other[0] = 1e6
    assert torch.equal(read(attentive, articles, [[3, 1, -1]])[0], read(attentive, other, [[3, 1, -1]])[0])


@pytest.mark.parametrize("places", [0, 3])
def test_readers_without_history_get_the_cold_vector_and_train_it(attentive, places):
    articles = torch.randn(5, 2, requires_grad=True)
    vectors, weights = read(attentive, articles, [[-1] * places] * 2)
    assert torch.equal(vectors, attentive.cold.expand(2, 2))
    assert weights.shape == (2, places)
    assert not weights.any()
    vectors.sum().backward()
    assert attentive.cold.grad.tolist() == [2, 2]
    assert articles.grad is None or not articles.grad.any()


def test_every_parameter_of_an_attentive_reader_gets_a_finite_gradient_where_some_are_cold(attentive):
    articles = torch.randn(5, 2, requires_grad=True)
    read(attentive, articles, [[1, 2], [-1, -1]])[0].square().sum().backward()
    for gradient in (articles.grad, *(parameter.grad for parameter in attentive.parameters())):
        assert gradient.isfinite().all()
        assert gradient.any()
