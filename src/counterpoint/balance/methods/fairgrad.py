"""The step of greatest α-fair utility."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.quadratic import Units, lifted
from counterpoint.balance.step import Step

# The lowest eigenvalue that bargaining takes the cosines to have: bounds what unit rows are multiplied by.
DEPENDENT = 1e-8


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

    name = "fairgrad"
    family = "Pareto and fairness"
    source = "Ban & Ji, ICML 2024, eq. 4, algorithm 1"
    promises = ("symmetric",)
    length = "sqrt(K) / norm"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        options.within("alpha", self.alpha, 0.05, 20)

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the fairest combination."""
        units = Units.of(step.gramian)
        # The multiples x_k = ‖g_k‖ a_k of unit rows solve Cx = s (x / s)^{-1/α}; cosines of 0 make x = s.
        scales = units.norms ** ((1 - self.alpha) / (1 + self.alpha))
        return units.weights(fair(lifted(units.cosines, DEPENDENT), scales, self.alpha))


def fair(
    matrix: Float[np.ndarray, "units units"], scales: Float[np.ndarray, " units"], alpha: float
) -> Float[np.ndarray, " units"]:
    """Return the x > 0 with Ax = s (x / s)^{-1/α}, for a positive definite A and s > 0.

    It is where ½ xᵀAx - Σ s² φ(x / s) with φ' = (·)^{-1/α} is least, a convex function. Newton's method
    with halved steps, from the best multiple of s on. Above α = 1, where φ is too flat at 0 to keep it from
    there, the gains r = Ax are sought instead, for which A⁻¹r = s (r / s)^{-α}.
    """
    if alpha > 1:
        gains = fair(np.linalg.inv(matrix), scales, 1 / alpha)
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
