"""What the loop needs of batches and models; it knows no workload."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn


class Batch(Protocol):
    """What a model computes its losses from."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on ``device``."""
        ...

    def __len__(self) -> int:
        """Examples in the batch."""
        ...


@runtime_checkable
class TaskByTask(Protocol):
    """A batch whose tasks have examples of their own.

    Its parts go through the model one after another, so that only one part's activations are in memory. A
    task that comes in several parts counts as often.
    """

    def parts(self) -> Iterable[Batch]:
        """Return the parts, each of one task or more."""
        ...


Yielded = TypeVar("Yielded", bound=Batch, covariant=True)


class Batches(Protocol[Yielded]):
    """The batches of an epoch; each is a function of its place, so training can go on anywhere."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def batch(self, epoch: int, number: int, *, rank: int = 0, processes: int = 1) -> Yielded:
        """Return a batch, or one process's share of it."""
        ...


class Model(Protocol):
    """What the loop needs of a model beside being a module."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the loss of each task."""
        ...

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the tasks share."""
        ...
