"""Magnitudes first, then directions: a chain is its second method on the gradients that the first scaled."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from counterpoint.balance import (
    Balancer,
    Equal,
    Fixed,
    GradSimilarity,
    GradSurgery,
    MetaBalance,
    MTRec,
    OLAux,
    PCGrad,
    Single,
    Tasks,
    chain,
)
from counterpoint.training.checkpoint import load_checkpoint, save_checkpoint
from methods import TARGET, Ladder, batches

New = Callable[[], Balancer]
SPANS = [(0, 2), (2, 3), (3, 7)]
# Balanced with relax ½: the auxiliary's norm is 8 to 4 in one block and 2 to 6 in the other: ¾ and 2.
TWO = torch.tensor([[4.0, 6.0, 0.0], [-8.0, 0.0, 2.0]]).double()
TWO_SPANS = [(0, 1), (1, 3)]

STREAMED: list[New] = [
    lambda: chain(MetaBalance(), GradSimilarity()),
    lambda: chain(MetaBalance("A", 0.9), GradSurgery()),
    lambda: chain(MetaBalance(), GradSurgery(granularity="tensor")),
    lambda: chain(MetaBalance(granularity="whole"), GradSurgery(granularity="tensor")),
    lambda: chain(MetaBalance(granularity="whole"), GradSimilarity(weighted=True)),
    lambda: chain(MetaBalance(beta=0.5), OLAux(0.05, period=2)),
    lambda: chain(OLAux(0.05, period=2), MetaBalance()),
    lambda: chain(MetaBalance(), chain(GradSimilarity(weighted=True), GradSurgery())),
]
WHOLE: list[New] = [
    lambda: chain(MetaBalance(), PCGrad(seed=3)),
    lambda: chain(MetaBalance(), MTRec()),
    lambda: chain(Fixed(dict(zip("abcde", (1.0, 0.5, -2.0, 0.0, 3.0), strict=True))), GradSurgery()),
    lambda: chain(ByLoss(), PCGrad(granularity="tensor")),
]
streamed = pytest.mark.parametrize("new", STREAMED, ids=lambda new: repr(new()))
every_chain = pytest.mark.parametrize("new", STREAMED + WHOLE, ids=lambda new: repr(new()))


@dataclass(eq=False, repr=False)
class ByLoss(Balancer):
    """Weighs tasks by how much their losses have been, all steps together."""

    totals: dict[str, float] = field(default_factory=dict, init=False)
    stateful: ClassVar[tuple[str, ...]] = ("totals",)
    needs_losses: ClassVar[bool] = True

    def rows(self, tasks: Tasks) -> np.ndarray:
        for task, loss in zip(tasks.names, tasks.values.tolist(), strict=True):
            self.totals[task] = self.totals.get(task, 0.0) + loss
        return np.array([[self.totals[task] for task in tasks.names]])


def random_matrix(tasks: int, coordinates: int, seed: int = 0) -> Tensor:
    return torch.randn(tasks, coordinates, generator=torch.Generator().manual_seed(seed)).double()


def test_one_by_hand_in_fractions() -> None:
    # Scaled the auxiliary is (-6 | 0, 4): -24 with the target, whose squares are 16 and 36.
    whole = chain(MetaBalance(relax=0.5), GradSurgery()).merge(TWO, target=0, blocks=TWO_SPANS)
    torch.testing.assert_close(whole * 13, torch.tensor([-2.0, 114.0, 52.0]).double())  # t + a + 24/52 t
    blocks = chain(MetaBalance(relax=0.5), GradSurgery(granularity="tensor"))
    by_block = blocks.merge(TWO, target=0, blocks=TWO_SPANS)
    torch.testing.assert_close(by_block, torch.tensor([4.0, 6.0, 4.0]).double())  # t + a + 24/16 t | t + a
    dropped = chain(MetaBalance(relax=0.5), GradSimilarity()).merge(TWO, target=0, blocks=TWO_SPANS)
    torch.testing.assert_close(dropped, TWO[0])
    # norms over all blocks: √52 and √68
    factor = 0.5 * (52 / 68) ** 0.5 + 0.5
    coarse = chain(MetaBalance(relax=0.5, granularity="whole"), GradSurgery(granularity="tensor"))
    first, *rest = coarse.merge(TWO, target=0, blocks=TWO_SPANS).tolist()
    assert first == pytest.approx(4.0)  # -8 is taken away whole
    assert rest == pytest.approx([6.0, 2 * factor])


class InSteps:
    """MetaBalance by its formulas, before a method on plain matrices."""

    def __init__(self, relax: float, beta: float, then: Callable[[Tensor, int], Tensor]) -> None:
        self.relax, self.beta, self.then = relax, beta, then
        self.means: Any = 0.0

    def merge(self, gradients: Tensor, target: int) -> Tensor:
        norms = np.array([[float(row[start:stop].norm()) for start, stop in SPANS] for row in gradients])
        self.means = self.beta * self.means + (1 - self.beta) * norms
        factors = self.relax * self.means[target] / self.means + 1 - self.relax
        widths = [stop - start for start, stop in SPANS]
        return self.then(gradients * torch.from_numpy(np.repeat(factors, widths, axis=1)), target)


def surgery(gradients: Tensor, target: int) -> Tensor:
    main, merged = gradients[target], gradients.sum(0)
    for auxiliary in gradients:
        merged = merged - min(0.0, float(auxiliary @ main)) / (main @ main) * main
    return merged


def similarity(gradients: Tensor, target: int) -> Tensor:
    return gradients[gradients @ gradients[target] >= 0].sum(0)


def mtrec(gradients: Tensor, target: int) -> Tensor:
    main = gradients[target]
    aux = 0.3 * (gradients.sum(0) - main)
    conflict = min(0.0, float(main @ aux))
    return main - conflict / (aux @ aux) * aux + aux - conflict / (main @ main) * main


def pcgrad_of_two(gradients: Tensor, target: int) -> Tensor:
    one, two = gradients
    conflict = min(0.0, float(one @ two))
    return one - conflict / (two @ two) * two + two - conflict / (one @ one) * one


@pytest.mark.parametrize(
    ("second", "then", "tasks"),
    [
        (GradSurgery, surgery, 5),
        (GradSimilarity, similarity, 5),
        (MTRec, mtrec, 5),
        (PCGrad, pcgrad_of_two, 2),
    ],
)
def test_magnitudes_by_tensor_then_directions_over_all(
    second: Callable[[], Balancer], then: Callable[[Tensor, int], Tensor], tasks: int
) -> None:
    balancer, reference = chain(MetaBalance(relax=0.9, beta=0.5), second()), InSteps(0.9, 0.5, then)
    unlike_unscaled = 0
    for seed in range(8):
        gradients = random_matrix(tasks, 7, seed) * torch.logspace(-1, 1, tasks)[:, None]
        expected = reference.merge(gradients, 1)
        merged = balancer.merge(gradients, target=1, blocks=SPANS)
        torch.testing.assert_close(merged, expected)
        unlike_unscaled += not torch.allclose(merged, then(gradients, 1))
    assert unlike_unscaled > 6


@pytest.mark.parametrize("second", [GradSurgery, GradSimilarity, PCGrad, MTRec, MetaBalance])
@pytest.mark.parametrize("blocks", [None, SPANS])  # given blocks are both methods' if neither is the finer
def test_after_fixed_weights_it_is_the_second_method_on_weighted_rows(
    second: Callable[[], Balancer], blocks: Any
) -> None:
    weights = torch.tensor([2.0, 0.5, -1.0, 0.0]).double()
    balancer, alone = chain(Fixed(dict(zip("abcd", weights.tolist(), strict=True))), second()), second()
    plain, twin = chain(Equal(), second()), second()
    for seed in range(3):
        gradients = random_matrix(4, 7, seed)
        merged = balancer.merge(gradients, target=0, blocks=blocks, tasks="abcd")
        expected = alone.merge(weights[:, None] * gradients, target=0, blocks=blocks, tasks="abcd")
        torch.testing.assert_close(merged, expected)
        merged = plain.merge(gradients, target=0, blocks=blocks)
        torch.testing.assert_close(merged, twin.merge(gradients, target=0, blocks=blocks))


def test_losses_reach_the_first_method_once_a_step() -> None:
    gradients = random_matrix(3, 7)
    balancer = chain(ByLoss(), GradSurgery(granularity="tensor"))
    for total in (1.0, 2.0, 3.0):
        losses = torch.tensor([1.0, 2.0, 0.5])
        merged = balancer.merge(gradients, target=0, losses=losses, blocks=SPANS)
        scaled = total * losses.double()[:, None] * gradients
        torch.testing.assert_close(merged, GradSurgery().merge(scaled, target=0, blocks=SPANS))
    with pytest.raises(ValueError, match="losses="):
        balancer.merge(gradients, target=0)
    with pytest.raises(ValueError, match="target="):
        balancer.merge(gradients, losses=losses)
    assert chain(Equal(), PCGrad()).merge(gradients).isfinite().all()  # needs neither


def test_groups_of_parameters() -> None:
    model = Ladder(4)
    table, *dense = model.shared()
    width = table.numel()
    matrix_of, words = model.matrix, next(batches(1))
    for balancer, own in (
        (chain(MetaBalance(granularity=[[table], dense]), GradSurgery()), False),
        (chain(MetaBalance(granularity=[[table]]), GradSurgery(granularity=[[table]])), True),
    ):
        matrix = matrix_of(words)
        spans = [(0, width), (width, matrix.shape[1])]
        t = list(model.heads).index(TARGET)
        factors = torch.ones_like(matrix)
        for start, stop in spans:
            norms = matrix[:, start:stop].norm(dim=1, keepdim=True)
            factors[:, start:stop] = 0.7 * norms[t] / norms + 0.3
        expected = GradSurgery().merge(factors * matrix, target=t, blocks=spans if own else None)
        report = model.step(balancer, words)
        torch.testing.assert_close(model.merged(), expected)
        assert report.weights.shape == (2, 4)


@streamed
@pytest.mark.parametrize("sparse", [False, True])
def test_streamed_is_the_full_path_step_after_step(new: New, sparse: bool) -> None:
    model, twin, plain = Ladder(5, sparse=sparse), Ladder(5), Ladder(5)
    first, second, third = new(), new(), new()
    for words in batches(6):
        one = model.step(first, words)
        other = twin.step(second, words, diagnose=True)
        expected = plain.merge(third, words)
        torch.testing.assert_close(model.merged(), expected)
        torch.testing.assert_close(twin.merged(), expected)
        torch.testing.assert_close(one.weights, other.weights)
        assert int(one.cosines.isnan().sum()) == 4 * 3  # between different auxiliaries
        assert not other.cosines.isnan().any()


@every_chain
def test_backward_is_merge_and_lacking_tasks_are_defined(new: New) -> None:
    model = Ladder(4)
    balancer, twin = new(), new()
    for words in batches(3):
        expected = model.merge(twin, words)
        model.step(balancer, words)
        torch.testing.assert_close(model.merged(), expected)
    for words, present in zip(batches(6), ["acd", "b", "ab", "c", "abd", "abcd"], strict=True):
        model.zero_grad()
        losses = {task: loss for task, loss in model.losses(words).items() if task in present}
        report = balancer.backward(losses, shared=model.shared(), target=TARGET)
        assert report.weights.isfinite().all()
        assert model.merged().isfinite().all()


@every_chain
def test_a_checkpoint_continues_exactly(new: New, tmp_path: Path) -> None:
    model = Ladder(5)
    first, second = new(), new()
    words = list(batches(13))
    for each in words[:3]:
        model.step(first, each)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters())
    save_checkpoint(tmp_path, model, optimizer, first.state_dict(), {"step": 3})
    restored = load_checkpoint(tmp_path, model, optimizer)
    assert restored is not None
    second.load_state_dict(restored[1])
    kept = first.state_dict()
    for each in words[3:]:
        model.step(first, each)
        merged = model.merged()
        model.step(second, each)
        assert torch.equal(model.merged(), merged)
    third = new()
    third.load_state_dict(kept)  # a copy, which the steps since have not touched
    model.step(third, words[3])
    again = new()
    again.load_state_dict(restored[1])
    expected = model.merged()
    model.step(again, words[3])
    assert torch.equal(model.merged(), expected)


@every_chain
@pytest.mark.parametrize("broken", ["loss", "target", "auxiliary"])
def test_a_step_that_is_not_finite_leaves_no_trace(new: New, broken: str) -> None:
    model = Ladder(5)
    tried, untried = new(), new()
    for index, words in enumerate(batches(5)):
        if index == 2:
            losses = model.losses(words)
            if broken == "loss":
                losses["d"] = losses["d"] * torch.inf
            else:
                losses[TARGET if broken == "target" else "d"].register_hook(
                    lambda gradient: gradient * torch.nan
                )
            model.zero_grad()
            assert not tried.backward(losses, shared=model.shared(), target=TARGET).finite
        model.step(tried, words)
        merged = model.merged()
        model.step(untried, words)
        assert torch.equal(model.merged(), merged)


@pytest.mark.parametrize("size", [1e-20, 1e-6, 1e6, 1e18])
def test_scales_with_the_gradients(size: float) -> None:
    for second in (GradSurgery, GradSimilarity, MTRec, PCGrad):
        plain, scaled = chain(MetaBalance(), second()), chain(MetaBalance(), second())
        for seed in range(3):
            gradients = random_matrix(5, 7, seed).float()
            one = plain.merge(gradients, target=1, blocks=SPANS)
            other = scaled.merge(gradients * size, target=1, blocks=SPANS)
            torch.testing.assert_close(other / size, one, rtol=1e-4, atol=1e-5)


def test_told_and_state_by_method() -> None:
    balancer = chain(MetaBalance(relax=0.9), PCGrad())
    told = "chain(MetaBalance(strategy='C', relax=0.9, beta=0.9), PCGrad(reduction='sum', seed=0))"
    assert repr(balancer) == told
    balancer.merge(TWO, target=0)
    assert balancer.state_dict() == {
        "first": {"averages": {"0": pytest.approx([0.1 * 52**0.5]), "1": pytest.approx([0.1 * 68**0.5])}},
        "second": {"draws": 1},
    }
    with pytest.raises(ValueError, match="has the state"):
        PCGrad().load_state_dict(balancer.state_dict())
    with pytest.raises(ValueError, match="has the state"):
        balancer.load_state_dict(PCGrad().state_dict())
    with pytest.raises(ValueError, match="has the state"):
        chain(MetaBalance(), GradSurgery()).load_state_dict(balancer.state_dict())


PARAMETERS = [nn.Parameter(torch.ones(2)) for _ in range(2)]


@pytest.mark.parametrize(
    ("first", "second", "error", "says"),
    [
        (PCGrad(), GradSurgery(), TypeError, "as the second"),
        (GradSurgery(), PCGrad(), TypeError, "as the second"),
        (MTRec(), PCGrad(), TypeError, "as the second"),
        (MetaBalance(), Equal(), TypeError, "cannot be second"),
        (MetaBalance(), Single(), TypeError, "cannot be second"),
        (MetaBalance(), "grad_surgery", TypeError, "of two balancers"),
        (MetaBalance(), PCGrad(granularity=[PARAMETERS]), ValueError, "the same granularity"),
        (
            MetaBalance(granularity=[PARAMETERS]),
            PCGrad(granularity=[PARAMETERS[:1]]),
            ValueError,
            "the same granularity",
        ),
        (MetaBalance(granularity="whole"), PCGrad(every=2), ValueError, "leave out"),
        (MetaBalance(granularity="whole", every=2), PCGrad(), ValueError, "leave out"),
        (Equal(), PCGrad(passes="representation"), ValueError, "leave out"),
    ],
)
def test_wrong_pairs_name_the_remedy(first: Any, second: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        chain(first, second)
