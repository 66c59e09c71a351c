"""The shortest convex combination of the gradients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.quadratic import Units, lifted, nonnegative_minimum
from counterpoint.balance.step import Step

Normalization = Literal["none", "l2", "loss", "loss+"]


@dataclass(eq=False, repr=False)
class MGDA(BlockBalancer):
    """Takes the shortest convex combination of the gradients, along which no loss rises.

        g = Σ w_k g_k        w = argmin ‖Σ w_k g_k / c_k‖²  over  w >= 0, Σ w_k = 1

    with c_k = 1: MGDA (Désidéri, C. R. Math. 2012) for networks (Sener & Koltun, NeurIPS 2018), eq. 3. The
    other c_k are options of Sener and Koltun's code, not in the paper; as there, they decide on w, which
    then weighs the gradients as they are (LibMTL weighs the normalised ones). The minimum is exact; that code
    keeps the weights of two tasks within 0.001 and 0.999, others stop a Frank-Wolfe search early.

    Without normalisation ⟨g, g_k⟩ >= ‖g‖² for every task, and g = 0 just where no direction helps all. One
    zero gradient is enough for that: leave out a task that has none. The shorter a gradient, the more it
    weighs. Costs one backward pass per task. Scales with the gradients.

    Attributes:
        normalization: what c_k is: 1 ("none"), ‖g_k‖ ("l2"), |L_k| ("loss") or |L_k| ‖g_k‖ ("loss+").
    """

    name = "mgda"
    family = "Pareto and fairness"
    source = "Désidéri, C. R. Math. 2012; Sener & Koltun, NeurIPS 2018, eq. 3"
    promises = ("scales", "symmetric", "agrees", "alone")
    length = "1"

    normalization: Normalization = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        options.one_of("normalization", self.normalization, tuple(_DIVISORS))
        self.needs_losses = "loss" in self.normalization  # type: ignore[misc]

    def solve(self, step: Step) -> Float[np.ndarray, " rows"]:
        """Return the weights of the shortest combination."""
        units = Units.of(step.gramian)
        if not units.present.all():
            return ~units.present / np.count_nonzero(~units.present)
        # In multiples u of unit rows the constraint reads ⟨u, s⟩ = 1 with the s below, and its minimum is
        # that of ½ uᵀCu - ⟨u, s⟩ but for a factor.
        shares = _DIVISORS[self.normalization](units.norms, step) / units.norms
        if not shares.any():  # every loss is zero
            shares = 1 / units.norms
        shares /= shares.max()
        multiples = nonnegative_minimum(lifted(units.cosines), -shares[None])[0]
        weights: Float[np.ndarray, " rows"] = multiples * shares / (multiples @ shares)
        return weights


_DIVISORS: Mapping[str, Callable[[Float[np.ndarray, " rows"], Step], Float[np.ndarray, " rows"]]] = {
    "none": lambda norms, step: np.ones_like(norms),
    "l2": lambda norms, step: norms,
    "loss": lambda norms, step: np.abs(step.values),
    "loss+": lambda norms, step: np.abs(step.values) * norms,
}
