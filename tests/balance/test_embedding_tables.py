"""Tables of embeddings: the gradients of whole tables, at the cost of the rows a batch touches."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from counterpoint.balance import Balancer, Equal, MTRec, PCGrad

ROWS = 50
METHODS: list[Callable[[], Balancer]] = [Equal, PCGrad, MTRec, lambda: PCGrad(granularity="tensor")]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: repr(method()))


class Words(nn.Module):
    """Two look-ups in one table for every task, and some words that only one task sees."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(ROWS, 4, dtype=torch.float64, **options)
        self.trunk = nn.Linear(4, 3, dtype=torch.float64)
        self.heads = nn.ModuleDict({name: nn.Linear(3, 1, dtype=torch.float64) for name in "abcd"})

    def look_up(self, words: Tensor) -> Tensor:
        return self.table(words)

    def losses(self) -> dict[str, Tensor]:
        common = self.look_up(torch.tensor([[3, 3], [7, 0]])).mean(dim=1)
        own = {"a": [1, 2], "b": [2, 9], "c": [49, 49], "d": [3, 0]}
        return {
            name: (head(self.trunk(common * self.look_up(torch.tensor(own[name])))) - 1).square().mean()
            * (-1) ** index
            for index, (name, head) in enumerate(self.heads.items())
        }

    def shared(self) -> list[Tensor]:
        return [*self.table.parameters(), *self.trunk.parameters()]

    def expected(self, balancer: Balancer) -> Tensor:
        """The merge of the tables' full gradients."""
        rows = []
        for loss in self.losses().values():
            grads = torch.autograd.grad(loss, self.shared(), retain_graph=True)
            rows.append(torch.cat([grad.to_dense().flatten() for grad in grads]))
        sizes = torch.tensor([0] + [each.numel() for each in self.shared()]).cumsum(0).tolist()
        blocks = list(pairwise(sizes))
        by_tensor = getattr(balancer, "granularity", "whole") == "tensor"
        return balancer.merge(torch.stack(rows), target=0, blocks=blocks if by_tensor else None)

    def merged(self) -> Tensor:
        return torch.cat([each.grad.to_dense().flatten() for each in self.shared()])


class Counts(TorchDispatchMode):
    """Counts the tensors made in the shape of the table, and the table rows that embedding backward fills."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = 0
        self.filled: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.embedding_dense_backward.default:
            self.filled.append(args[2])
        in_place = func._schema.name.endswith("_")
        if isinstance(result, Tensor) and result.shape == (ROWS, 4) and not in_place and not result.is_sparse:
            self.tables += func not in (torch.ops.aten.detach.default, torch.ops.aten.alias.default)
        return result


@every_method
@pytest.mark.parametrize(
    "options",
    [{}, {"padding_idx": 3}, {"padding_idx": 5}, {"sparse": True}, {"scale_grad_by_freq": True}],
    ids=str,
)
def test_the_gradient_is_the_whole_table_s(method: Callable[[], Balancer], options: dict[str, Any]) -> None:
    model = Words(**options)
    expected = model.expected(method())
    model.zero_grad()
    method().backward(model.losses(), shared=model.shared(), target="a")
    torch.testing.assert_close(model.merged(), expected)
    assert model.table.weight.grad.is_sparse == options.get("sparse", False)
    if "padding_idx" in options:
        assert not model.table.weight.grad[options["padding_idx"]].any()


@pytest.mark.parametrize("held", [False, True], ids=["no grad held", "grad held"])
def test_only_one_tensor_of_the_table_s_size_is_made(held: bool) -> None:
    model = Words()
    losses = model.losses()
    if held:
        model.table.weight.grad = torch.zeros(ROWS, 4, dtype=torch.float64)
    with Counts() as counts:
        PCGrad().backward(losses, shared=model.shared())
    assert counts.tables == (0 if held else 1)
    assert counts.filled == [7] * 8  # seven words are touched, in two look-ups for each of four tasks
    with Counts() as plain:
        sum(model.losses().values()).backward()
    assert plain.filled == [ROWS] * 5


def test_a_small_table_is_an_ordinary_parameter() -> None:
    model = Words()
    words = torch.arange(ROWS).repeat(2)
    losses = {name: model.trunk(model.table(words)).sum() * sign for name, sign in (("a", 1), ("b", -2))}
    with Counts() as counts:
        PCGrad().backward(losses, shared=model.shared())
    assert counts.filled == [ROWS] * 2


def test_grad_is_added_to_in_place() -> None:
    model = Words()
    expected = model.expected(MTRec()) + 1
    for parameter in model.shared():
        parameter.grad = torch.ones_like(parameter)
    held = model.table.weight.grad
    MTRec().backward(model.losses(), shared=model.shared(), target="a")
    torch.testing.assert_close(model.merged(), expected)
    assert model.table.weight.grad is held


@every_method
def test_a_table_tied_to_an_output_layer_is_dense(method: Callable[[], Balancer]) -> None:
    class Tied(Words):
        def losses(self) -> dict[str, Tensor]:
            losses = super().losses()
            scores = self.table(torch.tensor([1, 8])) @ self.table.weight.T
            return losses | {"a": losses["a"] + scores.logsumexp(dim=1).mean()}

    model = Tied()
    expected = model.expected(method())
    method().backward(model.losses(), shared=model.shared(), target="a")
    torch.testing.assert_close(model.merged(), expected)


@every_method
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_table_within_a_checkpoint(method: Callable[[], Balancer], reentrant: bool) -> None:
    class Checkpointed(Words):
        def look_up(self, words: Tensor) -> Tensor:
            if not reentrant:
                return checkpoint(self.table, words, use_reentrant=False)
            one = torch.ones((), dtype=torch.float64, requires_grad=True)  # what makes it run backward
            return checkpoint(lambda words, one: self.table(words) * one, words, one, use_reentrant=True)

    model = Checkpointed()
    expected = Words().expected(method())
    method().backward(model.losses(), shared=model.shared(), target="a")
    torch.testing.assert_close(model.merged(), expected)


def test_hooks_of_the_table_still_run() -> None:
    model = Words()
    expected = model.expected(PCGrad())
    seen: list[Tensor] = []
    model.table.weight.register_hook(seen.append)
    PCGrad().backward(model.losses(), shared=model.shared())
    torch.testing.assert_close(model.merged(), expected)
    assert [tuple(each.shape) for each in seen] == [(ROWS, 4)] * 4


def test_a_pass_that_fails_leaves_no_hook_behind() -> None:
    model = Words()
    losses = model.losses()
    expected = torch.autograd.grad(losses["c"], model.table.weight, retain_graph=True)[0]
    losses["b"].register_hook(_fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        PCGrad().backward(losses, shared=model.shared())
    assert model.table.weight.grad is None
    losses["c"].backward()
    torch.testing.assert_close(model.table.weight.grad, expected)


def _fail(gradient: Tensor) -> Tensor:
    raise RuntimeError("on purpose")


def test_half_precision_tables() -> None:
    model, half = Words(), Words().bfloat16()
    expected = model.expected(MTRec())
    MTRec().backward(half.losses(), shared=half.shared(), target="a")
    assert half.table.weight.grad.dtype == torch.bfloat16
    assert torch.cosine_similarity(half.merged().double(), expected, dim=0) > 0.99


@pytest.mark.parametrize("held", ["dense", "sparse"])
def test_a_sparse_gradient_is_added_to_what_is_held(held: str) -> None:
    model = Words(sparse=True)
    expected = model.expected(PCGrad()).clone()
    ones = torch.ones(ROWS, 4, dtype=torch.float64)
    model.table.weight.grad = ones if held == "dense" else ones.to_sparse(1)
    expected[: ones.numel()] += 1
    PCGrad().backward(model.losses(), shared=model.shared())
    torch.testing.assert_close(model.merged(), expected)
    if held == "dense":
        assert model.table.weight.grad is ones


def test_a_sparse_and_a_dense_look_up_give_a_dense_gradient() -> None:
    class Both(Words):
        def look_up(self, words: Tensor) -> Tensor:
            weight = self.table.weight
            return nn.functional.embedding(words, weight, sparse=words.dim() == 1)

    model = Both()
    sum(model.losses().values()).backward()
    assert not model.table.weight.grad.is_sparse
    model.zero_grad()
    expected = model.expected(PCGrad())
    PCGrad().backward(model.losses(), shared=model.shared())
    assert not model.table.weight.grad.is_sparse
    torch.testing.assert_close(model.merged(), expected)


def test_a_checkpointed_look_up_is_computed_anew_once_a_pass() -> None:
    class Counted(Words):
        calls = 0

        def count(self, words: Tensor) -> Tensor:
            self.calls += 1
            return self.table(words)

        def look_up(self, words: Tensor) -> Tensor:
            return checkpoint(self.count, words, use_reentrant=False)

    model, plain = Counted(), Counted()
    sum(plain.losses().values()).backward()
    Equal().backward(model.losses(), shared=model.shared())
    assert model.calls == plain.calls
    torch.testing.assert_close(model.merged(), plain.merged())


@pytest.mark.filterwarnings("error")
def test_words_in_any_memory_layout() -> None:
    class Transposed(Words):
        def look_up(self, words: Tensor) -> Tensor:
            return self.table(words.t().contiguous().t() if words.dim() == 2 else words)

    model = Transposed()
    expected = model.expected(PCGrad())
    PCGrad().backward(model.losses(), shared=model.shared())
    torch.testing.assert_close(model.merged(), expected)


def test_a_table_with_gradients_of_another_precision() -> None:
    model = Words().bfloat16()
    model.table.weight.grad_dtype = torch.float32
    PCGrad().backward(model.losses(), shared=model.shared())
    assert model.table.weight.grad.dtype == torch.float32


class Bags(Words):
    """Words come in bags of their own, some empty, with or without padding."""

    def __init__(self, *, fixed: bool = True, of: torch.dtype = torch.int64, **options: Any) -> None:
        super().__init__()
        self.of = of
        self.table = nn.EmbeddingBag(ROWS, 4, dtype=torch.float64, **options)
        self.factors = torch.linspace(0.5, 2, 5, dtype=torch.float64).requires_grad_(not fixed)

    def look_up(self, words: Tensor) -> Tensor:
        words = torch.cat([words.flatten(), torch.tensor([7, 7, 49])])[:5]
        factors = self.factors if self.table.mode == "sum" else None
        starts = torch.tensor([0, 2, 2, 4])
        bags = self.table(words.to(self.of), starts.to(self.of), per_sample_weights=factors)
        return bags[:2] + bags[2:]

    def losses(self) -> dict[str, Tensor]:
        own = {"a": [1, 2], "b": [2, 9], "c": [49, 49], "d": [3, 0]}
        return {
            name: (head(self.trunk(self.look_up(torch.tensor(own[name])))) - 1).square().mean()
            * (-1) ** index
            for index, (name, head) in enumerate(self.heads.items())
        }


@every_method
@pytest.mark.parametrize(
    "options",
    [
        {"mode": mode, **more}
        for mode in ("sum", "mean", "max")
        for more in ({}, {"padding_idx": 2}, {"sparse": True}, {"of": torch.int32})
        if mode != "max" or "sparse" not in more  # torch has no sparse gradients of maxima
    ],
    ids=str,
)
def test_bags_of_words(method: Callable[[], Balancer], options: dict[str, Any]) -> None:
    model = Bags(**options)
    expected = model.expected(method())
    with Counts() as counts:
        method().backward(model.losses(), shared=model.shared(), target="a")
    torch.testing.assert_close(model.merged(), expected)
    assert model.table.weight.grad.is_sparse == options.get("sparse", False)
    assert counts.tables <= 1 or options["mode"] == "max"


def test_bags_with_learned_weights() -> None:
    model = Bags(mode="sum", fixed=False)
    expected = model.expected(PCGrad())
    of_factors = torch.autograd.grad(sum(model.losses().values()), model.factors)[0]
    PCGrad().backward(model.losses(), shared=model.shared())
    torch.testing.assert_close(model.merged(), expected)
    torch.testing.assert_close(model.factors.grad, of_factors)
