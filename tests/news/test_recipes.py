"""Every built-in recipe from its file to a saved model, with a small encoder on small simulated sites."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from counterpoint import balance
from counterpoint.api import read_recipe
from counterpoint.encoders.loading import load_tokenizer
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.news import workload
from counterpoint.news.data.store import Store
from counterpoint.news.evaluate import evaluate
from counterpoint.news.models.building import save
from counterpoint.news.recipe import LEAKING
from counterpoint.news.scoring import (
    articles_of,
    context_of,
    encode_articles,
    features_of,
    score_impressions,
)
from counterpoint.progress import silent
from counterpoint.runs.recipe import builtin_names
from counterpoint.simulation.news.ebnerd import simulate_ebnerd
from counterpoint.simulation.news.mind import simulate
from counterpoint.workload import Preparation

NAMES = builtin_names("news")
SMALL = [
    "training.precision=fp32",
    "training.batch_size=8",
    "data.max_history=8",
    "articles.category_size=8",
    "articles.entity_size=10",
    "articles.article_size=12",
]


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    simulate(folder / "mind", readers=120, articles=120, days=4, seed=2, candidates=(4, 10))
    simulate_ebnerd(folder / "ebnerd", readers=60, articles=200, days=4, seed=2)
    return {kind: folder / kind for kind in ("mind", "ebnerd")}


@pytest.fixture(scope="module")
def small(tiny_encoder):
    """A built-in recipe over the small encoder, or a small one of words."""

    def make(name, *settings):
        given = read_recipe(name)
        more = [f"encoder.name={tiny_encoder}", *SMALL, *settings]
        if given.encoder.kind != "pretrained":
            more += ["encoder.size=20", "encoder.heads=4"]
        if given.reader.kind == "self_attention":
            more += ["reader.heads=4"]
        return read_recipe(name, more)

    return make


@pytest.fixture(scope="module")
def opened(sites):
    """The store of a recipe's kind of site, opened anew."""

    def open_for(recipe):
        site = sites["ebnerd" if recipe.name.startswith("ebnerd") else "mind"]
        return workload.prepare(site, recipe, Preparation()).store

    return open_for


def trained(recipe, store, steps=2):
    """Train for some steps as the loop does; return the model and the losses."""
    made = workload.trainee(recipe, store)
    model, told = made.model.train(), []
    balancer = balance.make(recipe.balance.method, **recipe.balance.options)
    optimizer = torch.optim.Adam((each for each in model.parameters() if each.requires_grad), lr=1e-3)
    for number in range(steps):
        losses = model.losses(made.batches.batch(0, number % len(made.batches)))
        told.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        balancer.backward(losses, shared=model.shared_parameters(), target=made.target)
        optimizer.step()
    return model, told


def scores_of(model, recipe, store, split="test"):
    shown = store.impressions(store.split(split))
    features = features_of(model, recipe, store)
    index = encode_articles(model.eval(), features, articles_of(store, shown, recipe))
    context = context_of(recipe, store, split)
    return score_impressions(model, index, store, shown, recipe.data.max_history, context)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_saves_and_loads_to_the_same_scores(name, small, opened, tmp_path):
    recipe = small(name)
    store = opened(recipe)
    model, told = trained(recipe, store)
    assert [list(losses) for losses in told] == [list(recipe.tasks)] * 2
    assert all(math.isfinite(loss) for losses in told for loss in losses.values())
    scores = scores_of(model, recipe, store)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 50

    save(model, store, load_tokenizer(recipe.encoder.name), tmp_path)
    other = Store(store.path)
    again = workload.load(tmp_path, recipe, other)
    assert not again.training
    assert again.vocabulary.labels == model.vocabulary.labels
    assert torch.equal(again.readers_met, model.readers_met)
    np.testing.assert_array_equal(scores_of(again, recipe, other), scores)
    before = evaluate(model, recipe, store, "test", with_floors=False).record["metrics"]
    assert evaluate(again, recipe, other, "test", with_floors=False).record["metrics"] == before
    assert {metric.partition("/")[0] for metric in before if "/" in metric} == set(recipe.tasks[1:])


@pytest.mark.parametrize("name", [name for name in NAMES if len(read_recipe(name).tasks) > 1])
def test_the_shared_parameters_are_those_that_more_than_one_loss_reaches(name, small, opened):
    recipe = small(name)
    made = workload.trainee(recipe, opened(recipe))
    learned = {key: value for key, value in made.model.named_parameters() if value.requires_grad}
    reached = dict.fromkeys(learned, 0)
    for loss in made.model.train().losses(made.batches.batch(0, 0)).values():
        gradients = torch.autograd.grad(loss, list(learned.values()), retain_graph=True, allow_unused=True)
        for key, gradient in zip(learned, gradients, strict=True):
            reached[key] += gradient is not None
    shared = {id(parameter) for parameter in made.model.shared_parameters()}
    assert {key for key, times in reached.items() if times > 1} == {
        key for key, value in learned.items() if id(value) in shared
    }
    assert min(reached.values()) > 0


LORA = [name for name in NAMES if read_recipe(name).encoder.lora is not None]


@pytest.mark.parametrize("name", LORA)
def test_of_an_adapted_encoder_only_adapters_are_in_the_file(name, small, opened, tmp_path):
    recipe = small(name)
    store = opened(recipe)
    model, _ = trained(recipe, store)
    save(model, store, load_tokenizer(recipe.encoder.name), tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    encoder = {key for key in saved if key.startswith("articles.")}
    assert encoder
    assert all("lora_" in key for key in encoder)
    learned = {key for key, value in model.named_parameters() if value.requires_grad}
    assert {key for key in saved if key in dict(model.named_parameters())} == learned
    assert (tmp_path / "model.safetensors").stat().st_size < 200_000
    # The frozen base is as it was.
    base = load_file(f"{recipe.encoder.name}/model.safetensors")
    mine = model.articles.texts["title"].model.embeddings.word_embeddings.weight
    assert torch.equal(mine, base["embeddings.word_embeddings.weight"])


def test_there_are_adapted_recipes():
    assert "ebnerd-mtrec-sentiment-lora" in LORA


@pytest.mark.parametrize("name", ["popularity", "lstur", "hierec", "mtrec-sentiment", "ebnerd-reading"])
def test_an_evaluation_has_all_its_floors_and_no_nan(name, small, opened):
    recipe = small(name)
    store = opened(recipe)
    model, _ = trained(recipe, store, steps=1)
    evaluated = workload.evaluate(model, recipe, store, "test", silent)
    floors = {"random", "popularity", "popularity, 24 h", "recency", "content", "optimum (simulated)"}
    assert set(evaluated.record["floors"]) == floors
    editorial = evaluated.record["editorial"]
    assert set(editorial) == floors | {"model", "clicks"}
    assert all(value is None or math.isfinite(value) for row in editorial.values() for value in row.values())
    sentiments = [measure for measure in editorial["model"] if "sentiment" in measure]
    assert bool(sentiments) == (name in ("mtrec-sentiment", "ebnerd-reading"))
    assert {f"floor/{floor}/auc" for floor in floors} < set(evaluated.per_unit)


def test_lstur_knows_a_reader_of_other_files_by_his_id_alone(small, opened, sites, tmp_path):
    """The second site has the same people in another order, and one whom training never met."""
    recipe = small("lstur", "reader.embedding_dropout=0.0")
    store = opened(recipe)
    model, _ = trained(recipe, store, steps=3)
    people = {}
    for split in ("train", "test"):
        rows = store.split(split)
        people[split] = reader_ids(store, rows)
    met, strangers = sorted(set(people["train"])), sorted(set(people["test"]) - set(people["train"]))
    assert len(model.readers_met) == len(met)

    other = other_site(sites["mind"], tmp_path / "other", [met[3], "nobody yet", met[0], *strangers[:1]])
    (tmp_path / "model").mkdir()
    save(model, store, load_tokenizer(recipe.encoder.name), tmp_path / "model")
    second = workload.prepare(other, recipe, Preparation()).store
    again = workload.load(tmp_path / "model", recipe, second)
    shown = second.impressions(np.arange(4))
    keys = torch.from_numpy(second.reader_keys().view(np.int64)[shown.reader])
    numbers = again._numbers(keys)
    assert numbers[1] == 0
    table = again.reader.embedding.weight
    assert not table[numbers[1]].any()
    own = store.reader_keys().view(np.int64)
    for place, person in ((0, met[3]), (2, met[0])):
        row = store.split("train")[people["train"].index(person)]
        key = own[store.impressions(np.array([row])).reader[0]]
        number = 1 + sorted(again.readers_met.tolist()).index(key)
        assert numbers[place] == number
        assert table[number].any()
    if strangers:
        assert numbers[3] == 0
    # All four have one history and one list of candidates: what tells them apart is who they are.
    first, nobody, third, *_ = np.split(scores_of(again, recipe, second, "unlabelled"), 4)
    assert not np.array_equal(first, nobody)
    assert not np.array_equal(first, third)
    with torch.no_grad():
        again.reader.embedding.weight[1:] = 0
    nameless = np.split(scores_of(again, recipe, second, "unlabelled"), 4)
    assert np.array_equal(nameless[1], nobody)
    assert not np.array_equal(nameless[0], first)


def reader_ids(store, rows):
    return pl.read_parquet(store.path / "impressions.parquet")["reader"][rows].to_list()


def other_site(mind, folder, readers):
    """Impressions to be ranked for some readers, with the articles of another site."""
    news = sorted(mind.rglob("news.tsv"))[0].read_text(encoding="utf-8")
    ids = [line.split("\t")[0] for line in news.splitlines()]
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "news.tsv").write_text(news, encoding="utf-8")
    lines = [
        f"{number}\t{reader}\t10/20/2025 8:00:00 AM\t{ids[0]} {ids[1]}\t{ids[2]} {ids[3]} {ids[4]}"
        for number, reader in enumerate(readers)
    ]
    (folder / "test" / "behaviors.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ['click.context=["next_read_time"]'],
            "'next_read_time' cannot be an input: {reason}, which nobody knows yet when the articles are "
            "ranked; leave it out.",
        ),
        (
            ["encoder.words=glove.txt"],
            "recipe mtrec: encoder: words belong to a shallow encoder; set kind to 'convolution' or "
            "'self_attention'",
        ),
        (
            ["encoder.kind=convolution", "encoder.frozen_layers=2"],
            "recipe mtrec: encoder: lora and frozen_layers need kind = 'pretrained'",
        ),
        (
            ["encoder.kind=self_attention", "encoder.heads=7"],
            "recipe mtrec: encoder: 7 heads do not divide a size of 400",
        ),
        (
            ["encoder.window=4"],
            "recipe mtrec: encoder: window must be odd, so that a word stands in its middle; 4 is even",
        ),
        (['articles.fields=["title", "title"]'], "recipe mtrec: articles.fields: name each field once"),
        (
            ["articles.entity_heads=3"],
            "recipe mtrec: articles: 3 heads do not divide an entity_size of 100",
        ),
        (
            ["reader.topic_weight=0.5"],
            "recipe mtrec: reader: subtopic_weight and topic_weight must leave something for the overall "
            "interest",
        ),
        (
            ['articles.fields=["category"]'],
            "recipe mtrec: task 'category' reads titles; add 'title' to articles.fields",
        ),
        (
            ['articles.fields=["title", "abstract"]', "encoder.frozen_layers=1"],
            "recipe mtrec: frozen_layers cache the titles alone; leave 'title' as the only text",
        ),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(settings, sentence):
    with pytest.raises(UsageError) as caught:
        read_recipe("mtrec", settings)
    assert str(caught.value).startswith(sentence.format(reason=LEAKING["next_read_time"]))
    assert "\n" not in str(caught.value)


def test_heads_that_do_not_divide_the_article_are_one_sentence(small, opened):
    recipe = small("nrms-bert", "reader.heads=5")
    assert recipe.reader.heads == 4
    recipe = recipe.model_copy(update={"reader": recipe.reader.model_copy(update={"heads": 5})})
    with pytest.raises(UsageError) as caught:
        workload.trainee(recipe, opened(recipe))
    assert str(caught.value) == (
        "recipe nrms-bert: reader.heads = 5 does not divide the article's 32 numbers; choose one that does."
    )


def test_half_a_reader_of_an_odd_article_is_one_sentence(small, opened):
    recipe = small("lstur-con")
    odd = recipe.articles.model_copy(update={"fields": ("title", "category"), "category_size": 9})
    with pytest.raises(UsageError) as caught:
        workload.trainee(recipe.model_copy(update={"articles": odd}), opened(recipe))
    assert str(caught.value) == (
        "recipe lstur-con: a concatenated reader embedding needs an even article size, not 29; change "
        "encoder.size or articles.category_size."
    )


def test_a_text_that_the_data_does_not_have_is_one_sentence(small, opened):
    recipe = small("bert", 'articles.fields=["title", "body"]')
    with pytest.raises(CounterpointError) as caught:
        opened(recipe)
    assert str(caught.value).endswith(": its articles have no body; leave 'body' out of articles.fields.")
