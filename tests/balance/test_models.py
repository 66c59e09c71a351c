"""What real models do: checkpointing, tied weights, sparse embeddings, half precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint import balance
from counterpoint.balance import Balancer, Equal, Fixed, MTRec, PCGrad, Single

from .conftest import Network

METHODS: list[Callable[[], Balancer]] = [
    Equal,
    Single,
    PCGrad,
    MTRec,
    lambda: Fixed({"a": 1.0, "b": 2.0, "c": 3.0}),
]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: repr(method()))


@every_method
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(
    method: Callable[[], Balancer], reentrant: bool, network: Callable[[int], Network], features: Tensor
) -> None:
    model = network(3)
    method().backward(model.losses(features), shared=model.trunk.parameters(), target="a")
    expected = model.gradients()
    model.zero_grad()
    shared = checkpoint(model.trunk, features.clone().requires_grad_(), use_reentrant=reentrant)
    losses = {
        name: (head(shared) - 1 - 3 * index).square().mean() * (-1) ** index
        for index, (name, head) in enumerate(model.heads.items())
    }
    method().backward(losses, shared=model.trunk.parameters(), target="a")
    torch.testing.assert_close(model.gradients(), expected)


class Words(nn.Module):
    """Task k looks at words of its own beside common ones, so the tasks touch different rows."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(9, 3, sparse=sparse)
        self.heads = nn.ModuleDict({name: nn.Linear(3, 1) for name in "abc"})

    def losses(self) -> dict[str, Tensor]:
        words = {"a": [0, 1, 1], "b": [1, 2, 8], "c": [0, 2, 2]}
        return {
            name: (head(self.table(torch.tensor(words[name]))) - 1).square().mean() * (-1) ** index
            for index, (name, head) in enumerate(self.heads.items())
        }


@every_method
@pytest.mark.parametrize("granularity", ["whole", "tensor"])
def test_sparse_embeddings_merge_like_dense_ones(method: Callable[[], Balancer], granularity: str) -> None:
    sparse, dense = Words(sparse=True), Words(sparse=False)
    for model in (sparse, dense):
        for _ in range(2):
            balancer = method()
            if hasattr(balancer, "granularity"):
                balancer.granularity = granularity
            balancer.backward(model.losses(), shared=model.table.parameters(), target="a")
    assert sparse.table.weight.grad.is_sparse
    torch.testing.assert_close(sparse.table.weight.grad.to_dense(), dense.table.weight.grad)
    torch.testing.assert_close(sparse.heads["b"].weight.grad, dense.heads["b"].weight.grad)
    torch.optim.SparseAdam(sparse.table.parameters()).step()


@pytest.mark.parametrize("held", ["sparse", "dense"])
def test_sparse_and_dense_gradients_of_one_parameter(held: str) -> None:
    def losses(table: Tensor, sparse: bool) -> dict[str, Tensor]:
        words = torch.tensor([1, 1, 3])
        return {
            "a": nn.functional.embedding(words, table, sparse=sparse).square().sum(),
            "b": -(table * torch.arange(12.0).reshape(4, 3)).sum(),
        }

    expected, mixed = (nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3)) for _ in range(2))
    MTRec().backward(losses(expected, False), shared=[expected], target="a")
    start = torch.ones(4, 3)
    mixed.grad = start.to_sparse(1) if held == "sparse" else start
    MTRec().backward(losses(mixed, True), shared=[mixed], target="a")
    assert not mixed.grad.is_sparse
    torch.testing.assert_close(mixed.grad, expected.grad + 1)


@every_method
def test_tied_weights(method: Callable[[], Balancer]) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(5, 3)
    output = nn.Linear(3, 5, bias=False)
    output.weight = table.weight
    words = torch.tensor([0, 3, 4])

    def losses() -> dict[str, Tensor]:
        scores = output(table(words))
        return {
            "a": nn.functional.cross_entropy(scores, words),
            "b": -table(words).sum(),
            "c": scores.square().mean(),
        }

    rows = [
        torch.autograd.grad(loss, table.weight, retain_graph=True)[0].flatten() for loss in losses().values()
    ]
    method().backward(losses(), shared=[*table.parameters(), *output.parameters()], target="a")
    expected = method().merge(torch.stack(rows), target=0, tasks="abc")
    torch.testing.assert_close(table.weight.grad.flatten(), expected)


@every_method
def test_half_precision(
    method: Callable[[], Balancer], network: Callable[[int], Network], features: Tensor
) -> None:
    model = network(3)
    method().backward(model.losses(features), shared=model.trunk.parameters(), target="a")
    exact = model.merged()
    model.zero_grad()
    model.bfloat16()
    method().backward(model.losses(features.bfloat16()), shared=model.trunk.parameters(), target="a")
    assert model.merged().dtype == torch.bfloat16
    assert torch.cosine_similarity(model.merged().double(), exact, dim=0) > 0.995


def test_a_trunk_compiled_without_donated_buffers(
    network: Callable[[int], Network], features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._functorch.config.donated_buffer", False)
    model = network(3)
    expected = PCGrad().merge(model.matrix(features))
    plain = model.trunk
    model.trunk = torch.compile(plain, backend="aot_eager")
    PCGrad().backward(model.losses(features), shared=plain.parameters())
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in plain.parameters()]), expected)


class Sums(nn.Module):
    """Parameters that are added up: backward hands all of them views of one gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.shared = nn.ParameterList([torch.randn(1, 3), torch.randn(3), torch.randn(3, 1)]).double()
        self.heads = nn.ParameterDict({name: torch.randn(3) for name in "abc"}).double()
        self.beside = nn.Parameter(torch.randn(3).double())  # reached by all, but not among the shared

    def losses(self) -> dict[str, Tensor]:
        first, second, third = self.shared
        added = first.view(3) + second + third.view(-1) + self.beside.view(3)
        return {
            name: ((added + head.view(3)) * (index - 1.5)).sin().sum()
            for index, (name, head) in enumerate(self.heads.items())
        }


@pytest.mark.parametrize(
    "method",
    [
        *METHODS,
        lambda: balance.make("metabalance"),
        lambda: balance.make("mgda"),
        lambda: balance.make("gradcraft"),
    ],
    ids=lambda method: repr(method()),
)
@pytest.mark.parametrize("way", ["backward", "accumulate"])
def test_gradients_that_are_views_of_one_tensor(method: Callable[[], Balancer], way: str) -> None:
    model = Sums()
    losses, shared = model.losses(), list(model.shared)
    rows = [torch.autograd.grad(loss, [*shared, model.beside], retain_graph=True) for loss in losses.values()]
    matrix = torch.stack([torch.cat([part.flatten() for part in row[:3]]) for row in rows])
    blocks = [(0, 3), (3, 6), (6, 9)] if getattr(method(), "granularity", "whole") == "tensor" else None
    times = 1 if way == "backward" else 2
    expected = method().merge(times * matrix, target=0, blocks=blocks, tasks=tuple("abc"))
    balancer = method()
    if way == "backward":
        balancer.backward(losses, shared=shared, target="a")
    else:
        for _ in range(times):
            for name in "abc":
                balancer.accumulate({name: model.losses()[name]}, shared=shared)
        balancer.merge(target="a")
    torch.testing.assert_close(torch.cat([each.grad.flatten() for each in shared]), expected)
    torch.testing.assert_close(model.beside.grad, times * sum(row[3] for row in rows))
    memory = [each.grad.untyped_storage().data_ptr() for each in shared]
    assert len(set(memory)) == 3


@every_method
def test_parameters_below_a_reentrant_checkpoint_that_are_not_shared(method: Callable[[], Balancer]) -> None:
    torch.manual_seed(0)
    below, trunk = nn.Linear(3, 4).double(), nn.Linear(4, 4).double()
    words = torch.randn(5, 3).double()
    heads = [nn.Linear(4, 1).double() for _ in "abc"]

    def losses(reentrant: bool) -> dict[str, Tensor]:
        given = below(words)
        outputs = checkpoint(trunk, given, use_reentrant=True) if reentrant else trunk(given)
        return {name: head(outputs).square().mean() for name, head in zip("abc", heads, strict=True)}

    results = []
    modules = nn.ModuleList([below, trunk, *heads])
    for reentrant in (False, True):
        modules.zero_grad()
        method().backward(losses(reentrant), shared=trunk.parameters(), target="a")
        results.append([parameter.grad for parameter in modules.parameters()])
    torch.testing.assert_close(*results)


class LowRank(nn.Module):
    """A frozen layer with a low-rank addition that is learned (LoRA)."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)

    def forward(self, given: Tensor) -> Tensor:
        return self.base(given) + self.up(self.down(given))


@every_method
@pytest.mark.parametrize("found", [False, True])
def test_low_rank_additions_to_a_frozen_base(
    method: Callable[[], Balancer], found: bool, network: Callable[[int], Network], features: Tensor
) -> None:
    model = network(3)
    model.trunk = nn.Sequential(LowRank(nn.Linear(4, 6)), nn.Tanh(), LowRank(nn.Linear(6, 5))).double()
    learned = [each for each in model.trunk.parameters() if each.requires_grad]
    losses = model.losses(features)
    rows = [torch.autograd.grad(loss, learned, retain_graph=True) for loss in losses.values()]
    matrix = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    method().backward(losses, shared=None if found else model.trunk.parameters(), target="a")
    merged = torch.cat([each.grad.flatten() for each in learned])
    torch.testing.assert_close(merged, method().merge(matrix, target=0, tasks=tuple("abc")))
    assert all(each.grad is None for each in model.trunk.parameters() if not each.requires_grad)
