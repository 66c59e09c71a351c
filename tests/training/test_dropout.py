import json

import pytest
import torch
from accelerate import Accelerator

from counterpoint import balance
from counterpoint.training.dropout import Dropout
from counterpoint.training.loop import fit


def test_dropout_keeps_the_mean_and_is_off_outside_training():
    torch.manual_seed(1)
    dropout, values = Dropout(0.3), torch.ones(400, 500)
    dropped = dropout(values)
    kept = dropped != 0
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=0.005)
    assert torch.equal(dropped[kept], torch.full_like(dropped[kept], 1 / 0.7))
    assert not torch.equal(dropout(values), dropped)
    torch.manual_seed(1)
    assert torch.equal(dropout(values), dropped)
    assert torch.equal(dropout.eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


def test_dropout_lets_gradients_through_where_values_passed():
    values = torch.randn(50, 20, requires_grad=True)
    dropped = Dropout(0.5)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, torch.where(dropped == 0, 0.0, 2.0))


def test_processes_drop_different_numbers_and_each_the_same_ones_again(
    toy, batches, settings, new_run, monkeypatch
):
    """All get the same rows here: what differs between their losses is what was dropped."""

    def losses(rank: int, name: str) -> list[dict[str, float]]:
        monkeypatch.setattr(Accelerator, "process_index", rank)
        run = new_run(name)
        balancer = balance.make("equal")
        fit(toy(), SameRows(), settings(epochs=1), balancer, run, target="a", save=lambda folder: None)
        lines = (run.path / "balance.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["losses"] for line in lines]

    class SameRows(type(batches())):
        def batch(self, epoch, number, *, rank=0, processes=1):
            return super().batch(epoch, number)

    first, second = losses(0, "first"), losses(1, "second")
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert losses(1, "again") == second
