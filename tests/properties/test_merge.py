"""What holds for every method and every matrix of gradients."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.balance import Balancer, Equal, Fixed, MTRec, PCGrad, Single

NAMES = "abcdef"
METHODS: list[Callable[[], Balancer]] = [
    Equal,
    lambda: Equal("mean"),
    Single,
    lambda: Fixed(dict(zip(NAMES, (1.0, 0.5, -2.0, 0.0, 3.0, 0.1), strict=True))),
    PCGrad,
    lambda: PCGrad("mean", seed=7),
    MTRec,
    lambda: MTRec(2.0, "main"),
    lambda: MTRec(0.1, "aux"),
]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: repr(method()))


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Random gradients, some of them zero, repeated or opposite, of very different sizes."""
    tasks, coordinates = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    gradients = torch.randn(tasks, coordinates, generator=generator, dtype=torch.float64)
    factors = draw(st.lists(st.sampled_from([1.0, 1.0, 0.0, 1e-3, 1e3]), min_size=tasks, max_size=tasks))
    gradients *= torch.tensor(factors, dtype=torch.float64)[:, None]
    if tasks > 1 and draw(st.booleans()):
        gradients[-1] = draw(st.sampled_from([1.0, -1.0])) * gradients[0]
    return gradients


def merged(method: Callable[[], Balancer], gradients: Tensor, target: int = 0) -> Tensor:
    return method().merge(gradients, target=target, tasks=NAMES[: len(gradients)])


@every_method
@given(gradients=matrices(), exponent=st.integers(-6, 6))
@settings(max_examples=40, deadline=None)
def test_scales_with_the_gradients(method: Callable[[], Balancer], gradients: Tensor, exponent: int) -> None:
    factor = 2.0 ** round(exponent * 3.3219)  # a power of two near 10^exponent scales without rounding
    assert torch.equal(merged(method, gradients * factor), merged(method, gradients) * factor)
    ten = 10.0**exponent
    size = float(gradients.norm())
    torch.testing.assert_close(
        merged(method, gradients * ten) / ten, merged(method, gradients), rtol=1e-6, atol=1e-6 * size
    )


@every_method
@given(gradients=matrices())
@settings(max_examples=40, deadline=None)
def test_is_a_combination_of_the_gradients_with_the_weights_told(
    method: Callable[[], Balancer], gradients: Tensor
) -> None:
    weights = method().weights(gradients @ gradients.T, target=0, tasks=NAMES[: len(gradients)])
    assert weights.isfinite().all()
    expected = weights @ gradients
    size = float((weights.abs() @ gradients.abs()).max())
    torch.testing.assert_close(merged(method, gradients), expected, rtol=1e-6, atol=1e-9 * size)


@every_method
@given(gradients=matrices())
@settings(max_examples=20, deadline=None)
def test_is_deterministic(method: Callable[[], Balancer], gradients: Tensor) -> None:
    assert torch.equal(merged(method, gradients), merged(method, gradients))


@pytest.mark.parametrize(
    "method", [Equal, Single, MTRec, lambda: MTRec(2.0, "main"), lambda: MTRec(0.1, "aux")]
)
@given(gradients=matrices(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_order_of_auxiliaries_does_not_matter(
    method: Callable[[], Balancer], gradients: Tensor, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(gradients))))
    torch.testing.assert_close(
        merged(method, gradients[list(order)], target=order.index(0)),
        merged(method, gradients),
        rtol=1e-6,
        atol=1e-8 * float(gradients.norm()),
    )


@pytest.mark.parametrize(("method", "factor"), [(PCGrad, 1.0), (MTRec, 0.3)])
@given(gradients=matrices())
@settings(max_examples=40, deadline=None)
def test_without_conflict_nothing_is_projected(
    method: Callable[[], Balancer], factor: float, gradients: Tensor
) -> None:
    weights = torch.tensor([1.0] + [factor] * (len(gradients) - 1), dtype=torch.float64)
    torch.testing.assert_close(merged(method, gradients.abs()), weights @ gradients.abs())


@given(gradients=matrices(), scale=st.sampled_from([0.1, 0.3, 2.0]))
@settings(max_examples=100, deadline=None)
def test_mtrec_s_parts_agree_after_surgery_of_both(gradients: Tensor, scale: float) -> None:
    target, aux = gradients[0], scale * gradients[1:].sum(dim=0)
    both, main, of_aux = (
        MTRec(scale, project).merge(gradients, target=0) for project in ("both", "main", "aux")
    )
    if target @ aux >= 0:
        torch.testing.assert_close(both, target + aux)
        return
    new_target, new_aux = main - aux, of_aux - target
    size = float(target.norm() * aux.norm())
    torch.testing.assert_close(both, new_target + new_aux, rtol=1e-6, atol=1e-9 * float(gradients.norm()))
    assert float(new_target @ aux) == pytest.approx(0, abs=1e-9 * size)
    assert float(new_aux @ target) == pytest.approx(0, abs=1e-9 * size)
    assert float(new_target @ new_aux) >= -1e-9 * size
    assert float(both @ target) >= -1e-9 * size
