import math

import pytest
import torch

from counterpoint.news.batches import TrainingBatches
from counterpoint.news.data.store import IGNORE
from counterpoint.news.models.building import fresh
from counterpoint.news.models.recommender import Dot, ScaledCosine
from counterpoint.news.models.texts import untrained_titles


@pytest.fixture
def model_of(simulated):
    def make(recipe, store=simulated):
        torch.manual_seed(0)
        model = fresh(recipe, store)
        torch.nn.init.normal_(model.reader.cold)
        return model

    return make


def test_losses_are_those_of_encoding_every_title_by_itself(simulated, make_recipe, model_of):
    recipe = make_recipe(training={"batch_size": 6})
    model, batch = model_of(recipe).eval(), TrainingBatches(simulated, recipe).batch(0, 0)
    bert, reader = model.articles.texts["title"].model, model.reader
    packs = [pack.texts["title"].texts for pack in batch.packs]
    states = [
        bert(input_ids=title[None]).last_hidden_state[0]
        for pack in packs
        for title in pack.tokens.split(pack.lengths)
    ]
    vectors = torch.stack([each[0] for each in states])

    click = []
    for history, candidates in zip(batch.history.tolist(), batch.candidates.tolist(), strict=True):
        clicked = vectors[[place for place in history if place >= 0]]
        logits = torch.tanh(clicked @ reader.attention.project.weight.T) @ reader.attention.query
        vector = torch.softmax(logits, 0) @ clicked if len(clicked) else reader.cold
        scores = vectors[candidates] @ vector
        click.append(torch.logsumexp(scores, 0) - scores[0])

    category = [
        torch.nn.functional.cross_entropy(model.heads["category"].output(vector), label)
        for vector, label in zip(vectors, batch.labels["category"], strict=True)
        if label != IGNORE
    ]
    entities, tags = [], batch.labels["entities"].split([len(each) for each in states])
    for tokens, wanted in zip(states, tags, strict=True):
        chances = model.heads["entities"].output(tokens).log_softmax(-1)
        entities.append(-sum(chances[place, tag] for place, tag in enumerate(wanted) if tag != IGNORE))

    losses = model.losses(batch)
    assert list(losses) == ["click", "category", "entities"]
    for loss, expected in zip(losses.values(), (click, category, entities), strict=True):
        torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_tasks_that_are_not_learned_have_no_head(make_recipe, simulated, model_of):
    recipe = make_recipe(tasks=["click"])
    model = model_of(recipe)
    assert not model.heads
    assert list(model.losses(TrainingBatches(simulated, recipe).batch(0, 0))) == ["click"]


def test_tasks_share_the_encoder_and_nothing_else(make_recipe, simulated, model_of):
    recipe = make_recipe(click={"score": "scaled_cosine"})
    model, batch = model_of(recipe), TrainingBatches(simulated, recipe).batch(0, 0)
    shared = {id(parameter) for parameter in model.shared_parameters()}
    assert shared == {id(parameter) for parameter in model.articles.texts["title"].parameters()}
    reached = {}
    for task, loss in model.losses(batch).items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        reached[task] = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    encoder = {name for name, _ in model.named_parameters() if name.startswith("articles.")}
    own = {
        task: {name.removeprefix("heads.").split(".")[0] for name in names - encoder}
        for task, names in reached.items()
    }
    assert own == {"click": {"reader", "score"}, "category": {"category"}, "entities": {"entities"}}
    for names in reached.values():
        assert names & encoder


def test_heads_fit_the_labels(make_recipe, simulated, model_of):
    kinds = len(simulated.labels["entity_types"])
    assert kinds > 1
    plain = model_of(make_recipe())
    typed = model_of(make_recipe(entities={"scheme": "bio-typed"}, category={"field": "subcategory"}))
    assert plain.heads["category"].output.out_features == len(simulated.labels["category"])
    assert typed.heads["category"].output.out_features == len(simulated.labels["subcategory"])
    assert plain.heads["entities"].output.out_features == 3
    assert typed.heads["entities"].output.out_features == 1 + 2 * kinds


def test_auxiliary_tasks_see_the_first_pack_alone(make_recipe, simulated, model_of):
    recipe = make_recipe(auxiliary_share=0.25)
    model, batch = model_of(recipe).eval(), TrainingBatches(simulated, recipe).batch(0, 0)
    assert len(batch.packs) == 2
    before = model.losses(batch)
    batch.packs[1].texts["title"].texts.tokens.fill_(1000)
    after = model.losses(batch)
    assert torch.equal(before["category"], after["category"])
    assert torch.equal(before["entities"], after["entities"])
    assert not torch.equal(before["click"], after["click"])


def test_a_share_of_the_titles_gives_the_same_auxiliary_losses_on_average(
    make_recipe, mind_folder, store_of, model_of
):
    news = [
        f'N{n}\t{"ab"[n % 2]}\ts\t{word} {word}\t\t\t[{{"Label": "x", "Type": "P", "WikidataId": "Q1", '
        f'"Confidence": 1.0, "OccurrenceOffsets": [0], "SurfaceForms": ["{word}"]}}]\t[]'
        for n, word in enumerate(
            ["apple", "bread", "chair", "dance", "eagle", "fruit", "grass", "house", "island", "juice"]
        )
    ]
    behaviors = [
        f"{day}\tU1\t11/{day}/2019 8:00:00 AM\tN0 N1 N2 N3 N4 N5\tN6-1 N7-0 N8-0 N9-0" for day in (11, 12, 13)
    ]
    store = store_of(mind_folder("ten", news=news, behaviors=behaviors))
    model = model_of(make_recipe(), store).eval()

    @torch.no_grad()
    def losses(share, epoch):
        recipe = make_recipe(auxiliary_share=share, data={"negatives": 3})
        return model.losses(TrainingBatches(store, recipe).batch(epoch, 0))

    whole = losses(1.0, 0)
    parts = [losses(0.3, epoch) for epoch in range(150)]
    for task in ("category", "entities"):
        values = torch.stack([part[task] for part in parts])
        error = values.std() / math.sqrt(len(values))
        assert error > 0
        assert abs(values.mean() - whole[task]) < 3 * error
    torch.testing.assert_close(parts[0]["click"], whole["click"])


def test_scaled_cosine_is_the_attended_mean_cosine_times_the_scale():
    torch.manual_seed(0)
    score, vectors, weights = ScaledCosine(7.0), torch.randn(4, 3), torch.tensor([0.5, 0.3, 0.2])
    articles = score.articles(vectors)
    reader = score.readers((weights @ articles[:3])[None])[0]
    cosines = torch.nn.functional.cosine_similarity(vectors[:3], vectors[3], dim=-1)
    torch.testing.assert_close(articles[3] @ reader, 7 * (weights @ cosines))
    assert [name for name, _ in score.named_parameters()] == ["log_scale"]
    assert torch.equal(Dot().articles(vectors), vectors)
    assert torch.equal(Dot().readers(vectors), vectors)


def test_untrained_titles_are_what_training_starts_from_and_draw_nothing(make_recipe, simulated):
    recipe = make_recipe(encoder={"random_weights": True})
    torch.manual_seed(recipe.training.seed)
    start = fresh(recipe, simulated)
    state = torch.get_rng_state()
    base = untrained_titles(recipe)
    assert torch.equal(torch.get_rng_state(), state)
    assert not base.training
    mine, its = base.texts["title"].parameters(), start.articles.texts["title"].parameters()
    for untrained, trained in zip(mine, its, strict=True):
        assert torch.equal(untrained, trained)
    assert base.size == start.articles.size == 32
    assert not base.others


def test_context_adds_its_own_score_to_each_candidate_and_starts_at_nothing(make_recipe, simulated, model_of):
    recipe = make_recipe(tasks=["click"], click={"context": ["age", "clicks"]})
    model, batch = model_of(recipe).eval(), TrainingBatches(simulated, recipe).batch(0, 0)
    without = model_of(make_recipe(tasks=["click"])).eval()
    with torch.no_grad():
        known = model.known(torch.cat([model.articles(pack).articles for pack in batch.packs]), batch.packs)
        readers = model.read(known, batch.history, batch.readers)
        bare = model.match(known, readers, batch.candidates)
        assert torch.equal(model.match(known, readers, batch.candidates, batch.context), bare)
        assert torch.equal(model.losses(batch)["click"], without.losses(batch)["click"])
        torch.nn.init.normal_(model.context.output.weight)
        scores = model.match(known, readers, batch.candidates, batch.context)
        for row, column in ((0, 0), (1, 3), (3, 4)):
            told = batch.context[row, column]
            hidden = model.context.hidden.weight @ told + model.context.hidden.bias
            added = (model.context.output.weight @ hidden.clamp(min=0)).squeeze()
            torch.testing.assert_close(scores[row, column], bare[row, column] + added)
    assert batch.context.abs().sum() > 0


def test_a_model_with_context_learns_from_it(make_recipe, simulated, model_of):
    recipe = make_recipe(tasks=["click"], click={"context": ["age", "clicks"]}, training={"batch_size": 32})
    model, batch = model_of(recipe), TrainingBatches(simulated, recipe).batch(0, 0)
    optimizer = torch.optim.Adam(model.context.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        loss = model.losses(batch)["click"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert model.context.output.weight.abs().sum() > 0
    assert losses[-1] < losses[0] - 0.01
