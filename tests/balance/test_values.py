"""What every method returns on gradients small enough to check by hand, and against independent code."""

import numpy as np
import pytest
import torch
import torchjd.aggregation as oracle
from scipy.optimize import nnls
from torch import Tensor

from counterpoint import balance
from counterpoint.balance import Equal, Fixed, MTRec, PCGrad, Single

PAIR = torch.tensor([[2.0, 1.0], [-1.0, 0.5]])  # inner product -1.5, squares 5 and 1.25


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        (Equal(), (1.0, 1.5)),
        (Equal("mean"), (0.5, 0.75)),
        (Single(), (2.0, 1.0)),
        (Fixed({"0": 1.0, "1": 4.0}), (-2.0, 3.0)),
        (PCGrad(), (0.4, 2.4)),
        (PCGrad("mean"), (0.2, 1.2)),
        (MTRec(), (0.68, 1.84)),
        (MTRec(project="main"), (0.5, 1.75)),
        (MTRec(project="aux"), (1.88, 1.24)),
    ],
    ids=repr,
)
def test_two_tasks_by_hand(balancer: balance.Balancer, expected: tuple[float, float]) -> None:
    torch.testing.assert_close(balancer.merge(PAIR, target=0), torch.tensor(expected))


@pytest.mark.parametrize(
    ("project", "weights", "merged"),
    [
        ("both", (1.125, 1.125, 1.4), (2.5, 4.5)),
        ("main", (1.125, 1.125, 1.0), (0.5, 4.5)),
        ("aux", (0.5, 0.5, 1.4), (5.0, 2.0)),
    ],
)
def test_mtrec_merges_the_auxiliaries_before_it_projects(
    project: str, weights: tuple[float, ...], merged: tuple[float, ...]
) -> None:
    # The target t is last; a = ½ (-4, 4), ⟨t, a⟩ = -10, ‖t‖² = 25, ‖a‖² = 8: t' = (2.5, 2.5), a' = (0, 2).
    gradients = torch.tensor([[-1.0, 1.0], [-3.0, 3.0], [5.0, 0.0]])
    balancer = MTRec(0.5, project)
    np.testing.assert_allclose(balancer.weights(gradients @ gradients.T, target=2), weights, rtol=1e-12)
    torch.testing.assert_close(balancer.merge(gradients, target=2), torch.tensor(merged))


@pytest.mark.parametrize("seed", range(10))
def test_pcgrad_is_torchjd_s_for_two_tasks(seed: int) -> None:
    pair = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(PCGrad().merge(pair), oracle.PCGrad()(pair))


@pytest.mark.parametrize("seed", range(10))
def test_pcgrad_projects_two_tasks_onto_their_dual_cone(seed: int) -> None:
    # As UPGrad does for any number: g_i + Σ w_j g_j with the w ≥ 0 that makes it shortest.
    pair = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)).double()
    projected = [row.numpy() + nnls(pair.T.numpy(), -row.numpy())[0] @ pair.numpy() for row in pair]
    np.testing.assert_allclose(PCGrad().merge(pair), sum(projected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pairs", [2, 3])
def test_pcgrad_is_torchjd_s_where_the_order_does_not_matter(pairs: int) -> None:
    # Pairs that conflict in planes of their own never meet in a projection.
    gradients = torch.block_diag(*[PAIR * (index + 1) for index in range(pairs)])
    torch.testing.assert_close(PCGrad().merge(gradients), oracle.PCGrad()(gradients))


def test_pcgrad_projects_the_original_gradients_in_fresh_orders_and_never_off_itself() -> None:
    gradients = torch.tensor([[1.0, 0.0, 0.2], [-0.6, 0.8, 0.1], [-0.5, -0.7, 0.5]]).double()

    def project(i: int, order: tuple[int, ...]) -> Tensor:
        v = gradients[i].clone()
        for j in order:
            v -= min(0.0, float(v @ gradients[j])) / gradients[j].square().sum() * gradients[j]
        return v

    possible = [
        project(0, first) + project(1, second) + project(2, third)
        for first in ((1, 2), (2, 1))
        for second in ((0, 2), (2, 0))
        for third in ((0, 1), (1, 0))
    ]
    balancer = PCGrad()
    drawn = [balancer.merge(gradients) for _ in range(60)]
    matches = [[torch.allclose(merged, each, rtol=1e-12) for each in possible] for merged in drawn]
    assert all(sum(match) == 1 for match in matches)
    assert {match.index(True) for match in matches} == set(range(8))


def test_weights_may_be_whole_numbers() -> None:
    for dtype in (torch.float32, torch.float64):
        shared = torch.zeros(2, dtype=dtype, requires_grad=True)
        losses = {"a": (PAIR[0].to(dtype) * shared).sum(), "b": (PAIR[1].to(dtype) * shared).sum()}
        report = Fixed({"a": 1, "b": 2}).backward(losses, shared=[shared])
        assert shared.grad.tolist() == [0.0, 2.0]
        assert report.weights.tolist() == [1.0, 2.0]
        assert report.weights.dtype == torch.float64
    assert Fixed({"0": np.int64(1), "1": np.float32(2)}).merge(PAIR).tolist() == [0.0, 2.0]
    weights = {"0": 1.0, "1": 2.0}
    balancer = Fixed(weights)
    weights["1"] = 0.0
    assert balancer.merge(PAIR).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    "weights", [[1, 2], (1.0, 2.0), 3.0, "click", None, {"click": "1"}, {"click": None}, {0: 1.0}, {"click"}]
)
def test_weights_are_numbers_by_name(weights: object) -> None:
    with pytest.raises(
        TypeError, match=r"a number by the name of every task, like \{'click': 1.0, .*\}, not"
    ):
        Fixed(weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["equal", "mtrec", "pcgrad", "single"])
@pytest.mark.parametrize(
    "gradients",
    [
        torch.zeros(2, 3),
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
        torch.tensor([[0.0, 0.0], [1.0, 2.0]]),
        torch.tensor([[1.0, 2.0], [1.0, 2.0]]),
        torch.tensor([[1.0, 2.0], [-1.0, -2.0]]),
        torch.tensor([[1.0, 2.0]]),
    ],
    ids=["all zero", "zero auxiliary", "zero target", "equal", "opposite", "alone"],
)
def test_degenerate_gradients_are_defined(name: str, gradients: Tensor) -> None:
    merged = balance.make(name).merge(gradients, target=0)
    assert merged.isfinite().all()
    if name == "pcgrad" and torch.equal(gradients.sum(0), torch.zeros(2)):
        assert torch.equal(merged, torch.zeros(2))
    elif (gradients @ gradients.T >= 0).all():
        factor = {"equal": 1.0, "pcgrad": 1.0, "mtrec": 0.3, "single": 0.0}[name]
        torch.testing.assert_close(merged, gradients[0] + factor * gradients[1:].sum(0))


def test_merge_leaves_its_argument_alone_and_keeps_type() -> None:
    gradients = PAIR.bfloat16()
    before = gradients.clone()
    assert MTRec().merge(gradients, target=0).dtype == torch.bfloat16
    assert torch.equal(gradients, before)


def test_blocks_are_judged_separately() -> None:
    both = torch.cat([PAIR, PAIR.abs()], dim=1)
    merged = MTRec().merge(both, target=0, blocks=[(0, 2), (2, 4)])
    torch.testing.assert_close(merged, torch.tensor([0.68, 1.84, 2.3, 1.15]))
    with pytest.raises(ValueError, match="cover the coordinates 0 to 4"):
        MTRec().merge(both, target=0, blocks=[(0, 2), (3, 4)])


def test_gradients_that_are_not_finite_are_added_and_change_no_state() -> None:
    balancer = PCGrad()
    merged = balancer.merge(torch.tensor([[1.0, torch.inf], [-1.0, 1.0]]))
    assert merged.tolist() == [0.0, torch.inf]
    assert balancer.state_dict() == {"draws": 0}


@pytest.mark.parametrize("size", [1e-20, 1e-12, 1.0, 1e18, 1e25])
def test_single_precision_loses_no_angle(size: float) -> None:
    torch.testing.assert_close(MTRec().merge(PAIR * size, target=0) / size, torch.tensor([0.68, 1.84]))


def test_state_continues_exactly_and_is_refused_by_others() -> None:
    gradients = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    first, second = PCGrad(seed=3), PCGrad(seed=3)
    for _ in range(4):
        first.merge(gradients)
    second.load_state_dict(first.state_dict())
    continued = [first.merge(gradients) for _ in range(5)]
    assert all(torch.equal(one, second.merge(gradients)) for one in continued)
    assert not all(torch.equal(one, continued[0]) for one in continued)
    with pytest.raises(ValueError, match="Equal"):
        Equal().load_state_dict(first.state_dict())


def test_made_by_name() -> None:
    assert {"equal", "mtrec", "pcgrad"} < set(balance.available())
    made = balance.make("mtrec", scale=0.5, project="aux")
    assert repr(made) == "MTRec(scale=0.5, project='aux')"
    assert repr(balance.make("fixed", weights={"click": 1.0})) == "Fixed(weights={'click': 1.0})"


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("mtrek", {}, ValueError, "did you mean 'mtrec'"),
        ("mtrec", {"scales": 1}, TypeError, "did you mean 'scale'"),
        ("single", {"scale": 1}, TypeError, "no options"),
        ("fixed", {}, TypeError, "needs the option 'weights'"),
        ("fixed", {"weights": {}}, ValueError, "finite number"),
        ("fixed", {"weights": {"click": float("nan")}}, ValueError, "finite number"),
        ("mtrec", {"scale": 0.0}, ValueError, "positive"),
        ("mtrec", {"scale": float("inf")}, ValueError, "positive"),
        ("mtrec", {"project": "target"}, ValueError, "'both', 'main', 'aux'"),
        ("equal", {"reduction": "max"}, ValueError, "'sum', 'mean'"),
        ("pcgrad", {"reduction": "max"}, ValueError, "'sum', 'mean'"),
        ("pcgrad", {"granularity": "layer"}, ValueError, "'whole', 'tensor'"),
    ],
)
def test_wrong_options_name_the_remedy(
    name: str, options: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        balance.make(name, **options)


def test_wrong_matrices() -> None:
    for wrong in (torch.ones(3), torch.ones(0, 3)):
        with pytest.raises(ValueError, match="matrix"):
            Equal().merge(wrong)
    with pytest.raises(TypeError, match="floating point"):
        Equal().merge(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="Gramian"):
        Equal().weights(torch.ones(2, 3))
    with pytest.raises(ValueError, match="row 2"):
        MTRec().merge(PAIR, target=2)
    with pytest.raises(ValueError, match="target="):
        MTRec().merge(PAIR)
    with pytest.raises(ValueError, match=r"'catgory' has no weight.*'category'"):
        Fixed({"click": 1.0, "category": 1.0}).merge(PAIR, tasks=("click", "catgory"))
    with pytest.raises(ValueError, match="2 rows, but 1 names"):
        Equal().merge(PAIR, tasks=("click",))
