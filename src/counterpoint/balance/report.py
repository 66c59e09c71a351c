"""What one balanced backward pass did."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.balance.step import Tasks


@dataclass(frozen=True, eq=False)
class Report:
    """The diagnostics of one step, as CPU tensors; free, since the Gramian is there already.

    A *row* is one gradient of the shared parameters as it was taken: of one task, or of several merged into
    one backward pass (`"category+entities"`). Norms, cosines, conflicts and effects are over all shared
    parameters. Rows that were merged as they came have met the target's alone: what needs the inner products
    of others is nan then, and no conflict.

    Attributes:
        tasks: the tasks of this batch.
        rows: the gradients taken.
        losses: the loss of every task.
        norms: the Euclidean norm of every row.
        cosines: the cosine of every pair of rows; 0 where either is zero or not finite, 1 on the diagonal.
        conflicts: whether the cosine of a pair is negative.
        weights: the factor of every task's gradient in the merged one; with a granularity, per block.
        effects: the inner product of the merged gradient with every row: negative means it ascends that loss.
        shares: the part of every row in the merged gradient's squared length, ⟨w_k g_k, g⟩ / ‖g‖²: together
            1, negative for a row that the others outweigh; 0 all where the merged gradient is zero, nan for
            a method that decides by coordinate.
        exact_weights: with a representation and `diagnose`, the weights that exact passes would have given.
        parameter_norms: with `diagnose`, the norm of every row in each shared parameter, in the order of
            `shared`; `None` at a representation.
        merged_norms: likewise, of what the merged gradient holds of the row, |w_k| ‖g_k‖; `None` too for a
            method that decides by coordinate.
        finite: whether losses and gradients are; if not, gradients were added up and no state has changed.
    """

    tasks: tuple[str, ...]
    rows: tuple[str, ...]
    losses: Float[Tensor, " tasks"]
    norms: Float[Tensor, " rows"]
    cosines: Float[Tensor, "rows rows"]
    conflicts: Bool[Tensor, "rows rows"]
    weights: Float[Tensor, " tasks"] | Float[Tensor, "blocks tasks"]
    effects: Float[Tensor, " rows"]
    shares: Float[Tensor, " rows"]
    exact_weights: Float[Tensor, " tasks"] | None
    parameter_norms: Float[Tensor, "parameters rows"] | None
    merged_norms: Float[Tensor, "parameters rows"] | None
    finite: bool

    @property
    def distance(self) -> float | None:
        """How far the weights are from the exact ones: ‖w - w*‖ / ‖w*‖; `None` if those are not known."""
        if self.exact_weights is None:
            return None
        return float((self.weights - self.exact_weights).norm() / self.exact_weights.norm())

    def as_dict(self) -> dict[str, Any]:
        """Return the report by names, ready for JSON: a value that is not finite becomes `None`.

        `conflict_rate` is the share of conflicting pairs among those known, `None` when there is none.
        Norms by parameter are not in it, since parameters have no names here.
        """
        pairs = list(combinations(range(len(self.rows)), 2))
        known = [bool(self.conflicts[i, j]) for i, j in pairs if self.cosines[i, j].isfinite()]
        return {
            "losses": _named(self.tasks, self.losses),
            "norms": _named(self.rows, self.norms),
            "cosines": {f"{self.rows[i]}|{self.rows[j]}": _json(float(self.cosines[i, j])) for i, j in pairs},
            "weights": _named(self.tasks, self.weights.movedim(-1, 0)),
            "effects": _named(self.rows, self.effects),
            "shares": _named(self.rows, self.shares),
            "conflict_rate": sum(known) / len(known) if known else None,
            "distance": None if self.distance is None else _json(self.distance),
            "finite": self.finite,
        }


def cosines(gramian: Float[np.ndarray, "*blocks rows rows"]) -> Float[np.ndarray, "*blocks rows rows"]:
    """Return M_ij / (n_i n_j): 0 where a norm n = √M_ii is zero or not finite, and 1 on the diagonal."""
    squares = np.diagonal(gramian, axis1=-2, axis2=-1)
    usable = np.isfinite(squares) & (squares > 0)
    inverse = 1 / np.sqrt(np.where(usable, squares, np.inf))
    defined = usable[..., :, None] & usable[..., None, :]
    angles = np.where(defined, gramian, 0.0) * inverse[..., :, None] * inverse[..., None, :]
    diagonal = np.arange(gramian.shape[-1])
    angles[..., diagonal, diagonal] = 1.0
    return np.clip(angles, -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class InParameters:
    """The rows in every parameter by itself.

    Attributes:
        lengths: their norms.
        blocks: the positions of the parameters of every block.
    """

    lengths: Float[np.ndarray, "parameters rows"]
    blocks: Sequence[Sequence[int]]

    @classmethod
    def of(
        cls,
        products: Float[np.ndarray, "parameters rows rows"],
        blocks: Sequence[Sequence[int]],
        scale: float,
    ) -> "InParameters":
        """Take the norms from the inner products of gradients that were multiplied by `scale`."""
        return cls(np.sqrt(np.diagonal(products, axis1=1, axis2=2)) / scale, blocks)

    def weighed(self, weights: Float[np.ndarray, "blocks rows"]) -> Float[np.ndarray, "parameters rows"]:
        """Return the norms of the rows times their weights, which are given by block."""
        factors = np.zeros_like(self.lengths)
        for block, of_block in zip(self.blocks, weights, strict=True):
            factors[list(block)] = np.abs(of_block)
        with np.errstate(invalid="ignore"):  # 0 · ∞
            return np.asarray(factors * self.lengths)


def report(
    tasks: Tasks,
    taken: Float[np.ndarray, "rows tasks"],
    gramians: Float[np.ndarray, "blocks rows rows"],
    row_weights: Float[np.ndarray, "blocks rows"],
    *,
    by_block: bool = False,
    effects: Float[np.ndarray, " rows"] | None = None,
    exact_weights: Float[np.ndarray, " tasks"] | None = None,
    parameters: InParameters | None = None,
    finite: bool | None = None,
) -> Report:
    """Assemble the report of a step from its Gramians and the weights given."""
    task_weights = row_weights @ taken
    with np.errstate(all="ignore"):  # a gradient that is not finite is reported, not warned about
        whole = gramians.sum(axis=0)
        norms = np.sqrt(np.diagonal(whole))
        parts = np.einsum("bi,bij,bj->i", row_weights, gramians, row_weights)
        shares = parts / parts.sum() if parts.sum() != 0 else np.zeros_like(parts)
        by_coordinate = effects is not None
        if by_coordinate:  # the merged gradient is no weighted sum
            shares = np.full_like(parts, np.nan)
        if effects is None:
            effects = np.einsum("bij,bj->i", gramians, row_weights)
    angles = cosines(whole)
    if finite is None:
        finite = bool(np.isfinite(gramians).all() and np.isfinite(tasks.values).all())
    return Report(
        tasks=tasks.names,
        rows=tasks.mixed(taken).names,
        losses=torch.from_numpy(tasks.values),
        norms=torch.from_numpy(norms),
        cosines=torch.from_numpy(angles),
        conflicts=torch.from_numpy(angles < 0),
        weights=torch.from_numpy(task_weights if by_block else task_weights[0]),
        effects=torch.from_numpy(effects),
        shares=torch.from_numpy(shares),
        exact_weights=None if exact_weights is None else torch.from_numpy(exact_weights),
        parameter_norms=None if parameters is None else torch.from_numpy(parameters.lengths),
        merged_norms=None
        if parameters is None or by_coordinate
        else torch.from_numpy(parameters.weighed(row_weights)),
        finite=finite,
    )


def _named(names: tuple[str, ...], values: Tensor) -> dict[str, Any]:
    return {name: _json(value) for name, value in zip(names, values.tolist(), strict=True)}


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(each) for each in value]
    return value if isfinite(value) else None
