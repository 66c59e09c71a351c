"""Methods that give every task its fair part of the step, whatever the length of its gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks
from counterpoint.balance.batch import Step
from counterpoint.balance.blocks import BlockBalancer
from counterpoint.balance.quadratic import Units, lifted

# The lowest eigenvalue that bargaining takes the cosines to have: bounds what unit rows are multiplied by.
_DEPENDENT = 1e-8

# Eigenvalues below these, times the number of rows and the largest, count as zero. Those of a Gramian are far
# apart if norms are, those of cosines only if rows depend on each other.
_NEGLIGIBLE, _NEGLIGIBLE_OF_COSINES = 1e-12, 1e-9


@dataclass(eq=False, repr=False)
class NashMTL(BlockBalancer):
    """Takes the step that tasks would agree on in bargaining: no other gains them more in proportion.

        g = Σ a_k g_k        M a = 1 / a,  a > 0,  with M the Gramian

    Nash-MTL (Navon et al., ICML 2022), claim 3.1 and algorithm 1, by Newton's method on the convex
    ½ aᵀMa - Σ log a_k, of which this is the minimum. The authors' code linearises another problem, and where
    that fails, as for three gradients in conflict with each other, leaves the weights at 1 unnoticed.

    Does *not* scale with the gradients: a turns smaller as they grow, and ‖g‖ = √K for K tasks, however
    near to an optimum. A `max_norm` below √K then is the norm of every step, the radius of the ball in which
    the paper has the tasks bargain; without it g is what the equation gives. (The code divides M by its
    Frobenius norm first: there g grows with the gradients up to `max_norm`.) With `every`, the weights are
    held as they were clipped.

    While the gradients are independent, ⟨g, g_k⟩ > 0 for every task. If they are not, and no g would do,
    there is no solution; the cosines' matrix is lifted to a lowest eigenvalue of 1e-8 where it has a lower
    one, so opposite gradients cancel. Zero gradients have weight 0 and no say. A task alone gets
    g_1 / ‖g_1‖. Costs one backward pass per task.

    Attributes:
        max_norm: the greatest norm of g; the default is that of the authors' code. `None` is the equation
            itself, which published derivations test against.
    """

    max_norm: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_norm is not None:
            checks.positive("max_norm", self.max_norm)

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights agreed on, clipped."""
        units = Units.of(step.gramian)
        multiples = _fair(lifted(units.cosines, _DEPENDENT), np.ones_like(units.norms), 1.0)
        norm = sqrt(max(0.0, multiples @ units.cosines @ multiples))
        if self.max_norm is not None and norm > self.max_norm:
            multiples *= self.max_norm / norm
        return units.weights(multiples)


@dataclass(eq=False, repr=False)
class FairGrad(BlockBalancer):
    """Takes the step of greatest α-fair utility Σ ⟨g_k, g⟩^{1-α} / (1 - α) of its length.

        g = Σ a_k g_k        M a = a^{-1/α},  a > 0,  with M the Gramian

    FairGrad (Ban & Ji, ICML 2024), eq. 4 and algorithm 1, by Newton's method on the convex problem of which
    this is the minimum. α = 1 is proportional fairness, Nash-MTL without its clipping; α → 0 the sum of
    the gradients, α → ∞ the same gain for all. The authors' code multiplies g by K and clips it to norm 1.

    Does *not* scale with the gradients: gradients c times as long have weights c^{-2α/(α+1)} times as large,
    so that ‖g‖ does not change at α = 1 and falls as they grow at α > 1. While the gradients are independent,
    ⟨g, g_k⟩ > 0 for every task; dependent and zero ones are dealt with as in Nash-MTL. A task alone gets
    ‖g_1‖^{-2α/(α+1)} g_1. Costs one backward pass per task.

    Attributes:
        alpha: α, from 0.05 to 20.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.within("alpha", self.alpha, 0.05, 20)

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the fairest combination."""
        units = Units.of(step.gramian)
        # The multiples x_k = ‖g_k‖ a_k of unit rows solve Cx = s (x / s)^{-1/α}; cosines of 0 make x = s.
        scales = units.norms ** ((1 - self.alpha) / (1 + self.alpha))
        return units.weights(_fair(lifted(units.cosines, _DEPENDENT), scales, self.alpha))


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

    scale_mode: Literal["min", "median", "rmse"] = "min"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("scale_mode", self.scale_mode, tuple(_SCALES))

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights that align the components."""
        values, vectors = _spectrum(step.gramian, _NEGLIGIBLE)
        if not len(values):
            return np.ones(len(step.gramian))
        weights: Float[np.ndarray, " rows"] = vectors @ (
            np.sqrt(_SCALES[self.scale_mode](values) / values) * vectors.sum(axis=0)
        )
        return weights


@dataclass(eq=False, repr=False)
class ConFIG(BlockBalancer):
    """Takes the direction that has the same cosine with every gradient, as far as all of them reach along it.

        d = U⁺1 / ‖U⁺1‖        g = (Σ ⟨g_k, d⟩) d,  with the unit gradients as the rows of U

    ConFIG (Liu et al., ICLR 2025), eq. 2 and 3. Conflict shortens g and agreement lengthens it: equal
    gradients add up, opposite ones give 0.

    While the gradients are independent, ⟨g, g_k⟩ > 0 for every task. If they are not, U⁺1 comes nearest to
    equal cosines, of which some may be negative. Zero gradients count for nothing. Costs one backward pass
    per task. Scales with the gradients.
    """

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the common direction at its length."""
        units = Units.of(step.gramian)
        values, vectors = _spectrum(units.cosines, _NEGLIGIBLE_OF_COSINES)
        of_ones = vectors.sum(axis=0)
        if of_ones @ of_ones <= 1e-14 * len(units.norms):  # U⁺1 = 0 but for rounding
            return np.zeros(len(step.gramian))
        multiples = vectors @ (of_ones / values)
        reached = units.cosines @ multiples
        return units.weights(multiples * (units.norms @ reached) / (multiples @ reached))


_SCALES: Mapping[str, Callable[[Float[np.ndarray, " values"]], float]] = {
    "min": lambda values: float(values[0]),
    "median": lambda values: float(values[(len(values) - 1) // 2]),
    "rmse": lambda values: float(values.mean()),
}


def _spectrum(
    matrix: Float[np.ndarray, "rows rows"], negligible: float
) -> tuple[Float[np.ndarray, " values"], Float[np.ndarray, "rows values"]]:
    """Return the eigenvalues that are not negligible, in ascending order, and their vectors."""
    if not matrix.any():
        return np.zeros(0), np.zeros((len(matrix), 0))
    values, vectors = np.linalg.eigh(matrix)
    kept = values > negligible * len(values) * values[-1]
    return values[kept], vectors[:, kept]


def _fair(
    matrix: Float[np.ndarray, "units units"], scales: Float[np.ndarray, " units"], alpha: float
) -> Float[np.ndarray, " units"]:
    """Return the x > 0 with Ax = s (x / s)^{-1/α}, for a positive definite A and s > 0.

    It is where ½ xᵀAx - Σ s² φ(x / s) with φ' = (·)^{-1/α} is least, a convex function. Newton's method
    with halved steps, from the best multiple of s on. Above α = 1, where φ is too flat at 0 to keep it from
    there, the gains r = Ax are sought instead, for which A⁻¹r = s (r / s)^{-α}.
    """
    if alpha > 1:
        gains = _fair(np.linalg.inv(matrix), scales, 1 / alpha)
        found: Float[np.ndarray, " units"] = scales * (gains / scales) ** -alpha
        return found
    power = 1 - 1 / alpha  # of φ
    total = scales @ scales
    x = scales * (total / (scales @ matrix @ scales)) ** (1 / (1 + 1 / alpha)) if total else scales
    last = np.inf
    for _ in range(200 if total else 0):
        pull = (x / scales) ** (power - 2)  # of the utility, per x
        step = np.linalg.solve(matrix + np.diag(pull / alpha), pull * x - matrix @ x)
        change = step / x
        size = min(1.0, 0.9 / max(-change.min(), 0.9))
        while size > 1e-9 and not _descends(matrix, x, step, size, pull, power):
            size /= 2
        x = x + size * step
        largest = np.abs(change).max()
        if largest < 1e-14 or (last < 1e-5 and largest > 0.1 * last):  # no more than rounding is left
            break
        last = largest
    return x


def _descends(
    matrix: Float[np.ndarray, "units units"],
    x: Float[np.ndarray, " units"],
    step: Float[np.ndarray, " units"],
    size: float,
    pull: Float[np.ndarray, " units"],
    power: float,
) -> bool:
    """Return whether part of a step lowers the function enough, from the difference itself (Armijo)."""
    slope = matrix @ x
    logarithms = np.log1p(size * step / x)
    gain = np.expm1(power * logarithms) / power if power else logarithms
    with np.errstate(over="ignore"):
        difference = size * (slope @ step) + size**2 / 2 * (step @ matrix @ step) - (pull * x * x) @ gain
    return bool(difference <= 1e-4 * size * ((slope - pull * x) @ step))
