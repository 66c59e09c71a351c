"""Separate networks are what training each task alone gives, each at its own best validation."""

from dataclasses import replace

import pytest
import torch

import counterpoint
from counterpoint import balance
from counterpoint.api import read_recipe
from counterpoint.errors import UsageError
from counterpoint.feedback.batches import TrainingBatches
from counterpoint.feedback.models.building import fresh, load, network, save
from counterpoint.storage.files import read_json
from counterpoint.training.loop import StopTraining
from counterpoint.training.optimizers import make_optimizer
from small_feedback import SETTINGS as SMALL

RECIPE = read_recipe("feedback-single", [*SMALL, "network.dropout=0"])
PATIENT = read_recipe("feedback-single", [*SMALL, "training.patience=2"])


def steps(model, batches, method, count, **options):
    optimizer, balancer = make_optimizer(model, RECIPE.training), balance.make(method, **options)
    for number in range(count):
        losses = model.losses(batches.batch(0, number))
        balancer.backward(losses, shared=list(model.shared_parameters()), heads=model.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def test_side_by_side_they_take_the_steps_that_each_takes_alone(store):
    torch.manual_seed(0)
    together = fresh(RECIPE, store.schema)
    alone = network(replace(store.schema, labels=("like",)), RECIPE.network)
    alone.load_state_dict(together.networks[2].state_dict())
    batches = TrainingBatches(store, RECIPE)
    steps(together, batches, "equal", 4, reduction="sum")
    steps(
        alone, TrainingBatches(store, read_recipe("feedback-single", [*SMALL, "tasks=['like']"])), "equal", 4
    )
    for name, tensor in alone.state_dict().items():
        assert torch.allclose(together.networks[2].state_dict()[name], tensor, atol=1e-6), name


def test_each_is_kept_at_its_own_best(store):
    model = fresh(PATIENT, store.schema)
    labels = store.schema.labels
    history = {labels[0]: [0.5, 0.6, 0.7, 0.8], labels[1]: [0.9, 0.8, 0.7, 0.95]}
    kept = []
    for time in range(4):
        with torch.no_grad():
            for each in model.networks:
                for parameter in each.parameters():
                    parameter.fill_(time)
        metric = {label: history.get(label, [0.1] * 4)[time] for label in labels}
        best = model.keep_better(metric)
        kept.append([float(next(each.parameters()).detach().flatten()[0]) for each in model.kept()])
    assert best == {labels[0]: 0.8, labels[1]: 0.9, labels[2]: 0.1, labels[3]: 0.1}
    # The second gave up after two validations without progress, so what it reached later is not looked at.
    assert kept[-1] == [3.0, 0.0, 0.0, 0.0]


def test_what_is_kept_predicts_and_survives_in_the_state(store, tmp_path):
    model = fresh(PATIENT, store.schema)
    model.keep_better(dict.fromkeys(store.schema.labels, 0.7))
    wanted = model.kept().state_dict()
    trained = sum(parameter.numel() for parameter in model.networks.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == trained
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter.add_(1.0)
    restored = fresh(PATIENT, store.schema)
    restored.load_state_dict(model.state_dict())
    assert restored.best.tolist() == [0.7] * 4
    save(restored, store, tmp_path)
    loaded = load(tmp_path, RECIPE, store)
    for name, tensor in loaded.networks.state_dict().items():
        assert (tensor == wanted[name]).all()


@pytest.mark.slow
def test_an_interrupted_training_keeps_the_same_networks(store, tmp_path):
    settings = [*SMALL, "training.epochs=3", "training.checkpoint_every=5"]
    whole = counterpoint.train("feedback-single", data=store.path, out=tmp_path / "whole", settings=settings)

    def stop(step, value):
        raise StopTraining

    with pytest.raises(StopTraining):
        counterpoint.train(
            "feedback-single", data=store.path, out=tmp_path / "cut", settings=settings, observe=stop
        )
    cut = counterpoint.train(
        "feedback-single", data=store.path, out=tmp_path / "cut", settings=settings, resume=True
    )
    first, second = ((run.path / "model" / "model.safetensors").read_bytes() for run in (whole, cut))
    assert first == second
    assert whole.facts["best"] == cut.facts["best"]
    counterpoint.evaluate(whole.path, split="validation")
    metrics = read_json(whole.path / "evaluation-validation.json")["metrics"]
    assert metrics["auc"] == pytest.approx(whole.facts["best"])  # the mean of each task's own best


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("balance.method=pcgrad", "separate networks share nothing to balance"),
        ("network={chain='esmm', order=['long_view','like']}", "separate networks follow no chain"),
    ],
)
def test_what_separate_networks_cannot_do_is_told(setting, told):
    with pytest.raises(UsageError, match=told):
        read_recipe("feedback-single", [setting])
