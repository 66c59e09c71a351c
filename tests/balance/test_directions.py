"""Methods that change directions: values by hand, against independent code, on degenerate gradients."""

import copy
from collections.abc import Callable, Iterator
from itertools import permutations, product

import numpy as np
import pytest
import torch
import torchjd.aggregation as oracle
from torch import Tensor

from counterpoint.balance import GradCraft, GradVac, PCGrad, PCGradPlus
from counterpoint.balance.engine import Balancer

PAIR = torch.tensor([[2.0, 1.0], [-1.0, 0.5]])  # inner product -1.5, squares 5 and 1.25
RESIDUAL = torch.tensor([[2.0, 0.0, -1.0], [-1.0, 1.0, 0.0], [0.0, -1.0, 0.0]]).double()
FRESH: list[Callable[[], Balancer]] = [
    PCGrad,
    PCGradPlus,
    lambda: PCGradPlus(tau=1.0),
    GradVac,
    lambda: GradVac(beta=1.0),
    GradCraft,
    lambda: GradCraft(tau=1.0, epsilon=0.1),
]
every_method = pytest.mark.parametrize("method", FRESH, ids=lambda method: repr(method()))


def random_gradients(tasks: int, coordinates: int, seed: int) -> Tensor:
    return torch.randn(tasks, coordinates, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        (PCGrad(), (0.4, 2.4)),
        (PCGradPlus(tau=0.0), (0.2, 1.2)),
        (PCGradPlus(tau=0.0, reduction="sum"), (0.4, 2.4)),
        # With τ = ½ the second gradient is 1½ times as long: (0.8, 1.6) and 1½ (-0.4, 0.8).
        (PCGradPlus(tau=0.5), (0.1, 1.4)),
        (PCGradPlus(tau=1.0), (0.0, 1.6)),
        (GradVac(), (0.4, 2.4)),
        (GradCraft(tau=0.0, epsilon=0.0), (0.2, 1.2)),
        (GradCraft(tau=0.5, epsilon=0.0), (0.1, 1.4)),
        # z = 0.1 · 2.5, so w = 1.75 / 1.25 for the first, 1.75 / 5 for the second: (0.6, 1.7), (-0.3, 0.85).
        (GradCraft(tau=0.0, epsilon=0.1), (0.15, 1.275)),
    ],
    ids=repr,
)
def test_two_tasks_by_hand(balancer: Balancer, expected: tuple[float, float]) -> None:
    torch.testing.assert_close(copy.deepcopy(balancer).merge(PAIR), torch.tensor(expected))


def projected(gradients: Tensor, i: int, order: tuple[int, ...]) -> Tensor:
    v = gradients[i].clone()
    for j in order:
        v -= min(0.0, float(v @ gradients[j])) / gradients[j].square().sum() * gradients[j]
    return v


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_pcgrad_plus_projects_the_gradients_lengthened(tau: float) -> None:
    gradients = torch.tensor([[1.0, 0.0, 0.2], [-6.0, 8.0, 1.0], [-0.05, -0.07, 0.05]]).double()
    norms = gradients.norm(dim=1, keepdim=True)
    adjusted = tau * norms.max() / norms * gradients + (1 - tau) * gradients
    orders = product(*([order for order in permutations(range(3), 2) if i not in order] for i in range(3)))
    possible = [
        torch.stack([projected(adjusted, i, order) for i, order in enumerate(each)]).mean(dim=0)
        for each in orders
    ]
    balancer = PCGradPlus(tau=tau)
    seen = set()
    for _ in range(60):
        merged = balancer.merge(gradients)
        matches = [index for index, each in enumerate(possible) if torch.allclose(merged, each, rtol=1e-11)]
        assert len(matches) == 1
        seen |= set(matches)
    assert seen == set(range(8))


def drawn(seed: int, step: int, tasks: int) -> list[tuple[int, ...]]:
    """The orders of a step: every task sorts the others by numbers drawn for them, all tasks' at once."""
    numbers = np.random.default_rng((seed, step)).random((tasks, tasks - 1)).tolist()
    others = [[j for j in range(tasks) if j != i] for i in range(tasks)]
    return [
        tuple(j for _, j in sorted(zip(row, of_i, strict=True)))
        for row, of_i in zip(numbers, others, strict=True)
    ]


@pytest.mark.parametrize("tasks", [3, 6])
def test_pcgrad_and_pcgrad_plus_follow_the_orders_drawn(tasks: int) -> None:
    # The third step is without conflict: no order is needed, and the next step's is the same as if one were.
    first, second = PCGrad(seed=2), PCGradPlus(0.0, "sum", seed=2)
    for step in range(5):
        gradients = random_gradients(tasks, 3, step)
        gradients = gradients.abs() if step == 2 else gradients
        orders = drawn(2, step, tasks)
        expected = sum(projected(gradients, i, order) for i, order in enumerate(orders))
        torch.testing.assert_close(first.merge(gradients), expected)
        torch.testing.assert_close(second.merge(gradients), expected)
        if step == 2:
            torch.testing.assert_close(expected, gradients.sum(dim=0))
    assert first.draws == second.draws == 5


def test_options_by_position() -> None:
    assert repr(PCGradPlus(0.2, "sum", 3)) == "PCGradPlus(tau=0.2, reduction='sum', seed=3)"
    assert repr(PCGrad("mean", 3)) == "PCGrad(reduction='mean', seed=3)"
    assert repr(GradCraft(0.2, 0.1)) == "GradCraft(tau=0.2, epsilon=0.1)"
    assert repr(GradVac(0.5, 3)) == "GradVac(beta=0.5, seed=3)"


def vaccinated(
    gradients: np.ndarray, rho: np.ndarray, orders: tuple[tuple[int, ...], ...], beta: float
) -> tuple[np.ndarray, np.ndarray]:
    """The paper's algorithm 1 on the vectors themselves: the sum, and the new targets."""
    rho, merged = rho.copy(), np.zeros(gradients.shape[1])
    norm = np.linalg.norm
    for i, order in enumerate(orders):
        v = gradients[i].copy()
        for j in order:
            phi = v @ gradients[j] / norm(v) / norm(gradients[j])
            if phi < rho[i, j]:
                aim, level = rho[i, j] * np.sqrt(1 - phi**2), phi * np.sqrt(1 - rho[i, j] ** 2)
                change = norm(v) * (aim - level) / (norm(gradients[j]) * np.sqrt(1 - rho[i, j] ** 2))
                v = v + change * gradients[j]
                assert v @ gradients[j] / norm(v) / norm(gradients[j]) == pytest.approx(rho[i, j])
            rho[i, j] = (1 - beta) * rho[i, j] + beta * phi
        merged += v
    return merged, rho


@pytest.mark.parametrize(("beta", "seed"), [(0.01, 0), (0.5, 1), (0.5, 2), (0.9, 3)])
def test_gradvac_is_the_paper_s_algorithm_step_after_step(beta: float, seed: int) -> None:
    # The merged gradient and the targets must be those of one and the same of the eight possible orders.
    every = list(
        product(*([order for order in permutations(range(3), 2) if i not in order] for i in range(3)))
    )
    balancer, rho = GradVac(beta=beta, seed=seed), np.zeros((3, 3))
    unlike_pcgrad = 0
    for step in range(4):
        gradients = random_gradients(3, 5, 100 * seed + step).numpy()
        gradients[1] += gradients[0]
        gradients[2] = -0.6 * gradients[0] - 0.7 * gradients[1] + 0.5 * gradients[2]
        possible = [vaccinated(gradients, rho, orders, beta) for orders in every]
        merged = balancer.merge(torch.from_numpy(gradients), tasks=("a", "b", "c")).numpy()
        for i, j in permutations(range(3), 2):
            rho[i, j] = balancer.usual["abc"[i]]["abc"[j]].item()
        assert any(
            np.allclose(merged, expected, rtol=1e-10) and np.allclose(rho, new, rtol=1e-10, atol=1e-13)
            for expected, new in possible
        )
        surgery = [vaccinated(gradients, np.zeros((3, 3)), orders, beta)[0] for orders in every]
        unlike_pcgrad += not any(np.allclose(merged, each) for each in surgery)
    assert unlike_pcgrad == 3  # every step but the first


@pytest.mark.parametrize("beta", [0.01, 0.5])
def test_gradvac_is_torchjd_s_for_two_tasks(beta: float) -> None:
    balancer, other = GradVac(beta=beta), oracle.GradVac(beta=beta, eps=0.0)
    for step in range(20):
        pair = random_gradients(2, 3, step) + 1.5
        torch.testing.assert_close(balancer.merge(pair), other(pair), rtol=1e-9, atol=1e-12)


def test_gradvac_draws_agreeing_tasks_together_once_they_usually_agree() -> None:
    # ρ = 0.6 after one step with β = 1 and cosines of 0.6; at a right angle then, v = (1, ¾) has that cosine.
    balancer = GradVac(beta=1.0)
    agreeing = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double()
    torch.testing.assert_close(balancer.merge(agreeing), agreeing.sum(dim=0))
    torch.testing.assert_close(
        balancer.merge(torch.eye(2).double()), torch.tensor([1.75, 1.75], dtype=torch.float64)
    )


def test_gradvac_leaves_alone_what_no_multiple_reaches() -> None:
    balancer = GradVac(beta=1.0)
    balancer.merge(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert balancer.usual["0"]["1"].tolist() == [1.0]
    assert balancer.merge(torch.eye(2)).tolist() == [1.0, 1.0]
    assert balancer.usual["0"]["1"].tolist() == [0.0]


def test_gradvac_keeps_the_cosines_of_tasks_and_blocks_apart() -> None:
    balancer, alone = GradVac(beta=0.5), [GradVac(beta=0.5), GradVac(beta=0.5)]
    for step in range(4):
        pieces = [random_gradients(2, 3, 10 * step + block) for block in range(2)]
        merged = balancer.merge(torch.cat(pieces, dim=1), blocks=[(0, 3), (3, 6)], tasks=("a", "b"))
        expected = [each.merge(piece, tasks=("a", "b")) for each, piece in zip(alone, pieces, strict=True)]
        torch.testing.assert_close(merged, torch.cat(expected))
    before = balancer.state_dict()["usual"]
    blocks = [(0, 3), (3, 6)]
    balancer.merge(random_gradients(2, 6, 7), blocks=blocks, tasks=("c", "a"))
    after = balancer.usual
    np.testing.assert_array_equal(after["a"]["b"], before["a"]["b"])
    assert set(after["a"]) == {"b", "c"}
    # A zero gradient has no angle with any other.
    before = balancer.state_dict()["usual"]
    gradients = torch.stack([torch.zeros(6), torch.ones(6)])
    assert torch.equal(balancer.merge(gradients, blocks=blocks, tasks=("a", "b")), torch.ones(6))
    np.testing.assert_array_equal(balancer.usual["a"]["b"], before["a"]["b"])


@pytest.mark.parametrize("later", [[(0, 6)], [(0, 2), (2, 4), (4, 6)]])
def test_gradvac_refuses_cosines_of_other_blocks(later: list[tuple[int, int]]) -> None:
    balancer = GradVac()
    balancer.merge(random_gradients(2, 6, 0), blocks=[(0, 3), (3, 6)], tasks=("a", "b"))
    before = balancer.state_dict()
    with pytest.raises(
        ValueError, match=rf"of 2 blocks of parameters, this step has {len(later)}; share the"
    ):
        balancer.merge(random_gradients(3, 6, 1), blocks=later, tasks=("c", "a", "b"))
    torch.testing.assert_close(balancer.state_dict(), before, rtol=0, atol=0)
    alone = GradVac()
    alone.merge(random_gradients(2, 6, 0), tasks=("a", "b"))
    with pytest.raises(ValueError, match="of 1 blocks of parameters, this step has 2"):
        alone.merge(random_gradients(2, 6, 1), blocks=[(0, 3), (3, 6)], tasks=("a", "b"))


def crafted(gradients: np.ndarray, tau: float, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Equations 5 to 10 on the vectors themselves: the deconflicted gradients, and their mean."""
    norms = np.linalg.norm(gradients, axis=1)
    adjusted = np.array(
        [tau * norms.max() / n * g + (1 - tau) * g for n, g in zip(norms, gradients, strict=True)]
    )
    deconflicted = adjusted.copy()
    for i, g in enumerate(adjusted):
        of_i = np.array([other for other in adjusted if other @ g < 0])
        if len(of_i):
            z = epsilon * np.linalg.norm(g) * np.linalg.norm(of_i, axis=1)
            deconflicted[i] += np.linalg.solve(of_i @ of_i.T, z - of_i @ g) @ of_i
    return deconflicted, deconflicted.mean(axis=0)


@pytest.mark.parametrize(("tau", "epsilon"), [(0.1, 1e-10), (0.0, 0.0), (0.6, 0.05), (1.0, 0.2)])
@pytest.mark.parametrize("tasks", [3, 6])
def test_gradcraft_is_its_equations(tasks: int, tau: float, epsilon: float) -> None:
    for seed in range(10):
        gradients = random_gradients(tasks, 8, seed) * torch.logspace(-1, 1, tasks)[:, None]
        expected = crafted(gradients.numpy(), tau, epsilon)[1]
        merged = GradCraft(tau=tau, epsilon=epsilon).merge(gradients)
        np.testing.assert_allclose(merged, expected, rtol=1e-9, atol=1e-10)


def test_gradcraft_s_deconfliction_is_not_global() -> None:
    # The first loses its conflict with the second and gets one with the third. The others become
    # (-0.2, 0, -0.4) and (-0.5, -0.5, 0), and the mean conflicts with the third as well.
    deconflicted, mean = crafted(RESIDUAL.numpy(), 0.0, 0.0)
    assert RESIDUAL[0] @ RESIDUAL[2] == 0
    np.testing.assert_allclose(deconflicted[0], (1, 1, -1), rtol=1e-12)
    np.testing.assert_allclose(mean, (1 / 10, 1 / 6, -7 / 15), rtol=1e-12)
    merged = GradCraft(tau=0.0, epsilon=0.0).merge(RESIDUAL)
    np.testing.assert_allclose(merged, mean, rtol=1e-12)
    assert merged @ RESIDUAL[2] == pytest.approx(-1 / 6)


def test_gradcraft_with_dependent_gradients() -> None:
    # What conflicts with g_1 is one line, however many gradients lie on it: g̃_1 is as with one of them.
    g, h = PAIR.double()
    alone = crafted(PAIR.double().numpy(), 0.0, 0.1)[0]
    merged = GradCraft(tau=0.0, epsilon=0.1).merge(torch.stack([g, h, 3 * h, h]))
    np.testing.assert_allclose(merged, (alone[0] + 5 * alone[1]) / 4, rtol=1e-12)
    # All of the plane conflicts with (1, 1): nothing of it is left; the others lose what points against it.
    plane = torch.tensor([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [-1.0, -1.0]]).double()
    torch.testing.assert_close(
        GradCraft(tau=0.0, epsilon=0.0).merge(plane), torch.tensor([0.0, 0.0]).double(), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("size", [1e-20, 1e-6, 1e6, 1e20])
def test_gradcraft_in_single_precision_at_any_size(size: float) -> None:
    gradients = random_gradients(5, 40, 4) * torch.logspace(-1, 1, 5)[:, None]
    expected = crafted(gradients.numpy(), 0.3, 0.1)[1]
    merged = GradCraft(tau=0.3, epsilon=0.1).merge((gradients * size).float()).double() / size
    np.testing.assert_allclose(merged, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_gradcraft_s_default_epsilon_does_not_show_in_single_precision() -> None:
    for seed in range(5):
        gradients = random_gradients(4, 50, seed).float()
        assert torch.equal(GradCraft().merge(gradients), GradCraft(epsilon=0.0).merge(gradients))


def test_gradcraft_and_pcgrad_plus_judge_blocks_separately() -> None:
    both = torch.cat([PAIR, 2 * PAIR.abs()], dim=1)
    expected = torch.tensor([0.2, 1.2, 3.0, 1.5])
    for balancer in (GradCraft(tau=0.0, epsilon=0.0), PCGradPlus(tau=0.0)):
        torch.testing.assert_close(balancer.merge(both, blocks=[(0, 2), (2, 4)]), expected)


@pytest.mark.parametrize("seed", range(5))
def test_gradcraft_does_not_depend_on_the_order_of_tasks(seed: int) -> None:
    gradients = random_gradients(5, 4, seed)
    merged = GradCraft(tau=0.4, epsilon=0.1).merge(gradients.flip(0))
    torch.testing.assert_close(merged, GradCraft(tau=0.4, epsilon=0.1).merge(gradients))


def degenerate() -> Iterator[Tensor]:
    g = random_gradients(4, 3, 0)
    yield torch.zeros(3, 4).double()
    yield torch.cat([g, torch.zeros(1, 3)])
    yield torch.cat([g, g, -g])
    yield torch.cat([g, 1e-9 * g, -1e9 * g, torch.zeros(2, 3)])
    yield g[:1].repeat(16, 1) * torch.tensor([1.0, -1.0] * 8)[:, None]
    yield g[:1] * torch.logspace(-30, 30, 16).double()[:, None]
    yield random_gradients(16, 2, 5)
    yield g[:2] + torch.tensor([[0.0], [1e-9]]) * g[2:]


@every_method
def test_degenerate_gradients(method: Callable[[], Balancer]) -> None:
    balancer = method()
    for gradients in degenerate():
        for size in (1e-25, 1.0, 1e25):
            for _ in range(3):
                assert balancer.merge(gradients * size).isfinite().all()


@every_method
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scales_with_the_gradients(method: Callable[[], Balancer], factor: float) -> None:
    first, second = method(), method()
    for seed in range(4):
        gradients = random_gradients(5, 4, seed)
        torch.testing.assert_close(second.merge(gradients * factor), first.merge(gradients) * factor)


@every_method
def test_alone_or_in_agreement_nothing_turns(method: Callable[[], Balancer]) -> None:
    gradient = random_gradients(1, 4, 0)
    torch.testing.assert_close(method().merge(gradient), gradient[0])
    once = method()
    mean = 1 / 3 if isinstance(once, GradCraft) or getattr(once, "reduction", "sum") == "mean" else 1
    units = torch.nn.functional.normalize(random_gradients(3, 4, 1).abs())  # of one length: τ has no effect
    torch.testing.assert_close(once.merge(units), mean * units.sum(dim=0))


@every_method
def test_saved_in_the_middle_the_next_ten_steps_are_identical(method: Callable[[], Balancer]) -> None:
    steps = [random_gradients(4, 5, seed) for seed in range(16)]
    first, second = method(), method()
    for each in steps[:6]:
        first.merge(each, tasks=tuple("abcd"))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for each in steps[6:]:
        assert torch.equal(first.merge(each, tasks=tuple("abcd")), second.merge(each, tasks=tuple("abcd")))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PCGradPlus(tau=1.1), "tau must be between 0 and 1, not 1.1"),
        (lambda: PCGradPlus(reduction="max"), "'sum', 'mean'"),
        (lambda: GradVac(beta=-0.1), "beta must be between 0 and 1"),
        (lambda: GradVac(granularity="layer"), "'whole', 'tensor'"),
        (lambda: GradCraft(tau=float("nan")), "tau must be between 0 and 1"),
        (lambda: GradCraft(epsilon=2), "epsilon must be between 0 and 1, not 2"),
    ],
)
def test_wrong_options_name_the_remedy(make: Callable[[], Balancer], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
