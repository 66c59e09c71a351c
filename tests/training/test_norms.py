"""The norms of the tasks' gradients by layer, in the log of a training."""

import json

import pytest
import torch
from torch import nn

from counterpoint import balance
from counterpoint.runs.records import read_log
from counterpoint.training.loop import fit
from counterpoint.training.norms import norms_by_layer

FIELDS = {"layer_norms", "merged_layer_norms"}


class StoppedError(Exception):
    pass


@pytest.fixture
def train(toy, batches, settings):
    def go(run, method="equal", stop=None, **given):
        def progress(label, done, total):
            if done == stop:
                raise StoppedError

        fit(
            toy(),
            batches(6),
            settings(**{"epochs": 1, "clip_norm": None, **given}),
            balance.make(method),
            run,
            target="a",
            save=lambda folder: (folder / "saved").touch(),
            progress=progress,
        )

    return go


def lines(run):
    return [json.loads(line) for line in (run.path / "balance.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["equal", "metabalance", "mtrec"])
def test_diagnosed_steps_log_every_layer_and_task(method, train, new_run):
    run = new_run()
    train(run, method, diagnose_every=2)
    for line in lines(run):
        assert FIELDS & line.keys() == (FIELDS if line["step"] % 2 else set())
        if line["step"] % 2:
            assert list(line["layer_norms"]) == [
                f"{layer}|{task}" for layer in ("shared", "norm") for task in "abc"
            ]
            for task in "abc":
                whole = sum(line["layer_norms"][f"{layer}|{task}"] ** 2 for layer in ("shared", "norm"))
                assert whole == pytest.approx(line["norms"][task] ** 2, rel=1e-5)
            if method == "equal":
                assert line["merged_layer_norms"] == line["layer_norms"]
    assert list(read_log(run.path / "balance.jsonl")["layer_norms"]["norm|b"].steps) == [1, 3, 5]


def test_a_layer_is_the_root_of_its_weight_and_bias_squared():
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor([1.0]))
    model.body = nn.ModuleDict({"first": nn.Linear(1, 1)})
    first = model.body["first"]
    nn.init.ones_(first.weight)
    # a: 3 for the weight and 4 for the bias; b: 2 for the model's own parameter alone.
    losses = {"a": 3 * first.weight.sum() + 4 * first.bias.sum(), "b": 2 * model.scale.sum()}
    shared = [first.bias, model.scale, first.weight, first.bias]
    balancer = balance.Fixed({"a": -2.0, "b": 0.5})
    report = balancer.backward(losses, shared=shared, diagnose=True)
    assert norms_by_layer(report, model, shared) == {
        "layer_norms": {"body.first|a": 5.0, "body.first|b": 0.0, "scale|a": 0.0, "scale|b": 2.0},
        "merged_layer_norms": {"body.first|a": 10.0, "body.first|b": 0.0, "scale|a": 0.0, "scale|b": 1.0},
    }


def test_metabalance_at_full_strength_leaves_every_layer_the_targets_norm(toy, batches):
    model = toy().eval()
    balancer = balance.MetaBalance(relax=1.0, beta=0.0)
    shared = list(model.shared_parameters())
    report = balancer.backward(model.losses(batches().batch(0, 0)), shared=shared, target="a", diagnose=True)
    merged = norms_by_layer(report, model, shared)["merged_layer_norms"]
    for layer in ("shared", "norm"):
        target = merged[f"{layer}|a"]
        assert [merged[f"{layer}|{task}"] for task in "bc"] == pytest.approx([target, target])


def test_a_method_that_decides_by_coordinate_has_no_merged_norms(train, new_run):
    run = new_run()
    train(run, "mtadam", diagnose_every=1)
    for line in lines(run):
        assert FIELDS & line.keys() == {"layer_norms"}
        # It takes all parameters, the heads too, which their own task alone reaches.
        assert line["layer_norms"]["heads.a|a"] > 0 == line["layer_norms"]["heads.a|b"]


def test_without_diagnosis_nothing_is_logged(train, new_run):
    run = new_run()
    train(run, "metabalance")
    assert not any(FIELDS & line.keys() for line in lines(run))


def test_an_interrupted_training_logs_every_diagnosed_step_once(train, new_run):
    whole, broken = new_run("whole"), new_run("broken")
    options = {"diagnose_every": 2, "checkpoint_every": 2}
    train(whole, "metabalance", **options)
    with pytest.raises(StoppedError):
        train(broken, "metabalance", stop=5, **options)
    assert [line["step"] for line in lines(broken)] == [1, 2, 3, 4, 5]
    train(broken, "metabalance", **options)
    assert lines(broken) == lines(whole)
