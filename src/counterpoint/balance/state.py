"""A method's state: what a step changes, put back after one that failed, and its form in a checkpoint."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class _Outcome(Protocol):
    @property
    def finite(self) -> bool: ...


Outcome = TypeVar("Outcome", bound=_Outcome)


class Stateful:
    """What changes from step to step, saved and restored exactly.

    Attributes:
        stateful: the attributes that change: plain values, arrays, lists and dictionaries.
    """

    stateful: ClassVar[tuple[str, ...]] = ()

    def state_names(self) -> tuple[str, ...]:
        """Return the attributes that change from step to step."""
        return self.stateful

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that changes from step to step, for a checkpoint; options are not in it.

        It holds plain values and tensors alone, so that `torch.load` takes it back without pickled code.
        """
        return {name: as_tensors(getattr(self, name)) for name in self.state_names()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, so that training continues exactly.

        Raises:
            ValueError: the state is another method's.
        """
        if set(state) != set(self.state_names()):
            raise ValueError(f"{self!r} has the state {sorted(self.state_names())}, not {sorted(state)}.")
        for name, value in state.items():
            setattr(self, name, as_arrays(value) if name in self.stateful else copy.deepcopy(value))

    def _snapshot(self) -> dict[str, Any]:
        """Return a copy of the state that a step changes before it knows that its gradients are finite."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.state_names()}

    def _kept_if_finite(self, step: Callable[[], Outcome]) -> Outcome:
        """Take a step; after one that raised or was not finite, put the state back."""
        before = self._snapshot()
        finite = False
        try:
            outcome = step()
            finite = outcome.finite
        finally:
            if not finite:
                self._restore(before)
        return outcome

    def _restore(self, before: Mapping[str, Any]) -> None:
        for name, value in before.items():
            setattr(self, name, value)


def as_tensors(value: Any) -> Any:
    """Return a copy with tensors for arrays."""
    match value:
        case np.ndarray():
            return torch.from_numpy(value.copy())
        case np.generic():
            return value.item()
        case dict():
            return {key: as_tensors(each) for key, each in value.items()}
        case list():
            return [as_tensors(each) for each in value]
    return copy.deepcopy(value)


def as_arrays(value: Any) -> Any:
    """Return a copy with arrays for tensors."""
    match value:
        case Tensor():
            return value.cpu().numpy().copy()
        case dict():
            return {key: as_arrays(each) for key, each in value.items()}
        case list():
            return [as_arrays(each) for each in value]
    return copy.deepcopy(value)


def kept_of_blocks(
    state: Mapping[str, Float[np.ndarray, " blocks"]],
    task: str,
    start: float,
    like: Float[np.ndarray, " blocks"],
) -> Float[np.ndarray, " blocks"]:
    """Return what is kept of a task, block by block; `start` for a task that is new."""
    kept = state.get(task)
    if kept is None:
        return np.full_like(like, start)
    if kept.shape != like.shape:
        raise ValueError(
            f"The state of {task!r} is of {len(kept)} blocks of parameters, this step has {len(like)};"
            " share the same parameters at every step, or take a new balancer."
        )
    return kept
