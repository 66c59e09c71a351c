"""Where promises end: the examples on docs/methods.md as they stand there, and what they are examples of."""

import doctest
import warnings
from itertools import permutations, product
from pathlib import Path

import pytest
import torch
import torchjd.aggregation as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint import balance

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def rows_before(call: str) -> Tensor:
    """The last gradients that the page names before a call."""
    code = [each for each in _examples() if each.source.startswith("g = ") or call in each.source]
    index = next(index for index, each in enumerate(code) if call in each.source)
    before = next(each for each in reversed(code[:index]) if each.source.startswith("g = "))
    names: dict[str, Tensor] = {}
    exec(before.source, {"torch": torch}, names)
    return names["g"].double()


def _examples() -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(PAGE.read_text(encoding="utf-8").replace("```", ""))


def test_the_page_s_examples_give_what_it_says() -> None:
    examples = doctest.DocTest(_examples(), {}, PAGE.name, str(PAGE), 0, None)
    told: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(examples, out=told.append)
    assert results.attempted > 15
    assert not results.failed, "".join(told)


@pytest.mark.parametrize(
    "call", ['make("gradcraft")', 'make("pcgrad")', 'make("aligned_mtl")', 'make("pcd")']
)
def test_the_gradients_are_independent(call: str) -> None:
    # So there are directions that help every task.
    rows = rows_before(call)
    assert torch.linalg.matrix_rank(rows) == len(rows)


def test_pcgrad_hurts_a_task_in_every_order() -> None:
    rows = rows_before('make("pcgrad")')

    def projected(i: int, order: tuple[int, ...]) -> Tensor:
        v = rows[i].clone()
        for j in order:
            v -= min(0.0, float(v @ rows[j])) / rows[j].square().sum() * rows[j]
        return v

    others = [list(permutations({0, 1, 2} - {i})) for i in range(3)]
    possible = [
        torch.stack([projected(i, order) for i, order in enumerate(each)]).sum(dim=0)
        for each in product(*others)
    ]
    assert all((rows @ each < -0.3).any() for each in possible)
    for seed in range(5):
        merged = balance.make("pcgrad", seed=seed).merge(rows)
        assert any(torch.allclose(merged, each) for each in possible)


def test_imtl_with_weights_that_add_up_to_one_would_hurt_every_task() -> None:
    rows = rows_before('make("imtl"')
    norms = rows.norm(dim=1)
    weights = torch.linalg.solve(rows @ rows.T, norms)  # equal projections, but for a factor
    assert weights.sum() < 0
    published = rows @ (weights / weights.sum() @ rows) / norms
    assert (published < 0).all()
    torch.testing.assert_close(published, published[:1].expand(3))
    merged = balance.make("imtl", variant="gradient").merge(rows)
    torch.testing.assert_close(rows @ merged / norms, -published)


@given(seed=st.integers(0, 2**32), tasks=st.integers(1, 6), size=st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", ["config", "nash_mtl", "fairgrad"])
def test_no_task_loses_while_gradients_are_independent(name: str, seed: int, tasks: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = size * torch.randn(tasks, tasks + 2, generator=generator, dtype=torch.float64)
    assert (rows @ balance.make(name).merge(rows) > 0).all()
    if name == "nash_mtl":
        length = float(balance.make(name, max_norm=None).merge(rows).norm())
        assert length == pytest.approx(tasks**0.5)


@pytest.mark.parametrize("name", ["nash_mtl", "fairgrad"])
def test_bargaining_stops_where_no_direction_helps_all(name: str) -> None:
    rows = rows_before('make("config")')
    assert balance.make(name).merge(rows).norm() < 1e-3


def test_what_torchjd_returns() -> None:
    # The numbers that the page gives where it says how published code differs.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its solver
        bargained = oracle.NashMTL(n_tasks=2)(torch.tensor([[2.0, 1.0], [-1.0, 0.5]]))
    torch.testing.assert_close(bargained, torch.tensor([0.55, 0.83]), rtol=0, atol=5e-3)
    ours = balance.make("nash_mtl").merge(torch.tensor([[2.0, 1.0], [-1.0, 0.5]]))
    torch.testing.assert_close(ours, torch.tensor([0.0, 1.0]))

    rows = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    found = oracle.MGDA()(rows) / rows.diagonal()
    torch.testing.assert_close(found, torch.tensor([0.7341, 0.1837, 0.0822]), rtol=0, atol=1e-4)
    weights = balance.make("mgda").weights(rows @ rows.T)
    torch.testing.assert_close(weights, torch.tensor([36.0, 9.0, 4.0]).double() / 49)
