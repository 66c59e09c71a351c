from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from counterpoint.runs.folder import Run
from counterpoint.runs.recipe import Recipe, Training


@dataclass
class Batch:
    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.inputs.to(device), self.targets.to(device))

    def __len__(self) -> int:
        return len(self.inputs)


class Batches:
    """Noise with a linear answer; every batch a function of its place."""

    def __init__(self, number: int = 6) -> None:
        self._number = number

    def __len__(self) -> int:
        return self._number

    def batch(self, epoch: int, number: int, *, rank: int = 0, processes: int = 1) -> Batch:
        generator = torch.Generator().manual_seed(1000 * epoch + number)
        inputs = torch.randn(4, 3, generator=generator)
        noise = torch.randn(4, 3, generator=generator)
        return Batch(inputs[rank::processes], (inputs.cumsum(1) + noise)[rank::processes])


class Toy(nn.Module):
    """A shared layer with dropout and three heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.shared = nn.Linear(3, 8)
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.2)
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in "abc"})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        states = self.drop(self.norm(self.shared(batch.inputs)).tanh())
        return {
            task: (head(states)[:, 0] - batch.targets[:, place]).square().mean()
            for place, (task, head) in enumerate(self.heads.items())
        }

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.shared.parameters()
        yield from self.norm.parameters()


@pytest.fixture
def toy() -> Callable[[], Toy]:
    return Toy


@pytest.fixture
def batches() -> Callable[..., Batches]:
    return Batches


@pytest.fixture
def settings() -> Callable[..., Training]:
    def make(**given: object) -> Training:
        return Training(**{"epochs": 2, "learning_rate": 1e-2, **given})

    return make


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    def make(name: str = "run") -> Run:
        return Run.create(tmp_path / name, Recipe(name=name, workload="toy"), {"path": "", "manifest": {}})

    return make
