"""Training over frozen layers whose output is kept on disk."""

import json

import numpy as np
import pytest
import torch

from counterpoint import api, balance
from counterpoint.encoders.frozen import StateCache
from counterpoint.news import workload
from counterpoint.news.data.store import Store


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def states(cache):
    """The cached files and when each was written."""
    return {file: file.stat().st_mtime_ns for file in (cache / "states").rglob("*") if file.is_file()}


def trained(recipe, store, steps=6):
    made = workload.trainee(recipe, store)
    model, told = made.model.train(), []
    balancer = balance.make("mtrec", scale=0.3)
    optimizer = torch.optim.SGD((each for each in model.parameters() if each.requires_grad), lr=0.05)
    for step in range(steps):
        losses = model.losses(made.batches.batch(0, step))
        told.append([loss.item() for loss in losses.values()])
        optimizer.zero_grad()
        balancer.backward(losses, shared=model.shared_parameters(), target="click")
        optimizer.step()
    return made, np.array(told)


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_training_with_the_cache_is_training_without_it(
    lora, simulated, make_recipe, monkeypatch, cache, tmp_path
):
    recipe = make_recipe(encoder={"frozen_layers": 1, "lora": lora})
    with_cache, cached = trained(recipe, simulated)
    batch = with_cache.batches.batch(0, 0)
    assert len(batch.packs[0].lower) == len(batch.packs[0].texts["title"].texts.tokens)
    assert states(cache)
    monkeypatch.setattr(workload, "frozen_states", lambda *_: None)
    without, computed = trained(recipe, simulated)
    assert without.batches.batch(0, 0).packs[0].lower is None
    np.testing.assert_allclose(cached, computed, rtol=2e-3)
    assert (np.abs(computed - computed[0]) > 0.01).any(1)[-1]
    for (name, mine), its in zip(
        with_cache.model.named_parameters(), without.model.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, its, rtol=2e-2, atol=1e-3, msg=name)
    for mine, its in zip(with_cache.validate().items(), without.validate().items(), strict=True):
        assert mine[0] == its[0]
        assert mine[1] == pytest.approx(its[1], abs=0.02)


def test_the_states_are_those_of_each_article_s_own_title(simulated, make_recipe):
    recipe = make_recipe(encoder={"frozen_layers": 1}, auxiliary_share=0.5)
    made = workload.trainee(recipe, simulated)
    batch = made.batches.batch(0, 0)
    assert len(batch.packs) == 2
    bert = made.model.articles.texts["title"].model.eval()
    for pack in batch.packs:
        texts = pack.texts["title"].texts
        for title, lower in zip(
            texts.tokens.split(texts.lengths), pack.lower.split(texts.lengths), strict=True
        ):
            with torch.no_grad():
                layers = bert(input_ids=title[None], output_hidden_states=True).hidden_states
            torch.testing.assert_close(lower.float(), layers[1][0], rtol=2e-3, atol=2e-3)


def test_a_second_run_reads_what_the_first_one_wrote(simulated, make_recipe, cache, monkeypatch):
    first = make_recipe(encoder={"frozen_layers": 1})
    workload.trainee(first, simulated)
    written = states(cache)
    assert len({file.parent for file in written}) == 1

    def build(*_):
        pytest.fail("the states are there already")

    with monkeypatch.context() as patch:
        patch.setattr(StateCache, "build", build)
        other = make_recipe(
            encoder={"frozen_layers": 1, "dropout": 0.3}, tasks=["click"], training={"seed": 7}
        )
        workload.trainee(other, Store(simulated.path))
    assert states(cache) == written


@pytest.mark.parametrize("change", ["the layers", "the titles", "the weights"])
def test_other_states_stand_elsewhere(change, simulated, make_recipe, cache, store_of, small_mind):
    recipe = make_recipe(encoder={"frozen_layers": 1})
    workload.trainee(recipe, simulated)
    written = states(cache)
    sections = {
        "the layers": {"frozen_layers": 2},
        "the titles": {"frozen_layers": 1},
        "the weights": {"frozen_layers": 1, "random_weights": True},
    }
    store = store_of(small_mind) if change == "the titles" else simulated
    # The small encoder's own weights were drawn from seed 0.
    workload.trainee(make_recipe(encoder=sections[change], training={"seed": 5}), store)
    after = states(cache)
    assert after.items() > written.items()
    assert len({file.parent for file in after}) == 2


def test_a_broken_cache_is_made_anew(simulated, make_recipe, cache):
    recipe = make_recipe(encoder={"frozen_layers": 1})
    made = workload.trainee(recipe, simulated)
    whole = made.batches.batch(0, 0).packs[0].lower.clone()
    (file,) = [each for each in states(cache) if each.name == "states.npy"]
    file.write_bytes(file.read_bytes()[:-100])
    again = workload.trainee(recipe, simulated).batches.batch(0, 0).packs[0].lower
    assert torch.equal(again, whole)


def test_without_frozen_layers_nothing_is_kept(simulated, make_recipe, cache):
    made = workload.trainee(make_recipe(), simulated)
    assert made.batches.batch(0, 0).packs[0].lower is None
    assert not (cache / "states").exists()


def test_a_run_over_frozen_layers_goes_all_the_way(small_mind, tiny_encoder, tmp_path, cache):
    settings = [
        f"encoder.name={tiny_encoder}",
        "encoder.frozen_layers=1",
        "training.precision=fp32",
        "training.batch_size=4",
        "training.epochs=2",
    ]
    run = api.train("mtrec", data=small_mind, out=tmp_path / "run", settings=settings)
    assert run.done
    record = api.evaluate(run.path)
    assert 0 <= record["metrics"]["auc"] <= 1
    before = states(cache)
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["parameters trained"] < facts["parameters"]
    (best, *_) = api.load(run.path).recommend(["N1"], articles={"new": "A museum of trams"})
    assert best.because
    assert states(cache) == before
