import itertools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from counterpoint import balance
from counterpoint.errors import CounterpointError
from counterpoint.training.loop import fit, make_optimizer
from counterpoint.training.schedule import linear_decay

TIMES = {"examples_per_second", "seconds_per_step"}


def lines(run, name):
    return [json.loads(line) for line in (run.path / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture
def train(toy, batches, settings):
    """Train a toy in a run; the validation metrics are given, one after another."""

    def go(run, method="equal", model=None, number=6, values=None, seen=None, **given):
        model = model or toy()
        measured = None if values is None else iter(values)
        fit(
            model,
            batches(number),
            settings(**given),
            balance.make(method),
            run,
            target="a",
            save=lambda folder: save_file(dict(model.state_dict()), folder / "model.safetensors"),
            validate=None if measured is None else lambda: {"auc": next(measured)},
            metric="auc",
            progress=lambda label, done, total: None if seen is None else seen.append((done, total)),
        )
        return model

    return go


class StoppedError(Exception):
    pass


def stop_at(step):
    """A list for progress that raises at a step: the process died there."""

    class Until(list):
        def append(self, place):
            if place[0] == step:
                raise StoppedError

    return Until()


def test_training_lowers_the_losses_and_takes_every_step(train, new_run):
    run, seen = new_run(), []
    train(run, epochs=20, warmup=0.0, clip_norm=None, seen=seen)
    assert seen == [(step, 120) for step in range(121)]
    assert [line["step"] for line in lines(run, "balance")] == list(range(1, 121))
    metrics = lines(run, "metrics")
    assert [line["step"] for line in metrics] == list(range(10, 121, 10))
    assert set(metrics[0]["losses"]) == {"a", "b", "c"}
    assert sum(metrics[-1]["losses"].values()) < 0.8 * sum(metrics[0]["losses"].values())
    assert metrics[-1]["steps_not_finite"] == 0


def test_logged_losses_are_means_since_the_last_line(train, new_run):
    run = new_run()
    train(run, epochs=2, number=6)
    steps = [line["losses"] for line in lines(run, "balance")]
    metrics = lines(run, "metrics")
    assert [(line["step"], line["epoch"]) for line in metrics] == [(10, pytest.approx(10 / 6)), (12, 2.0)]
    for line, part in zip(metrics, (steps[:10], steps[10:]), strict=True):
        for task in "abc":
            mean = sum(each[task] for each in part) / len(part)
            assert line["losses"][task] == pytest.approx(mean, rel=1e-5)


def test_one_step_is_the_optimizers_on_the_clipped_gradient(train, toy, batches, settings, new_run):
    given = {"epochs": 1, "warmup": 0.0, "clip_norm": 0.01, "head_learning_rate": 0.1}
    trained = train(new_run(), number=1, **given).eval()
    # Dropout is drawn from the place in the training, so the expected model needs it switched off too.
    model = toy()
    model.drop.p = 0.0
    again = toy()
    again.drop.p = 0.0
    train(new_run("without"), model=again, number=1, **given)
    optimizer = make_optimizer(model, settings(**given))
    sum(model.losses(batches(1).batch(0, 0)).values()).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    assert norm > 0.01
    optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    assert not torch.equal(trained.shared.weight, again.shared.weight)


def test_the_steps_of_a_balancer_that_is_an_optimizer_are_not_clipped(train, new_run):
    short, any_length = (
        train(new_run(name), "mtadam", number=2, epochs=1, warmup=0.0, clip_norm=limit).state_dict()
        for name, limit in (("short", 1e-4), ("any", None))
    )
    assert all(torch.equal(short[name], any_length[name]) for name in any_length)


@pytest.mark.parametrize("method", ["equal", "pcgrad", "mtrec"])
@pytest.mark.parametrize("step", [1, 5, 6, 9])
def test_an_interrupted_run_ends_with_the_same_weights_and_logs(step, method, train, new_run):
    whole, broken = new_run("whole"), new_run("broken")
    given = {"checkpoint_every": 4, "validate_every": 3}
    values = [0.5, 0.6, 0.7, 0.4]
    expected = train(whole, method, values=values, **given)
    with pytest.raises(StoppedError):
        train(broken, method, values=values, seen=stop_at(step), **given)
    # Steps 4, 6 and 8 have a checkpoint before they could be interrupted; validations are every third step.
    reached = max(place for place in (0, 4, 6, 8) if place < step)
    model = train(broken, method, values=values[reached // 3 :], **given)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert lines(broken, "balance") == lines(whole, "balance")
    timeless = [
        [{key: value for key, value in line.items() if key not in TIMES} for line in lines(run, "metrics")]
        for run in (whole, broken)
    ]
    assert timeless[0] == timeless[1]
    kept = [load_file(run.path / "model" / "model.safetensors") for run in (whole, broken)]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_what_a_killed_process_left_behind_is_removed(train, new_run):
    run = new_run()
    with pytest.raises(StoppedError):
        train(run, seen=stop_at(5), checkpoint_every=2)
    for leftover in (run.path / ".model.abc.part", run.path / "checkpoints" / ".step-00000006.abc.part"):
        leftover.mkdir()
        (leftover / "model.safetensors").write_bytes(b"half")
    train(run, checkpoint_every=2)
    assert {path.name for path in run.path.iterdir()} == {
        "recipe.toml",
        "run.json",
        "metrics.jsonl",
        "balance.jsonl",
        "checkpoints",
        "model",
    }
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step-00000012"]


def test_a_finished_run_goes_no_further(train, new_run):
    run = new_run()
    expected = train(run)
    before = (run.path / "balance.jsonl").read_bytes()
    again = train(run)
    assert torch.equal(again.shared.weight, expected.shared.weight)
    assert (run.path / "balance.jsonl").read_bytes() == before


def test_the_best_model_is_kept_and_training_stops_without_progress(train, new_run, batches, toy):
    run, seen = new_run(), []
    kept = []
    values = [0.5, 0.7, 0.7, 0.6, 0.9]
    model = toy()

    def watch(value):
        kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return value

    train(run, model=model, epochs=9, values=map(watch, values), patience=2, seen=seen)
    assert len(kept) == 4
    assert seen[-1] == (24, 54)
    best = load_file(run.path / "model" / "model.safetensors")
    assert all(torch.equal(best[name], kept[1][name]) for name in best)
    validations = [line for line in lines(run, "metrics") if "validation" in line]
    assert [(line["step"], line["epoch"], line["validation"]["auc"]) for line in validations] == [
        (6, 1.0, 0.5),
        (12, 2.0, 0.7),
        (18, 3.0, 0.7),
        (24, 4.0, 0.6),
    ]
    # Going on with a stopped run takes no further step.
    train(run, epochs=9, values=iter(()), patience=2)
    assert len(lines(run, "balance")) == 24


def test_without_patience_training_goes_on(train, new_run):
    run = new_run()
    train(run, epochs=5, values=[0.9, 0.8, 0.7, 0.6, 0.5], patience=None)
    assert len(lines(run, "balance")) == 30


def test_without_validation_the_last_model_is_kept(train, new_run):
    run = new_run()
    model = train(run, epochs=3)
    last = load_file(run.path / "model" / "model.safetensors")
    assert torch.equal(last["shared.weight"], model.shared.weight)


def test_validation_that_measures_nothing_never_replaces_a_best_model(train, new_run):
    run = new_run()
    train(run, epochs=3, values=[0.5, float("nan"), 0.4], patience=None)
    state = json.loads(next((run.path / "checkpoints").iterdir()).joinpath("state.json").read_text())
    assert state["loop"]["best"] == 0.5
    assert state["loop"]["best_step"] == 6


class Broken:
    """A toy's losses, some of them not finite."""

    def __init__(self, toy, steps, spoil):
        self.steps, self.spoil, self.count = steps, spoil, itertools.count(1)
        self.losses = toy.losses
        toy.losses = self

    def __call__(self, batch):
        losses = self.losses(batch)
        return {**losses, "b": self.spoil(losses["b"])} if next(self.count) in self.steps else losses


@pytest.mark.parametrize(
    "spoil",
    [
        lambda loss: loss * float("inf"),
        lambda loss: loss + float("nan"),
        lambda loss: torch.where(torch.tensor(True), loss, (loss - loss).sqrt()),  # the gradient alone
    ],
)
def test_steps_that_are_not_finite_are_left_out_and_counted(spoil, train, toy, new_run):
    run, model = new_run(), toy()
    Broken(model, {3, 4, 8}, spoil)
    train(run, model=model)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert lines(run, "metrics")[-1]["steps_not_finite"] == 3
    steps = lines(run, "balance")
    assert [line["step"] for line in steps if not line["finite"]] == [3, 4, 8]
    finite = [line["losses"]["a"] for line in steps[:10] if line["finite"]]
    assert lines(run, "metrics")[0]["losses"]["a"] == pytest.approx(sum(finite) / 7, rel=1e-5)


def test_a_head_whose_gradient_is_not_finite_is_noticed(train, toy, new_run):
    run, model = new_run(), toy()
    weight = model.heads["b"].weight
    Broken(
        model, {2}, lambda loss: loss + torch.where(torch.tensor(True), 0.0, (weight - weight).sqrt()).sum()
    )
    train(run, model=model)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert lines(run, "metrics")[-1]["steps_not_finite"] == 1


def test_ten_steps_running_that_are_not_finite_stop_the_training(train, toy, new_run):
    run, model = new_run(), toy()
    Broken(model, {1, *range(3, 13)}, lambda loss: loss * float("nan"))
    with pytest.raises(
        CounterpointError, match=r"10 steps running .* step 12\); lower training\.learning_rate"
    ):
        train(run, model=model, epochs=9)
    assert len(lines(run, "balance")) == 12


def test_parameters_are_grouped_by_rate_and_decay(toy, settings):
    model = toy()
    optimizer = make_optimizer(
        model, settings(optimizer="adamw", head_learning_rate=0.5, weight_decay=0.1, learning_rate=0.01)
    )
    assert isinstance(optimizer, torch.optim.AdamW)
    told = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    names = {name: told[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(names) == len(told)
    for name, (rate, decay) in names.items():
        shared = name.startswith(("shared", "norm"))
        assert rate == (0.01 if shared else 0.5), name
        assert decay == (0.1 if name.endswith("weight") and "norm" not in name else 0.0), name


def test_heads_learn_at_the_shared_rate_by_default_and_frozen_parameters_not_at_all(toy, settings):
    model = toy()
    model.shared.weight.requires_grad_(False)
    optimizer = make_optimizer(model, settings())
    assert type(optimizer) is torch.optim.Adam
    assert {group["lr"] for group in optimizer.param_groups} == {1e-2}
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == len(list(model.parameters())) - 1


def test_learning_rate_rises_then_falls_to_zero():
    rates = [linear_decay(step, 20, 0.2) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[12] == 0.5
    assert rates[19] == pytest.approx(1 / 16)
    assert linear_decay(20, 20, 0.2) == 0
    assert linear_decay(0, 1, 0.1) == 1
    assert [linear_decay(step, 4, 0.0) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_the_learning_rate_of_a_step_is_logged(train, new_run):
    run = new_run()
    train(run, epochs=2, warmup=0.5)
    assert [line["learning_rate"] for line in lines(run, "metrics")] == pytest.approx(
        [1e-2 * linear_decay(step - 1, 12, 0.5) for step in (10, 12)]
    )
