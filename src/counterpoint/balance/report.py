"""What one balanced backward pass did."""

from dataclasses import dataclass
from itertools import combinations
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Report:
    """The diagnostics of one step, as CPU tensors; free, since the Gramian is there already.

    A *row* is one gradient of the shared parameters as it was taken: of one task, or of several merged into
    one backward pass (`"category+entities"`). Norms, cosines, conflicts and effects are over all shared
    parameters.

    Attributes:
        tasks: the tasks of this batch.
        rows: the gradients taken.
        losses: the loss of every task.
        norms: the Euclidean norm of every row.
        cosines: the cosine of every pair of rows; 0 where either is zero or not finite, 1 on the diagonal.
        conflicts: whether the cosine of a pair is negative.
        weights: the factor of every task's gradient in the merged one; with a granularity, per block.
        effects: the inner product of the merged gradient with every row: negative means it ascends that loss.
        finite: whether losses and gradients are; if not, they were added up plainly and no state has changed.
    """

    tasks: tuple[str, ...]
    rows: tuple[str, ...]
    losses: Float[Tensor, " tasks"]
    norms: Float[Tensor, " rows"]
    cosines: Float[Tensor, "rows rows"]
    conflicts: Bool[Tensor, "rows rows"]
    weights: Float[Tensor, " tasks"] | Float[Tensor, "blocks tasks"]
    effects: Float[Tensor, " rows"]
    finite: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the report by names, ready for JSON: a value that is not finite becomes `None`.

        `conflict_rate` is the share of conflicting pairs of rows, 0 when there is no pair.
        """
        pairs = list(combinations(range(len(self.rows)), 2))
        conflicting = sum(bool(self.conflicts[i, j]) for i, j in pairs)
        return {
            "losses": _named(self.tasks, self.losses),
            "norms": _named(self.rows, self.norms),
            "cosines": {f"{self.rows[i]}|{self.rows[j]}": float(self.cosines[i, j]) for i, j in pairs},
            "weights": _named(self.tasks, self.weights.movedim(-1, 0)),
            "effects": _named(self.rows, self.effects),
            "conflict_rate": conflicting / len(pairs) if pairs else 0.0,
            "finite": self.finite,
        }


def cosines(gramian: Float[np.ndarray, "rows rows"]) -> Float[np.ndarray, "rows rows"]:
    """Return M_ij / (n_i n_j): 0 where a norm n = √M_ii is zero or not finite, and 1 on the diagonal."""
    squares = np.diagonal(gramian)
    usable = np.isfinite(squares) & (squares > 0)
    inverse = np.zeros(len(gramian))
    inverse[usable] = 1 / np.sqrt(squares[usable])
    defined = np.outer(usable, usable)
    angles = np.where(defined, gramian, 0.0) * inverse[:, None] * inverse
    np.fill_diagonal(angles, 1.0)
    return np.clip(angles, -1.0, 1.0)


def report(
    tasks: tuple[str, ...],
    rows: tuple[str, ...],
    losses: Float[np.ndarray, " tasks"],
    gramians: Float[np.ndarray, "blocks rows rows"],
    row_weights: Float[np.ndarray, "blocks rows"],
    task_weights: Float[np.ndarray, " tasks"] | Float[np.ndarray, "blocks tasks"],
) -> Report:
    """Assemble the report of a step from its Gramians and the weights given."""
    with np.errstate(all="ignore"):  # a gradient that is not finite is reported, not warned about
        whole = gramians.sum(axis=0)
        norms = np.sqrt(np.diagonal(whole))
        effects = np.einsum("bij,bj->i", gramians, row_weights)
    angles = cosines(whole)
    return Report(
        tasks=tasks,
        rows=rows,
        losses=torch.from_numpy(losses),
        norms=torch.from_numpy(norms),
        cosines=torch.from_numpy(angles),
        conflicts=torch.from_numpy(angles < 0),
        weights=torch.from_numpy(task_weights),
        effects=torch.from_numpy(effects),
        finite=bool(np.isfinite(gramians).all() and np.isfinite(losses).all()),
    )


def _named(names: tuple[str, ...], values: Tensor) -> dict[str, Any]:
    return {name: _json(value) for name, value in zip(names, values.tolist(), strict=True)}


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(each) for each in value]
    return value if isfinite(value) else None
