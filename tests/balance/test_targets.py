"""Methods that hold every auxiliary task's gradient against the target's, by hand and streamed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from counterpoint.balance import Balancer, GradSimilarity, GradSurgery, MetaBalance, OLAux, TargetFirst, Tasks
from methods import TARGET, Ladder, batches

PAIR = torch.tensor([[2.0, 1.0], [-1.0, 0.5]])  # inner product -1.5, squares 5 and 1.25
New = Callable[[], Balancer]

STREAMED: list[New] = [
    GradSimilarity,
    lambda: GradSimilarity(weighted=True),
    lambda: GradSimilarity(granularity="tensor"),
    GradSurgery,
    lambda: GradSurgery(granularity="tensor"),
    OLAux,
    lambda: OLAux(0.5, period=2, granularity="tensor"),
    MetaBalance,
    lambda: MetaBalance("A", 0.4, 0.5, granularity="whole"),
    lambda: MetaBalance("B", 1.0, 0.0),
]
SCALE_FREE: list[New] = [new for new in STREAMED if not isinstance(new(), OLAux)]
streamed = pytest.mark.parametrize("new", STREAMED, ids=lambda new: repr(new()))
scale_free = pytest.mark.parametrize("new", SCALE_FREE, ids=lambda new: repr(new()))


def random_matrix(tasks: int, coordinates: int, seed: int = 0) -> Tensor:
    return torch.randn(tasks, coordinates, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        (GradSurgery(), (1.6, 1.8)),  # g_2 + 1.5/5 g_1 = (-0.4, 0.8)
        (GradSimilarity(), (2.0, 1.0)),
        (GradSimilarity(weighted=True), (2.0, 1.0)),
        (MetaBalance(relax=1.0), (0.0, 2.0)),  # norms √5 and √5/2: twice g_2
        (MetaBalance("A"), (1.0, 1.5)),
        (OLAux(), (1.0, 1.5)),
    ],
    ids=repr,
)
def test_two_tasks_by_hand(balancer: Balancer, expected: tuple[float, float]) -> None:
    torch.testing.assert_close(balancer.merge(PAIR, target=0), torch.tensor(expected))


def test_similarity_keeps_right_angles_whole_and_weighs_the_others_by_their_cosine() -> None:
    # cosines 0.6, 0, -0.6 and 1 with the target, which is last but one
    gradients = torch.tensor([[3.0, 4.0], [0.0, 7.0], [-3.0, 4.0], [2.0, 0.0], [5.0, 0.0]]).double()
    gram = gradients @ gradients.T
    assert GradSimilarity().weights(gram, target=3).tolist() == [1.0, 1.0, 0.0, 1.0, 1.0]
    np.testing.assert_allclose(
        GradSimilarity(weighted=True).weights(gram, target=3), [0.6, 0.0, 0.0, 1.0, 1.0], rtol=1e-15
    )


def test_similarity_to_a_zero_target_is_zero() -> None:
    gradients = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    assert GradSimilarity().merge(gradients, target=0).tolist() == [1.0, 2.0]
    assert GradSimilarity(weighted=True).merge(gradients, target=0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_surgery_is_every_auxiliary_s_projection_alone(seed: int) -> None:
    gradients = random_matrix(6, 4, seed)
    target = gradients[2]
    parts = [target]
    for auxiliary in gradients[[0, 1, 3, 4, 5]]:
        normal = auxiliary - auxiliary @ target / target.norm() * target / target.norm()
        parts.append(normal if auxiliary @ target < 0 else auxiliary)
    merged = GradSurgery().merge(gradients, target=2)
    torch.testing.assert_close(merged, torch.stack(parts).sum(0))


@pytest.mark.parametrize("new", [GradSimilarity, GradSurgery])
@pytest.mark.parametrize("blocks", [None, [(0, 3), (3, 5)]])
@pytest.mark.parametrize("seed", range(10))
def test_no_step_ascends_the_target_s_loss(new: New, blocks: Any, seed: int) -> None:
    gradients = random_matrix(5, 5, seed)
    merged = new().merge(gradients, target=1, blocks=blocks)
    assert float(merged @ gradients[1]) >= float(gradients[1].square().sum()) * (1 - 1e-12)
    agreeing = gradients.abs()
    torch.testing.assert_close(new().merge(agreeing, target=1, blocks=blocks), agreeing.sum(0))


def test_blocks_are_judged_by_themselves() -> None:
    both = torch.cat([PAIR, PAIR.abs()], dim=1)
    for new, expected in ((GradSurgery, (1.6, 1.8, 3.0, 1.5)), (GradSimilarity, (2.0, 1.0, 3.0, 1.5))):
        merged = new().merge(both, target=0, blocks=[(0, 2), (2, 4)])
        torch.testing.assert_close(merged, torch.tensor(expected))


def test_ol_aux_by_hand() -> None:
    # Inner products with the target: of 1: 2, -6, 4, …; of 2: -1 at every step.
    steps = [
        torch.tensor([[1.0, 0.0], [first, 1.0], [-1.0, 2.0]]).double() for first in (2.0, -6.0, 4.0, 1.0, 0.0)
    ]
    weights = [(1.0, 1.0), (1.0, 1.0), (-1.0, 0.0), (-1.0, 0.0), (1.5, -1.0)]
    # 1 + ½ (2 - 6) = -1 and 1 + ½ (-1 - 1) = 0; then -1 + ½ (4 + 1) = 1.5 and 0 - 1 = -1
    balancer, twin = OLAux(0.5, period=2), OLAux(0.5, period=2)
    for gradients, (one, two) in zip(steps, weights, strict=True):
        assert twin.weights(gradients @ gradients.T, target=0).tolist() == [1.0, one, two]
        expected = gradients[0] + one * gradients[1] + two * gradients[2]
        torch.testing.assert_close(balancer.merge(gradients, target=0), expected)


def test_ol_aux_weighs_every_block_by_itself() -> None:
    gradients = torch.tensor([[1.0, 2.0, 0.0], [3.0, -1.0, 5.0]]).double()  # 3 in the first, -2 in the other
    balancer = OLAux(1.0, period=1)
    for expected in ([4.0, 1.0, 5.0], [1 + 4 * 3, 2 + 1, -5.0], [1 + 7 * 3, 2 + 3, -15.0]):
        merged = balancer.merge(gradients, target=0, blocks=[(0, 1), (1, 3)])
        torch.testing.assert_close(merged, torch.tensor(expected).double())


def test_ol_aux_sums_over_the_steps_that_have_target_and_task() -> None:
    gradients = {"t": 1.0, "a": 2.0, "b": 3.0}  # of one coordinate
    balancer = OLAux(1.0, period=3)

    def weights(names: str) -> list[float]:
        row = np.array([gradients[name] for name in names])
        tasks = Tasks(tuple(names), names.index("t") if "t" in names else None)
        return balancer.weigh(np.outer(row, row)[None], tasks)[0].tolist()

    assert weights("tab") == [1.0, 1.0, 1.0]
    assert weights("ab") == [1.0, 1.0]  # does not count
    assert weights("at") == [1.0, 1.0]
    assert weights("bt") == [1.0, 1.0]
    assert weights("tab") == [1.0, 1.0 + 2 + 2, 1.0 + 3 + 3]


def test_ol_aux_s_weights_are_not_scale_free() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.3, 1.0]]).double()
    plain, tenfold = OLAux(period=1), OLAux(period=1)
    for step in range(2):
        one, ten = plain.merge(gradients, target=0), tenfold.merge(10 * gradients, target=0)
        assert torch.allclose(10 * one, ten) == (step == 0)


BY_HAND = {  # weights of the auxiliary in the two blocks, at the two steps
    "A": [(0.75, 1.0), (0.9, 1.0)],
    "B": [(1.0, 2.0), (1.0, 1.0)],
    "C": [(0.75, 2.0), (0.9, 1.0)],
}


@pytest.mark.parametrize("strategy", ["A", "B", "C"])
def test_metabalance_by_hand(strategy: Any) -> None:
    # Averages with β = ½: first 2 and 4 in one block, 3 and 1 in the other: ratios ½ and 3, half relaxed.
    # Then 2 and 2.5 (though 2 > 1 now), and 2 and 2 (though 1 < 3 now): ratios 0.8 and 1.
    steps = [
        torch.tensor([[4.0, 6.0, 0.0], [-8.0, 0.0, 2.0]]).double(),
        torch.tensor([[2.0, 0.0, 1.0], [1.0, 3.0, 0.0]]).double(),
    ]
    balancer = MetaBalance(strategy, relax=0.5, beta=0.5)
    for (target, auxiliary), (one, other) in zip(steps, BY_HAND[strategy], strict=True):
        merged = balancer.merge(torch.stack([auxiliary, target]), target=1, blocks=[(0, 1), (1, 3)])
        factors = torch.tensor([one, other, other], dtype=torch.float64)
        torch.testing.assert_close(merged, target + factors * auxiliary, rtol=1e-14, atol=0.0)
    assert {task: kept.tolist() for task, kept in balancer.averages.items()} == {
        "0": [2.5, 2.0],
        "1": [2.0, 2.0],
    }


@pytest.mark.parametrize("strategy", ["A", "B", "C"])
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_metabalance_is_algorithm_2(strategy: Any, tasks: int) -> None:
    relax, beta, t, spans = 0.3, 0.8, tasks // 2, [(0, 2), (2, 3), (3, 7)]
    balancer = MetaBalance(strategy, relax, beta)
    means = np.zeros((tasks, len(spans)))
    for step in range(12):
        gradients = random_matrix(tasks, 7, seed=step) * torch.logspace(-1, 1, tasks)[:, None]
        total = gradients.clone()
        for block, (start, stop) in enumerate(spans):
            for i in range(tasks):
                norm = float(gradients[i, start:stop].norm())
                means[i, block] = beta * means[i, block] + (1 - beta) * norm
            for i in set(range(tasks)) - {t}:
                larger, smaller = means[i, block] > means[t, block], means[i, block] < means[t, block]
                if {"A": larger, "B": smaller, "C": larger or smaller}[strategy]:
                    scaled = gradients[i, start:stop] * means[t, block] / means[i, block]
                    total[i, start:stop] = scaled * relax + gradients[i, start:stop] * (1 - relax)
        merged = balancer.merge(gradients, target=t, blocks=spans)
        torch.testing.assert_close(merged, total.sum(0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("strategy", ["A", "B", "C"])
def test_metabalance_unrelaxed_is_the_sum_and_without_average_has_equal_norms(strategy: Any) -> None:
    gradients = random_matrix(4, 6) * torch.tensor([[1.0], [0.1], [5.0], [1.0]])
    balancer = MetaBalance(strategy, relax=0.0)
    for _ in range(3):
        weights = balancer.weights(gradients @ gradients.T, target=0)
        assert weights.tolist() == [1.0] * 4
    norms = gradients.norm(dim=1)
    full = MetaBalance(strategy, relax=1.0, beta=0.0)
    full.merge(random_matrix(4, 6, seed=9), target=0)  # forgotten at once
    scaled = full.weights(gradients @ gradients.T, target=0) * norms
    bound = {"A": norms.clamp(max=norms[0]), "B": norms.clamp(min=norms[0]), "C": norms[0].expand(4)}
    torch.testing.assert_close(scaled, bound[strategy])


@pytest.mark.parametrize(("strategy", "alone"), [("A", 0.3), ("B", 1.0), ("C", 0.3)])
def test_metabalance_where_a_gradient_is_zero(strategy: Any, alone: float) -> None:
    # Blocks that the target, the auxiliary and neither reach.
    gradients = torch.tensor([[0.0, 3.0, 0.0], [2.0, 0.0, 0.0]]).double()
    merged = MetaBalance(strategy).merge(gradients, target=0, blocks=[(0, 1), (1, 2), (2, 3)])
    torch.testing.assert_close(merged, torch.tensor([alone * 2.0, 3.0, 0.0]).double())


def test_an_average_that_has_decayed_to_nothing_is_no_divisor() -> None:
    balancer = MetaBalance()
    smallest = np.array([5e-324])
    balancer.load_state_dict({"averages": {"0": np.array([1.0]), "1": smallest}})
    gradients = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert balancer.weights(gradients @ gradients.T, target=0).tolist() == [1.0, 1.0]
    assert balancer.merge(gradients, target=0).tolist() == [3.0, 4.0]


def test_metabalance_keeps_the_averages_of_absent_tasks() -> None:
    balancer = MetaBalance(beta=0.5)
    for words, present in zip(batches(4), ["abc", "bc", "ac", "abc"], strict=True):
        model = Ladder(3)
        before = balancer.state_dict()["averages"]
        losses = {task: loss for task, loss in model.losses(words).items() if task in present}
        report = balancer.backward(losses, shared=model.shared(), target="b")
        after = balancer.averages
        moved = {task for task in after if not np.array_equal(after[task], before.get(task))}
        assert moved == (set(present) if "b" in present else set())
        if "b" not in present:
            assert (report.weights == 1).all()


@pytest.mark.parametrize("new", [lambda: OLAux(period=1), MetaBalance])
def test_a_state_of_other_blocks_is_refused(new: New) -> None:
    balancer = new()
    balancer.merge(PAIR, target=0, blocks=[(0, 1), (1, 2)])
    with pytest.raises(ValueError, match="of 2 blocks of parameters, this step has 1"):
        balancer.merge(PAIR, target=0)


@streamed
@pytest.mark.parametrize("sparse", [False, True])
def test_streamed_is_the_full_path_step_after_step(new: New, sparse: bool) -> None:
    model, twin, plain = Ladder(5, sparse=sparse), Ladder(5), Ladder(5)
    first, second, third = new(), new(), new()
    for words in batches(7):
        one = model.step(first, words)
        other = twin.step(second, words, diagnose=True)
        expected = plain.merge(third, words)
        torch.testing.assert_close(model.merged(), expected)
        torch.testing.assert_close(twin.merged(), expected)
        torch.testing.assert_close(one.weights, other.weights)
        torch.testing.assert_close(one.norms, other.norms)
        t = one.tasks.index(TARGET)
        torch.testing.assert_close(one.cosines[t], other.cosines[t])
        known = torch.eye(5, dtype=torch.bool)
        known[t] = known[:, t] = True
        assert torch.equal(~one.cosines.isnan(), known)
        assert one.finite


@streamed
def test_state_continues_exactly(new: New) -> None:
    model = Ladder(5)
    first, second = new(), new()
    words = list(batches(13))
    for each in words[:3]:
        model.step(first, each)
    second.load_state_dict(first.state_dict())
    for each in words[3:]:
        model.step(first, each)
        merged = model.merged()
        model.step(second, each)
        assert torch.equal(model.merged(), merged)


@streamed
def test_a_step_that_is_not_finite_leaves_no_trace_when_streamed(new: New) -> None:
    model = Ladder(5)
    tried, untried = new(), new()
    for index, words in enumerate(batches(6)):
        for broken in (TARGET, "d") if index == 3 else ():
            losses = model.losses(words)
            losses[broken].register_hook(lambda gradient: gradient * torch.inf)
            model.zero_grad()
            assert not tried.backward(losses, shared=model.shared(), target=TARGET).finite
        model.step(tried, words)
        merged = model.merged()
        model.step(untried, words)
        assert torch.equal(model.merged(), merged)


@scale_free
@pytest.mark.parametrize("size", [1e-20, 1e-6, 1e6, 1e18])
def test_scales_with_the_gradients(new: New, size: float) -> None:
    plain, scaled = new(), new()
    for seed in range(3):
        gradients = random_matrix(5, 6, seed).float()
        one = plain.merge(gradients, target=1, blocks=[(0, 2), (2, 6)])
        other = scaled.merge(gradients * size, target=1, blocks=[(0, 2), (2, 6)])
        torch.testing.assert_close(other / size, one, rtol=1e-4, atol=1e-5)


@streamed
def test_the_order_of_auxiliaries_does_not_matter(new: New) -> None:
    plain, mixed = new(), new()
    order = [3, 1, 4, 0, 2]
    for seed in range(6):
        gradients = random_matrix(5, 6, seed)
        one = plain.merge(gradients, target=1, tasks="abcde")
        other = mixed.merge(gradients[order], target=1, tasks=[*"dbeac"])
        torch.testing.assert_close(one, other)


@streamed
@pytest.mark.parametrize(
    "gradients",
    [
        torch.zeros(3, 2),
        torch.tensor([[0.0, 0.0], [1.0, 2.0], [-1.0, 3.0]]),
        torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]),
        torch.tensor([[1.0, 2.0], [-1.0, -2.0], [-1.0, -2.0]]),
        torch.tensor([[1.0, 2.0]]),
        torch.full((16, 3), -1.0),
    ],
    ids=["all zero", "zero target", "zero auxiliary", "opposite", "alone", "sixteen"],
)
def test_degenerate_gradients_are_defined(new: New, gradients: Tensor) -> None:
    balancer = new()
    for _ in range(7):
        merged = balancer.merge(gradients, target=0)
        assert merged.isfinite().all()
    if len(gradients) == 1:
        assert torch.equal(merged, gradients[0])


@streamed
def test_without_the_target_gradients_are_added(new: New) -> None:
    model = Ladder(5)
    balancer = new()
    assert isinstance(balancer, TargetFirst)
    for words in batches(2):
        model.zero_grad()
        losses = model.losses(words)
        report = balancer.backward({**losses, TARGET: None}, shared=model.shared(), target=TARGET)
        assert (report.weights == 1).all()
        others = [index for index, task in enumerate(losses) if task != TARGET]
        expected = model.matrix(words)[others].sum(0)
        torch.testing.assert_close(model.merged(), expected)
        assert balancer.state_dict() == new().state_dict()


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        (MetaBalance, {"strategy": "D"}, "'A', 'B', 'C'"),
        (MetaBalance, {"relax": 1.1}, "between 0 and 1"),
        (MetaBalance, {"relax": float("nan")}, "between 0 and 1"),
        (MetaBalance, {"beta": 1.0}, "below 1"),
        (MetaBalance, {"beta": -0.1}, "below 1"),
        (MetaBalance, {"passes": "representation"}, "needs granularity='whole'"),
        (MetaBalance, {"every": 2}, "needs granularity='whole'"),
        (OLAux, {"beta": 0.0}, "positive"),
        (OLAux, {"period": 0}, "period must be a whole number from 1"),
        (OLAux, {"granularity": "layer"}, "'whole', 'tensor'"),
        (OLAux, {"granularity": "tensor", "passes": "representation"}, "granularity='whole'"),
        (GradSurgery, {"granularity": "layer"}, "'whole', 'tensor'"),
    ],
)
def test_wrong_options_name_the_remedy(method: type[Balancer], options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        method(**options)


def test_a_target_is_needed() -> None:
    for new in STREAMED:
        with pytest.raises(ValueError, match="target="):
            new().merge(PAIR)


def test_options_are_told() -> None:
    assert repr(MetaBalance(relax=0.9)) == "MetaBalance(strategy='C', relax=0.9, beta=0.9)"
    assert repr(OLAux(1.0, period=10)) == "OLAux(beta=1.0, period=10)"
    assert repr(GradSimilarity()) == "GradSimilarity(weighted=False)"
