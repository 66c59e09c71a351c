"""A method's state, as it is worked with and as it is saved."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor


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
