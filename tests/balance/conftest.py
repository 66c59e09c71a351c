from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from counterpoint.balance import Balancer


class Network(nn.Module):
    """A trunk with a head per task; counts the backward passes through the trunk."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
        self.heads = nn.ModuleDict({name: nn.Linear(5, 1) for name in "abcdef"[:tasks]})
        self.passes = 0

    def losses(self, features: Tensor) -> dict[str, Tensor]:
        shared = self.trunk(features)
        shared.register_hook(self._count)
        return {
            name: (head(shared) - 1 - 3 * index).square().mean() * (-1) ** index
            for index, (name, head) in enumerate(self.heads.items())
        }

    def _count(self, gradient: Tensor) -> None:
        self.passes += 1

    def gradients(self) -> dict[str, Tensor]:
        return {name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None}

    def plain(self, features: Tensor) -> dict[str, dict[str, Tensor]]:
        """Every task's plain gradients of the parameters it reaches, by name."""
        plain = {}
        for task in self.heads:
            self.zero_grad()
            self.losses(features)[task].backward()
            plain[task] = self.gradients()
        self.zero_grad()
        self.passes = 0
        return plain

    def matrix(self, features: Tensor) -> Tensor:
        """The tasks' gradients of the trunk, a row each."""
        of_tasks = self.plain(features).values()
        trunk = [name for name, _ in self.named_parameters() if name.startswith("trunk")]
        return torch.stack([torch.cat([grads[name].flatten() for name in trunk]) for grads in of_tasks])

    def merged(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.trunk.parameters()])


@pytest.fixture
def network() -> Callable[[int], Network]:
    def build(tasks: int) -> Network:
        torch.manual_seed(30 + tasks)
        return Network(tasks).double()

    return build


@pytest.fixture
def features() -> Tensor:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(3)).double()


@pytest.fixture
def methods() -> Callable[[], Iterator[Balancer]]:
    """Every method with every option that changes what it does, for tasks "a" to "f", new at each call."""
    from counterpoint.balance import Equal, Fixed, MTRec, PCGrad, Single

    def new() -> Iterator[Balancer]:
        yield from (Equal(), Equal("mean"), Single(), PCGrad(), PCGrad("mean", seed=5))
        yield from (
            Fixed(dict.fromkeys("abcdef", 2.0)),
            Fixed({"a": 1, "b": -0.5, "c": 2, "d": 0, "e": 3, "f": 1}),
        )
        yield from (MTRec(), MTRec(0.7, "main"), MTRec(2.0, "aux"))

    return new
