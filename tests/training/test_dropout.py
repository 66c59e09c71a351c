import pytest
import torch

from counterpoint.training.dropout import Dropout


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
