"""Two processes with half a batch each end with the gradients of one process with all of it."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from counterpoint.balance import Balancer, Equal, MTRec, PCGrad


class Ranked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(6, 4, sparse=True)
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        self.heads = nn.ModuleDict({name: nn.Linear(3, 1) for name in "abc"})

    def losses(self, words: Tensor) -> dict[str, Tensor]:
        shared = self.trunk(self.table(words))
        return {
            name: (head(shared) - 1 - 3 * index).square().mean() * (-1) ** index
            for index, (name, head) in enumerate(self.heads.items())
        }

    def shared(self) -> list[Tensor]:
        return [*self.table.parameters(), *self.trunk.parameters()]

    def gradients(self) -> dict[str, Tensor]:
        return {name: p.grad.to_dense() for name, p in self.named_parameters()}


WORDS = torch.tensor([0, 1, 4, 1, 2, 5])


def balancers() -> list[Balancer]:
    return [Equal(), Equal("mean"), MTRec(), PCGrad(), PCGrad(granularity="tensor")]


def steps(words: Tensor) -> list[dict[str, Tensor]]:
    """Two accumulated steps of every method."""
    results = []
    for balancer in balancers():
        model = Ranked()
        for _ in range(2):
            report = balancer.backward(model.losses(words), shared=model.shared(), target="a")
        assert model.table.weight.grad.is_sparse
        results.append({**model.gradients(), "losses": report.losses, "weights": report.weights})
    return results


def work(rank: int, port: int, folder: Path) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    torch.set_num_threads(1)
    torch.save(steps(WORDS[3 * rank : 3 * rank + 3]), folder / f"{rank}.pt")
    model = Ranked()
    losses = model.losses(WORDS)
    with pytest.raises(ValueError, match=r"same tasks.*rank 0: \['a', 'b', 'c'\]; rank 1: \['a', 'b'\]"):
        Equal().backward(losses if rank == 0 else {"a": losses["a"], "b": losses["b"]}, shared=model.shared())
    with pytest.raises(ValueError, match="same parameters"):
        Equal().backward(losses, shared=model.shared()[: 2 + rank])
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_are_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, args=(port, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for one, other, alone in zip(first, second, steps(WORDS), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in alone)
        torch.testing.assert_close(one, alone, rtol=1e-5, atol=1e-6)
