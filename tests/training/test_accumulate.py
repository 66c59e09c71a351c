"""Shares of a batch one after another, and tasks with batches of their own, merged in one step."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from counterpoint import balance
from counterpoint.balance import Report
from counterpoint.training.loop import _Loop, fit


@dataclass
class Part:
    """One task's rows."""

    task: str
    inputs: torch.Tensor
    targets: torch.Tensor

    def to(self, device):
        return self

    def __len__(self):
        return len(self.inputs)


@dataclass
class Parts:
    """A batch for each of some tasks."""

    batches: list

    def to(self, device):
        return self

    def __len__(self):
        return sum(map(len, self.batches))

    def parts(self):
        return self.batches


class OwnBatches:
    """Tasks on batches of their own; in the third step one is missing and another comes twice."""

    def __init__(self, tasks=(("a", "b", "c"), ("a", "b", "c"), ("a", "b", "b"))):
        self._tasks = tasks

    def __len__(self):
        return len(self._tasks)

    def batch(self, epoch, number, *, rank=0, processes=1):
        parts = []
        for place, task in enumerate(self._tasks[number]):
            generator = torch.Generator().manual_seed(1000 * epoch + 10 * number + place)
            inputs, targets = (torch.randn(4, 3, generator=generator) for _ in range(2))
            parts.append(Part(task, inputs[rank::processes], targets[rank::processes]))
        return Parts(parts)


def own_losses(toy):
    """A toy whose losses are those of one task."""

    class OneTask(type(toy)):
        def losses(self, batch):
            if not isinstance(batch, Part):
                return super().losses(batch)
            return {batch.task: super().losses(batch)[batch.task]}

    toy.__class__ = OneTask
    toy.drop.p = 0.0
    return toy


@pytest.fixture
def train(toy, settings):
    def go(run, batches, method="pcgrad", **given):
        model = own_losses(toy())
        seen = []

        class Kept(type(balance.make(method))):
            def merge(self, *args, **options):
                merged = super().merge(*args, **options)
                if isinstance(merged, Report):
                    seen.append(
                        [None if each.grad is None else each.grad.clone() for each in model.parameters()]
                    )
                return merged

            def backward(self, *args, **options):
                report = super().backward(*args, **options)
                seen.append([None if each.grad is None else each.grad.clone() for each in model.parameters()])
                return report

        balancer = balance.make(method)
        balancer.__class__ = Kept
        fit(
            model,
            batches,
            settings(**{"batch_size": 4, "clip_norm": None, **given}),
            balancer,
            run,
            target="a",
            save=lambda folder: save_file(dict(model.state_dict()), folder / "model.safetensors"),
        )
        return model, seen

    return go


@pytest.mark.parametrize("method", ["equal", "pcgrad", "mtrec", "uncertainty"])
@pytest.mark.parametrize("shares", [2, 4])
def test_shares_add_up_to_the_whole_batch(train, batches, new_run, method, shares):
    whole, ours = train(new_run("whole"), batches(), method, epochs=1)
    parts, theirs = train(new_run("shares"), batches(), method, epochs=1, accumulate=shares)
    torch.testing.assert_close(theirs[0], ours[0], rtol=1e-4, atol=1e-6)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-2, atol=1e-3)


def test_tasks_on_batches_of_their_own_are_merged_as_the_method_says(train, toy, new_run):
    run = new_run()
    _, seen = train(run, OwnBatches(), epochs=1)
    model = own_losses(toy())
    rows = []
    shared = list(model.shared_parameters())
    for part in OwnBatches().batch(0, 0).parts():
        gradients = torch.autograd.grad(model.losses(part)[part.task], shared)
        rows.append(torch.cat([each.flatten() for each in gradients]))
    merged = balance.make("pcgrad").merge(torch.stack(rows))
    ours = torch.cat([each.flatten() for each in seen[0][: len(shared)]])
    torch.testing.assert_close(ours, merged, rtol=1e-5, atol=1e-7)
    heads = torch.autograd.grad(
        model.losses(OwnBatches().batch(0, 0).parts()[1])["b"], model.heads["b"].parameters()
    )
    torch.testing.assert_close(seen[0][len(shared) + 2], heads[0])


def test_a_task_that_comes_twice_counts_twice_and_one_that_is_missing_not_at_all(train, new_run):
    run = new_run()
    _, seen = train(run, OwnBatches(), "equal", epochs=1)
    lines = [json.loads(line) for line in (run.path / "balance.jsonl").read_text().splitlines()]
    assert [list(line["losses"]) for line in lines] == [["a", "b", "c"], ["a", "b", "c"], ["a", "b"]]
    assert seen[2][-1] is None  # of the missing task's head
    metrics = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[0])
    for task, drawn in (("b", 4), ("c", 2)):
        mean = sum(line["losses"].get(task, 0.0) for line in lines) / drawn
        assert metrics["losses"][task] == pytest.approx(mean, rel=1e-5)


def test_shares_and_tasks_go_together(train, new_run):
    whole, shares = new_run("whole"), new_run("shares")
    _, ours = train(whole, OwnBatches(), "equal", epochs=1)
    _, theirs = train(shares, OwnBatches(), "equal", epochs=1, accumulate=2)
    torch.testing.assert_close(theirs[0], ours[0], rtol=1e-4, atol=1e-6)
    logs = [json.loads((run.path / "metrics.jsonl").read_text()) for run in (whole, shares)]
    assert logs[1]["losses"] == pytest.approx(logs[0]["losses"], rel=1e-3)


def test_diagnosed_steps_tell_every_layer_task_by_task(train, new_run):
    run = new_run()
    train(run, OwnBatches(), epochs=1, diagnose_every=2)
    lines = [json.loads(line) for line in (run.path / "balance.jsonl").read_text().splitlines()]
    assert ["layer_norms" in line for line in lines] == [True, False, True]
    assert set(lines[0]["layer_norms"]) == {
        f"{layer}|{task}" for layer in ("shared", "norm") for task in "abc"
    }
    total = sum(lines[0]["layer_norms"][f"{layer}|b"] ** 2 for layer in ("shared", "norm")) ** 0.5
    assert total == pytest.approx(lines[0]["norms"]["b"], rel=1e-5)


class DiedError(Exception):
    pass


@pytest.mark.parametrize("method", ["pcgrad", "gradvac", "uncertainty"])
def test_an_interrupted_training_ends_with_the_same_weights(toy, settings, new_run, method):
    def go(run, until=None):
        model = own_losses(toy())

        def watch(label, done, total):
            if done == until:
                raise DiedError

        given = settings(epochs=4, batch_size=4, accumulate=2, checkpoint_every=2)
        fit(
            model,
            OwnBatches(),
            given,
            balance.make(method),
            run,
            target="a",
            save=lambda folder: save_file(dict(model.state_dict()), folder / "model.safetensors"),
            progress=watch,
        )
        return model

    whole = go(new_run("whole"))
    broken = new_run("broken")
    with pytest.raises(DiedError):
        go(broken, until=7)
    again = go(broken)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_shares_of_several_processes_cover_the_batch_once(batches, settings):
    whole = batches().batch(0, 3).inputs
    rows = []
    for rank in (0, 1):
        accelerator = SimpleNamespace(process_index=rank, num_processes=2, device=torch.device("cpu"))
        loop = SimpleNamespace(
            state=SimpleNamespace(step=3),
            per_epoch=6,
            settings=settings(accumulate=2, batch_size=4),
            accelerator=accelerator,
            batches=batches(),
        )
        rows += [share.inputs for share in _Loop._shares(loop)]
    assert [len(share) for share in rows] == [1, 1, 1, 1]
    torch.testing.assert_close(torch.cat(rows), whole)
