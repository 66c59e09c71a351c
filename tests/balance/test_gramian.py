"""Inner products and sums of long gradients, in the precision that methods need."""

import pytest
import torch
from torch import Tensor

from counterpoint.balance import Balancer, Equal, Fixed, GradSurgery, MTRec, UPGrad
from counterpoint.balance.gramian import combine, gramians
from counterpoint.balance.rows import Aligned


def products(*rows: Tensor) -> Tensor:
    return torch.from_numpy(gramians([Aligned(dict(enumerate(rows)))], [[0]], len(rows))[0])


def long(seed: int, length: int = 1_000_000) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(seed))


def test_a_long_sum_in_single_precision_keeps_its_digits() -> None:
    first, second = long(0) + 1, long(1)
    exact = torch.stack([first, second]).double()
    torch.testing.assert_close(products(first, second), exact @ exact.T, rtol=3e-7, atol=0.3)
    plain = torch.dot(first, first).double()  # adds up a million numbers one after the other
    assert abs(plain - exact[0] @ exact[0]) > 3e-7 * plain


@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-7])
def test_gradients_that_nearly_cancel_are_taken_in_double_precision(gap: float) -> None:
    first, second = long(0), long(1)
    rows = [first, second, gap * long(2) - first - second]
    exact = torch.stack(rows).double()
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(
        ones @ products(*rows) @ ones, exact.sum(dim=0).square().sum(), rtol=1e-3, atol=1e-6
    )


def test_a_product_beyond_single_precision_is_taken_again() -> None:
    target, other = torch.full((2,), 1e20), torch.tensor([-5e18, 5e18])
    taken = gramians([Aligned({0: target, 1: other})], [[0]], 2, [(0, 1), (1, 1)])[0]
    assert taken[0, 1] == pytest.approx(0, abs=1e30)
    taken = gramians([Aligned({0: target, 1: -other.abs()})], [[0]], 2, [(0, 1), (1, 1)])[0]
    assert taken[0, 1] == pytest.approx(-1e39, rel=1e-6)


def test_half_precision_is_summed_up_in_single() -> None:
    rows = {0: torch.tensor([256.0]).bfloat16(), 1: torch.ones(1).bfloat16(), 2: torch.ones(1).bfloat16()}
    (merged,) = combine([Aligned(rows)], [[0]], torch.ones(1, 3).numpy())
    assert merged is not None
    assert merged.dtype == torch.bfloat16
    assert merged.item() == 258  # in bfloat16 256 + 1 is 256


@pytest.mark.parametrize("method", [Equal(), Fixed({"0": 1, "1": 1e25, "2": -1e25}), UPGrad()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge_leaves_its_argument_alone(method: Balancer, dtype: torch.dtype) -> None:
    gradients = torch.tensor([[1.0, 2.0], [1e-20, 0.0], [-1.0, 1e-20]]).to(dtype)
    before = gradients.clone()
    merged = method.merge(gradients)
    assert torch.equal(gradients, before)
    assert merged.dtype == dtype
    assert merged.isfinite().all()


@pytest.mark.parametrize("method", [MTRec(), MTRec(1.0, "main"), MTRec(1.0, "aux")], ids=repr)
def test_auxiliary_gradients_that_cancel_leave_the_target_alone(method: Balancer) -> None:
    """What is left of them has a direction of rounding, which is no direction to project off."""
    target, other = long(0, 1000), 100 * long(1, 1000)
    gradients = torch.stack([target, other, -other * (1 + 1e-7 * long(2, 1000))])
    torch.testing.assert_close(method.merge(gradients, target=0), target, rtol=0, atol=1e-4)


def test_auxiliary_gradients_that_nearly_cancel_still_have_a_direction() -> None:
    gradients = torch.tensor([[0.0, -1.0], [1.0, 0.0], [-1.0, 1e-4]]).double()  # of the others 1e-4 is left
    merged = MTRec(1.0, "aux").merge(gradients, target=0)
    torch.testing.assert_close(merged, gradients[0], rtol=0, atol=1e-9)


def test_a_target_that_all_others_oppose_keeps_what_they_leave() -> None:
    target = long(0)
    gradients = torch.stack([target, -target + 1e-3 * long(1), -target + 1e-3 * long(2)])
    merged = GradSurgery().merge(gradients, target=0).double()
    assert (merged @ target.double()) / target.double().square().sum() == pytest.approx(1, abs=1e-6)
