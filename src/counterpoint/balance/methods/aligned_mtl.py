"""Principal components of the gradients brought to one size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.step import Step

# Eigenvalues below this, times the number of rows and the largest, count as zero: norms may be far apart.
_NEGLIGIBLE = 1e-12


@dataclass(eq=False, repr=False)
class AlignedMTL(BlockBalancer):
    """Gives all principal components of the gradients the same size, so that none dominates.

        g = Σ w_k g_k        w = √σ V Λ^{-1/2} Vᵀ 1,  with M = V Λ Vᵀ the Gramian

    and σ its smallest eigenvalue: Aligned-MTL (Senushkin et al., CVPR 2023), algorithm 1, for the sum of the
    losses. Eigenvalues that are zero do not count, nor those of a 10⁻¹²th of the largest: a task whose
    gradient is shorter than a millionth of the longest is left out (in the authors' code, a thousandth).

    Orthogonal gradients all get the length of the shortest. ⟨g, g_k⟩ may be negative where they are not.
    Costs one backward pass per task. Scales with the gradients.

    Attributes:
        scale_mode: what σ is: "min", as published, or one of two options of the authors' code, the "median"
            of the eigenvalues (the lower of two) or their mean ("rmse").
    """

    name = "aligned_mtl"
    family = "Pareto and fairness"
    source = "Senushkin et al., CVPR 2023, algorithm 1"
    promises = ("scales", "symmetric", "alone")
    length = "K"

    scale_mode: Literal["min", "median", "rmse"] = "min"

    def __post_init__(self) -> None:
        super().__post_init__()
        options.one_of("scale_mode", self.scale_mode, tuple(_SCALES))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights that align the components."""
        values, vectors = spectrum(step.gramian, _NEGLIGIBLE)
        if not len(values):
            return np.ones(len(step.gramian))
        weights: Float[np.ndarray, " rows"] = vectors @ (
            np.sqrt(_SCALES[self.scale_mode](values) / values) * vectors.sum(axis=0)
        )
        return weights


_SCALES: Mapping[str, Callable[[Float[np.ndarray, " values"]], float]] = {
    "min": lambda values: float(values[0]),
    "median": lambda values: float(values[(len(values) - 1) // 2]),
    "rmse": lambda values: float(values.mean()),
}


def spectrum(
    matrix: Float[np.ndarray, "rows rows"], negligible: float
) -> tuple[Float[np.ndarray, " values"], Float[np.ndarray, "rows values"]]:
    """Return the eigenvalues that are not negligible, in ascending order, and their vectors."""
    if not matrix.any():
        return np.zeros(0), np.zeros((len(matrix), 0))
    values, vectors = np.linalg.eigh(matrix)
    kept = values > negligible * len(values) * values[-1]
    return values[kept], vectors[:, kept]
