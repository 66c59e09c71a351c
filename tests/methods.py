"""Every method `make` knows, with its defaults and with the options that change what it does."""

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint import balance
from counterpoint.balance import Balancer, Report

TASKS = "abcdef"
TARGET = "b"
NEEDED: dict[str, dict[str, Any]] = {
    "fixed": {"weights": dict(zip(TASKS, (1.0, 0.5, -2.0, 0.0, 3.0, 0.1), strict=True))},
    "chain": {"first": {"method": "metabalance"}, "second": {"method": "grad_surgery"}},
}
MORE: list[tuple[str, dict[str, Any]]] = [
    ("equal", {"reduction": "mean"}),
    ("pcgrad", {"reduction": "mean", "seed": 5}),
    ("pcgrad", {"granularity": "tensor"}),
    ("pcgrad", {"every": 2}),
    ("mtrec", {"scale": 0.7, "project": "main"}),
    ("mtrec", {"scale": 2.0, "project": "aux"}),
    ("imtl", {"variant": "gradient"}),
    ("imtl", {"variant": "loss"}),
    ("gradnorm", {"alpha": 0.0, "granularity": "tensor"}),
    ("dwa", {"window": 2}),
    ("gradvac", {"beta": 0.5, "granularity": "tensor"}),
    ("gradcraft", {"tau": 0.8, "granularity": "tensor"}),
    ("db_mtl", {"beta": 0.0}),
    ("mgda", {"normalization": "loss+"}),
    ("fairgrad", {"alpha": 2.0}),
    ("nash_mtl", {"max_norm": None, "every": 3}),
    ("pcd", {"granularity": "tensor"}),
    ("cagrad", {"c": 0.9}),
    ("upgrad", {"granularity": "tensor"}),
    ("aligned_mtl", {"scale_mode": "rmse"}),
    ("stch", {"warmup": 2}),
    ("metabalance", {"strategy": "A", "granularity": "whole"}),
    ("ol_aux", {"period": 2, "granularity": "tensor"}),
    ("chain", {"first": {"method": "metabalance"}, "second": {"method": "pcgrad"}}),
]
EVERY = [(name, NEEDED.get(name, {})) for name in balance.available()] + MORE


UNIT = '''
"""Every gradient over its own length."""

import numpy as np

from counterpoint.balance import BlockBalancer, Step


class Unit(BlockBalancer):
    """Brings every gradient to the root mean square of their lengths: g = n Σ g_k / ‖g_k‖."""
    {name}
    source = "nowhere yet, made up for the tests"
    promises = ("scales", "symmetric", "alone")
    length = "K"

    def solve(self, step: Step) -> np.ndarray:
        squares = np.diagonal(step.gramian)
        usual = np.sqrt(squares.sum() / max(1, np.count_nonzero(squares)))
        return np.array([usual / square**0.5 if square else 1.0 for square in squares.tolist()])
'''
"""A method of a file's length; `name` is a line to be put in."""


def write_theirs(folder: Path) -> None:
    """Write a package of somebody else's with a method, `theirs.unit:Unit`."""
    package = folder / "theirs"
    package.mkdir()
    package.joinpath("__init__.py").touch()
    package.joinpath("unit.py").write_text(UNIT.format(name=""))


def label(method: tuple[str, dict[str, Any]]) -> str:
    """A readable name for a test."""
    name, options = method
    told = {
        key: value["method"] if isinstance(value, dict) else value
        for key, value in options.items()
        if key != "weights"
    }
    return "-".join([name, *(f"{key}={value}" for key, value in told.items())])


def new(method: tuple[str, dict[str, Any]]) -> Balancer:
    """A fresh balancer."""
    name, options = method
    return balance.make(name, **options)


class Ladder(nn.Module):
    """A table, a trunk and a head per task whose positive losses pull in different directions."""

    def __init__(self, tasks: int = 4, *, sparse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(30, 4, sparse=sparse)
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        self.heads = nn.ModuleDict({name: nn.Linear(3, 1) for name in TASKS[:tasks]})
        self.double()

    def losses(self, words: Tensor) -> dict[str, Tensor]:
        shared = self.trunk(self.table(words))
        return {
            name: (head(shared) - (-1) ** index * (1 + index)).square().mean()
            for index, (name, head) in enumerate(self.heads.items())
        }

    def shared(self) -> list[Tensor]:
        return [*self.table.parameters(), *self.trunk.parameters()]

    def blocks(self) -> list[tuple[int, int]]:
        """Where each shared parameter stands in the flat gradient."""
        return list(pairwise(accumulate((each.numel() for each in self.shared()), initial=0)))

    def matrix(self, words: Tensor) -> Tensor:
        """The tasks' gradients of the shared parameters, a row each."""
        return torch.stack(
            [
                flat(torch.autograd.grad(loss, self.shared(), retain_graph=True))
                for loss in self.losses(words).values()
            ]
        )

    def merged(self) -> Tensor:
        return flat(parameter.grad for parameter in self.shared())

    def step(self, balancer: Balancer, words: Tensor, **options: Any) -> Report:
        self.zero_grad()
        return balancer.backward(self.losses(words), shared=self.shared(), target=TARGET, **options)

    def merge(self, balancer: Balancer, words: Tensor) -> Tensor:
        """What a step should put into `.grad`."""
        losses = torch.stack(list(self.losses(words).values())).detach()
        blocks = self.blocks() if by_tensor(balancer) else None
        names = tuple(self.heads)
        return balancer.merge(
            self.matrix(words), target=names.index(TARGET), losses=losses, blocks=blocks, tasks=names
        )


def flat(gradients: Iterable[Tensor]) -> Tensor:
    """The gradients as one vector."""
    return torch.cat([gradient.to_dense().flatten() for gradient in gradients])


def by_tensor(balancer: Balancer) -> bool:
    """Whether the method looks at every parameter by itself."""
    return getattr(balancer, "granularity", "") == "tensor" or isinstance(balancer, balance.MTAdam)


def batches(number: int, size: int = 6) -> Iterator[Tensor]:
    """Batches of words, the same each time."""
    generator = torch.Generator().manual_seed(8)
    for _ in range(number):
        yield torch.randint(0, 30, (size,), generator=generator)
