"""Two processes with half a batch each take the steps of one process with all of it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from counterpoint.balance import Equal, PCGrad
from methods import EVERY, MORE, TARGET, Ladder, batches, label, new

FEW, MANY = 3, 30
DEFAULTS = EVERY[: len(EVERY) - len(MORE)]


def train(method: tuple[str, dict[str, Any]], rank: int | None, steps: int) -> Iterator[dict[str, Tensor]]:
    """Train on each batch, or on one rank's half of it, and yield what each step led to."""
    model = Ladder(4, sparse=label(method) == "pcgrad")
    balancer = new(method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for words in batches(steps):
        mine = words if rank is None else words[3 * rank : 3 * rank + 3]
        report = model.step(balancer, mine)
        optimizer.step()
        learned = {name: each.detach().clone() for name, each in model.named_parameters()}
        yield {**learned, "losses": report.losses, "weights": report.weights, "norms": report.norms}


def work(rank: int, port: int, folder: Path) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    torch.set_num_threads(1)
    results = {}
    for method in EVERY:
        steps = list(train(method, rank, MANY if method in DEFAULTS else FEW))
        results[label(method)] = steps[FEW - 1], steps[-1]
    torch.save(results, folder / f"{rank}.pt")
    at_the_representation(rank)
    accumulated(rank)
    refusals(rank)
    heads_in_a_fixed_order(rank)
    other_losses_on_each_rank(rank)
    dist.destroy_process_group()


def at_the_representation(rank: int) -> None:
    """Gramians of halves of a representation add up to that of the whole."""
    words = next(batches(1))

    def step(model: Ladder, words: Tensor) -> Tensor:
        shared = model.trunk(model.table(words))
        losses = {
            name: (head(shared) - (-1) ** index * (1 + index)).square().mean()
            for index, (name, head) in enumerate(model.heads.items())
        }
        balancer = PCGrad(passes="representation")
        return balancer.backward(losses, representation=shared, target=TARGET).weights

    half, whole = Ladder(4), Ladder(4)
    weights = step(half, words[3 * rank : 3 * rank + 3])
    rows = whole.trunk(whole.table(words))
    losses = [
        (head(rows) - (-1) ** index * (1 + index)).square().mean()
        for index, head in enumerate(whole.heads.values())
    ]
    cut = torch.stack([torch.autograd.grad(loss, rows, retain_graph=True)[0].flatten() for loss in losses])
    expected = PCGrad().weights(cut @ cut.T)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(half.merged(), expected @ whole.matrix(words))


def accumulated(rank: int) -> None:
    """Tasks one after the other, each on its own half."""
    words = next(batches(1))
    half, whole = Ladder(4), Ladder(4)
    balancer = PCGrad()
    for task in half.heads:
        losses = half.losses(words[3 * rank : 3 * rank + 3])
        balancer.accumulate({task: losses[task]}, shared=half.shared())
    balancer.merge()
    torch.testing.assert_close(half.merged(), whole.merge(PCGrad(), words))


def refusals(rank: int) -> None:
    """Ranks that do different things are told so instead of waiting for each other."""
    model = Ladder(3)
    losses = model.losses(next(batches(1)))
    told = r"same target and tasks.*differ at number 3 \(rank 0: c; rank 1: nothing\)"
    with pytest.raises(ValueError, match=told):
        Equal().backward(losses if rank == 0 else {"a": losses["a"], "b": losses["b"]}, shared=model.shared())
    with pytest.raises(ValueError, match=r"same target.*\(rank 0: a; rank 1: b\)"):
        Equal().backward(losses, shared=model.shared(), target="ab"[rank])
    with pytest.raises(ValueError, match="same parameters"):
        Equal().backward(losses, shared=model.shared()[: 2 + rank])
    told = r"number 5, of shape .*not the same on every rank.*give shared=… and heads=… in a fixed order"
    with pytest.raises(ValueError, match=told):
        Equal().backward(experts(model, rank), shared=model.shared())
    other = Ladder(3).trunk[0].weight
    torch.manual_seed(rank)
    nn.init.normal_(other)
    told = r"number 0, of shape \(5, 4\), is not the same on every rank: begin"
    with pytest.raises(ValueError, match=told):
        Equal().backward({"a": other.sum(), "b": -other.sum()}, shared=[other])
    if rank == 1:
        losses["c"] = losses["c"].detach()
    with pytest.raises(ValueError, match="same parameters"):
        Equal().backward(losses, shared=model.shared())
    with pytest.raises(ValueError, match="neither in shared nor in heads"):
        Equal().backward(losses, shared=model.shared(), heads=[])


def other_losses_on_each_rank(rank: int) -> None:
    """At the representation, one rank's loss is constant; and one rank looks nothing up in a sparse table."""
    model, words = Ladder(3), next(batches(1))

    def losses(net: Ladder, constant: bool) -> tuple[Tensor, dict[str, Tensor]]:
        shared = net.trunk(net.table(words))
        found = {name: (head(shared) - 1).square().mean() for name, head in net.heads.items()}
        return shared, found | ({"c": found["c"].detach()} if constant else {})

    shared, found = losses(model, constant=rank == 1)
    Equal().backward(found, shared=model.shared(), heads=model.parameters())
    expected = [each.grad.clone() for each in model.parameters()]
    model.zero_grad()
    shared, found = losses(model, constant=rank == 1)
    balancer = PCGrad(passes="representation")
    balancer.backward(found, representation=shared, heads=model.parameters())
    own = list(model.heads.parameters())
    for parameter, gradient in zip(own, expected[-len(own) :], strict=True):
        torch.testing.assert_close(parameter.grad, gradient)

    tables = [nn.Embedding(30, 4, sparse=True), nn.Embedding(30, 4, sparse=True)]
    weights = [each.weight for each in tables]
    for each in weights:
        nn.init.ones_(each)
    looked = tables[rank](words).sum()
    PCGrad().backward({"a": looked, "b": looked * 2}, shared=weights)
    assert [each.grad.layout for each in weights] == [torch.sparse_coo] * 2


def experts(model: Ladder, rank: int) -> dict[str, Tensor]:
    """Losses whose graphs reach the same heads in another order on every rank."""
    shared = model.trunk(model.table(next(batches(1))))
    names = sorted(model.heads, reverse=rank == 1)
    outputs = {name: model.heads[name](shared).square().mean() for name in names}
    return {"a": sum(outputs.values()), "b": sum(outputs.values()) * 2}


def heads_in_a_fixed_order(rank: int) -> None:
    """Ranks may reach different parameters if they know all of them."""
    model, alone = Ladder(3), Ladder(3)
    losses = model.losses(next(batches(1)))
    if rank == 1:
        losses["c"] = losses["c"].detach()
    Equal().backward(losses, shared=model.shared(), heads=model.parameters())
    whole = alone.losses(next(batches(1)))
    (whole["a"] + whole["b"] + whole["c"] / 2).backward()
    for mine, expected in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)
    model.zero_grad()
    alone.zero_grad()
    Equal().backward(experts(model, rank), shared=model.shared(), heads=model.heads.parameters())
    torch.autograd.backward(list(experts(alone, 0).values()))
    for mine, expected in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, args=(port, folder), nprocs=2)
    first, second = (torch.load(folder / f"{rank}.pt") for rank in range(2))
    return first, second


@pytest.mark.slow
@pytest.mark.parametrize("method", EVERY, ids=label)
def test_two_ranks_are_one_process_on_the_joined_batch(
    ranks: tuple[Any, Any], method: tuple[str, dict[str, Any]]
) -> None:
    of_rank, _ = ranks[0][label(method)]
    *_, alone = train(method, None, FEW)
    for name, value in alone.items():
        torch.testing.assert_close(of_rank[name], value, rtol=1e-6, atol=1e-8, msg=f"{label(method)}: {name}")


@pytest.mark.slow
@pytest.mark.parametrize("method", DEFAULTS, ids=label)
def test_ranks_stay_identical_step_after_step(
    ranks: tuple[Any, Any], method: tuple[str, dict[str, Any]]
) -> None:
    one, other = (results[label(method)][-1] for results in ranks)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], each) for name, each in Ladder(4).named_parameters())
